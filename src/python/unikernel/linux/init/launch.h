/* Starting the application. */
#ifndef UNIKERNEL_LAUNCH_H
#define UNIKERNEL_LAUNCH_H

#include <sys/types.h>

#include "config.h"

/* Exit statuses of PID 1's own failures, as shells and `env` have them. */
enum { STATUS_SETUP_FAILED = 125, STATUS_NOT_EXECUTABLE = 126, STATUS_NOT_FOUND = 127 };

/* Starts the application in a process group of its own in the foreground of the terminal. All signals must be blocked;
 * the application gets none blocked. Returns its process id, or 0: it could not be started, which has been reported,
 * and *status is the exit status that says so. */
pid_t launch(const struct config *config, int *status);

#endif
