/* What PID 1 says on the console: lines that begin with `unikernel: `. */
#ifndef UNIKERNEL_CONSOLE_H
#define UNIKERNEL_CONSOLE_H

#include <stdbool.h>

/* Makes file descriptors 0, 1 and 2 the console (the kernel has opened it if the rootfs holds /dev/console) and the
 * console the controlling terminal of this session, so that Ctrl-C there becomes SIGINT. Needs /dev. */
void console_take(void);

/* The same output for a process that PID 1 has not started, and that has neither these descriptors nor a terminal. Begins a
 * line of its own, whatever the application has left of one. */
void console_attach(void);

/* Writes one line made of the pieces (strings, up to a NULL). */
void console_report(const char *piece, ...) __attribute__((sentinel));

/* Like `console_report(what, ": ", the text of `error`, NULL)`. */
void console_report_error(const char *what, int error);

/* Ends a line that the application left unfinished, so that the next one of PID 1 begins at its beginning. */
void console_end_line(void);

/* Waits until all output has left the machine. */
void console_drain(void);

/* Bytes leave a terminal as they were written, and nothing that arrives is sent back. False: it is none. */
bool terminal_make_raw(int terminal);

/* Waits until all output of a terminal has left the machine. */
void terminal_drain(int terminal);

#endif
