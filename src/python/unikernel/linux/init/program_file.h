/* What kind of program a file is, by its first bytes: to explain why the kernel would not start it. Pure: no system
 * calls. */
#ifndef UNIKERNEL_PROGRAM_FILE_H
#define UNIKERNEL_PROGRAM_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PROGRAM_HEAD_SIZE = 4096 };

enum program_kind { PROGRAM_UNKNOWN, PROGRAM_ELF, PROGRAM_SCRIPT };

/* `head` holds the first `size` bytes of the file. Sets *interpreter to the path (in `head`, which is changed to end it
 * with NUL) of the program that the kernel starts for it (ELF: PT_INTERP, script: after #!), or to NULL. */
enum program_kind program_examine(char *head, size_t size, char **interpreter);

/* The address that an ELF file was linked for what is at `offset` of it: what debuggers ask its debugging information for.
 * `head` holds the first `size` bytes of the file. False: it is no ELF file, or has nothing at `offset`. */
bool program_link_address(const char *head, size_t size, uint64_t offset, uint64_t *address);

#endif
