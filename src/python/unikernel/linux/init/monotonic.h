/* The clock for timeouts. */
#ifndef UNIKERNEL_MONOTONIC_H
#define UNIKERNEL_MONOTONIC_H

#include <stdint.h>
#include <time.h>

/* Milliseconds since some moment in the past; never set back. */
int64_t monotonic_now(void);

/* A duration in milliseconds, as system calls want it; 0 if negative. */
struct timespec monotonic_duration(int64_t milliseconds);

#endif
