/* The application's standard output and standard error; see streams.h. */
#include "streams.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "console.h"
#include "monotonic.h"

enum {
    ARRIVAL_MS = 1000, /* a virtio console's ports come one by one, by messages that the kernel handles beside us */
    POLL_MS = 1,
};

struct stream {
    const char *word; /* that names its terminal on the kernel command line */
    int target;       /* the application's file descriptor */
    int terminal;     /* -1: the console */
};

static struct stream streams[] = {
    {"UNIKERNEL_STDOUT=", STDOUT_FILENO, -1},
    {"UNIKERNEL_STDERR=", STDERR_FILENO, -1},
};

enum { STREAMS = sizeof streams / sizeof *streams };

/* Whether the terminal may still come: it is not there, or has no port behind it yet. */
static bool may_arrive(int error)
{
    return error == ENOENT || error == ENODEV || error == ENXIO;
}

static int open_terminal(const char *path, int64_t deadline)
{
    const struct timespec pause = monotonic_duration(POLL_MS);
    for (;;) {
        int terminal = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (terminal >= 0 || !may_arrive(errno) || monotonic_now() >= deadline)
            return terminal;
        nanosleep(&pause, NULL);
    }
}

void streams_open(const char *output, const char *error)
{
    const char *const paths[STREAMS] = {output, error};
    const int64_t deadline = monotonic_now() + ARRIVAL_MS;
    for (size_t i = 0; i < STREAMS; i++) {
        if (paths[i] == NULL)
            continue;
        int terminal = open_terminal(paths[i], deadline);
        if (terminal >= 0 && terminal_make_raw(terminal)) {
            streams[i].terminal = terminal;
            continue;
        }
        int problem = errno;
        console_report(streams[i].word, paths[i], ": ", strerror(problem), "; the console takes its place", NULL);
        if (terminal >= 0)
            close(terminal);
    }
}

void streams_install(void)
{
    for (size_t i = 0; i < STREAMS; i++)
        if (streams[i].terminal >= 0)
            dup2(streams[i].terminal, streams[i].target);
}

void streams_give(uid_t user, gid_t group)
{
    for (size_t i = 0; i < STREAMS; i++)
        if (streams[i].terminal >= 0)
            fchown(streams[i].terminal, user, group);
}

void streams_drain(void)
{
    for (size_t i = 0; i < STREAMS; i++)
        if (streams[i].terminal >= 0)
            terminal_drain(streams[i].terminal);
}
