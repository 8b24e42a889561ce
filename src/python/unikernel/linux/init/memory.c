/* How much memory the machine has; see memory.h. */
#include "memory.h"

#include <string.h>

#include "text.h"

enum { MEBIBYTE = 1024 * 1024 };

uint64_t memory_mebibytes(const char *zoneinfo, size_t page)
{
    static const char present[] = "\n        present ";
    uint64_t pages = 0;
    for (const char *at = zoneinfo; (at = strstr(at, present)) != NULL;) {
        uint32_t zone = 0;
        at += sizeof present - 1;
        at += strspn(at, " ");
        if (number_read(&at, UINT32_MAX, &zone))
            pages += zone;
    }
    return (pages * page + MEBIBYTE - 1) / MEBIBYTE;
}
