/* The file systems, directories and links that programs expect, and small files. */
#ifndef UNIKERNEL_FILESYSTEM_H
#define UNIKERNEL_FILESYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

void filesystem_prepare(void);

/* Reads a file from its beginning, up to `size` bytes. The number of bytes, or -1 with errno. */
ssize_t file_read(const char *path, char *bytes, size_t size);

/* Puts a new file in place of whatever is at `path` (a link is replaced, not followed). Reports what goes wrong. */
void file_replace(const char *directory, const char *path, const char *bytes, size_t size);

/* Writes to a file that is there, such as a setting of the kernel's. False: it is not there, or does not take it. */
bool file_set(const char *path, const char *text);

#endif
