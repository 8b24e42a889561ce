/* How much memory the machine has. Pure: no system calls. */
#ifndef UNIKERNEL_MEMORY_H
#define UNIKERNEL_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* In MiB, by the text of /proc/zoneinfo; 0: it does not say. What the kernel and its tables take is counted too, unlike in
 * /proc/meminfo; what the firmware keeps (some hundred KiB) is not, so it is rounded up. `page` is a page's size. */
uint64_t memory_mebibytes(const char *zoneinfo, size_t page);

#endif
