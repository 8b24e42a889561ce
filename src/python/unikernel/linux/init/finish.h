/* The end: what is told about how the application ended, and the end of the machine. */
#ifndef UNIKERNEL_FINISH_H
#define UNIKERNEL_FINISH_H

/* For a wait status (wait(2)) of the application. */
_Noreturn void finish_after_application(int wait_status);

/* For an exit status. */
_Noreturn void finish(int status);

#endif
