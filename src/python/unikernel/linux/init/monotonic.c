/* The clock for timeouts; see monotonic.h. */
#include "monotonic.h"

int64_t monotonic_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

struct timespec monotonic_duration(int64_t milliseconds)
{
    struct timespec duration = {0};
    if (milliseconds > 0) {
        duration.tv_sec = (time_t)(milliseconds / 1000);
        duration.tv_nsec = (long)(milliseconds % 1000) * 1000000;
    }
    return duration;
}
