/* What kind of program a file is, by its first bytes: to explain why the kernel would not start it. Pure: no system
 * calls. */
#ifndef UNIKERNEL_PROGRAM_FILE_H
#define UNIKERNEL_PROGRAM_FILE_H

#include <stdbool.h>
#include <stddef.h>

enum { PROGRAM_HEAD_SIZE = 4096 };

enum program_kind { PROGRAM_UNKNOWN, PROGRAM_ELF, PROGRAM_SCRIPT };

/* `head` holds the first `size` bytes of the file. Sets *interpreter to the path (in `head`, which is changed to end it
 * with NUL) of the program that the kernel starts for it (ELF: PT_INTERP, script: after #!), or to NULL. */
enum program_kind program_examine(char *head, size_t size, char **interpreter);

#endif
