/* The application's standard output and standard error, where each is a terminal of its own: nothing else is written
 * there, and its bytes arrive as they are. */
#ifndef UNIKERNEL_STREAMS_H
#define UNIKERNEL_STREAMS_H

#include <sys/types.h>

/* Opens the terminals at these paths, for NULL none. Waits a little for a terminal that the hypervisor has yet to
 * announce; one that does not come is reported, and the console takes its place. Needs /dev. */
void streams_open(const char *output, const char *error);

/* Makes them file descriptors 1 and 2 of this process, which is to become the application. */
void streams_install(void);

/* Gives them to a user, who may then open /dev/stdout anew. */
void streams_give(uid_t user, gid_t group);

/* Waits until all output has left the machine. */
void streams_drain(void);

#endif
