/* Crashes: what is said of them, and sent to whom can explain them. */
#ifndef UNIKERNEL_CRASH_H
#define UNIKERNEL_CRASH_H

/* Has the kernel start this program once more, in crash_main(), when a process ends with a core. `port` is where a dump
 * goes, or NULL. Needs /proc. */
void crash_prepare(const char *port);

/* Reports one crash: a line on the console, and a dump for the port that the arguments name, if any. The kernel hands over
 * the core on standard input, and keeps the process until this program ends. Returns its exit status. */
int crash_main(int argc, char **argv);

#endif
