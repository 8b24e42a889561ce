/* Checks for the test programs: they run on the build machine, without a VM. */
#ifndef UNIKERNEL_CHECK_H
#define UNIKERNEL_CHECK_H

#include <stdio.h>

static int failed_checks;

/* Prints what does not hold and goes on. */
#define CHECK(condition) \
    ((condition) ? (void)0 \
                 : (void)(failed_checks++, \
                          fprintf(stderr, "%s:%d: %s: failed: %s\n", __FILE__, __LINE__, __func__, #condition)))

/* The exit status of a test program. */
#define CHECK_RESULT() (failed_checks != 0)

#endif
