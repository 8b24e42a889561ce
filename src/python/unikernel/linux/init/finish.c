/* The end of the application and of the machine; see finish.h. */
#include "finish.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "console.h"
#include "filesystem.h"
#include "memory.h"
#include "monotonic.h"
#include "streams.h"
#include "text.h"
#include "vmm.h"

enum {
    GRACE_MS = 2000,     /* between SIGTERM and SIGKILL, and once more for SIGKILL to work */
    OUTPUT_SECONDS = 10, /* for the console to take the last output: a VMM that reads no more must not keep us alive */
};

static char proc_text[32 * 1024];

/* The text of a file of /proc, cut where there is no more room; empty if it cannot be read. */
static const char *proc_read(const char *path)
{
    ssize_t size = file_read(path, proc_text, sizeof proc_text - 1);
    proc_text[size > 0 ? size : 0] = '\0';
    return proc_text;
}

/* The number behind `name` in a file of /proc (`name   123`), or 0. */
static uint32_t proc_number(const char *path, const char *name)
{
    const char *found = strstr(proc_read(path), name);
    if (found == NULL)
        return 0;
    found += strlen(name);
    found += strspn(found, ": ");
    uint32_t number = 0;
    return number_read(&found, UINT32_MAX, &number) ? number : 0;
}

/* Waits until a child changes. False: the deadline has come. */
static bool wait_for_child(int64_t deadline)
{
    const struct timespec left = monotonic_duration(deadline - monotonic_now());
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD); /* it is blocked, and so waits for us even if it came before */
    return sigtimedwait(&child, NULL, &left) == SIGCHLD && monotonic_now() < deadline;
}

/* Reaps what has ended. False: there are no processes left (every orphan is a child of PID 1). */
static bool reap(void)
{
    pid_t pid;
    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
        ;
    return pid == 0;
}

/* Ends the processes that the application has left behind. */
static void end_processes(void)
{
    static const int signals[] = {SIGTERM, SIGKILL};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        if (!reap())
            return;
        kill(-1, signals[i]);
        const int64_t deadline = monotonic_now() + GRACE_MS;
        while (reap() && wait_for_child(deadline))
            ;
    }
}

static void ignore_alarm(int signal)
{
    (void)signal;
}

/* From here on, system calls that wait for the console fail with EINTR when the time is over; the timer repeats, for
 * those that begin to wait later. */
static void limit_output_time(void)
{
    const struct itimerval timer = {.it_value = {.tv_sec = OUTPUT_SECONDS}, .it_interval = {.tv_sec = 1}};
    struct sigaction action = {.sa_handler = ignore_alarm};
    sigset_t alarm_only;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    sigaction(SIGALRM, &action, NULL);
    sigprocmask(SIG_UNBLOCK, &alarm_only, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);
}

/* The kernel announces a restart even to a quiet console; syslog(2) cannot silence that, the sysctl can (proc(5)). */
static void silence_kernel(void)
{
    file_set("/proc/sys/kernel/printk", "0");
}

static _Noreturn void end_machine(int status)
{
    silence_kernel();
    streams_drain();
    console_drain();
    vmm_report_status((uint8_t)status);
    if (vmm_kernel_can_power_off())
        reboot(RB_POWER_OFF);
    vmm_power_off();
    reboot(RB_AUTOBOOT); /* with reboot=t a triple fault: VMMs that are told not to reboot end (QEMU: -no-reboot) */
    for (;;)
        pause();
}

static void report_signal(int signal)
{
    char number[NUMBER_TEXT_SIZE];
    /* The counter was 0 when the application started: the kernel never kills PID 1. */
    if (signal == SIGKILL && proc_number("/proc/vmstat", "\noom_kill ") > 0) {
        uint64_t mebibytes = memory_mebibytes(proc_read("/proc/zoneinfo"), (size_t)sysconf(_SC_PAGESIZE));
        console_report("killed: out of memory (", number_to_text(mebibytes, number), " MiB declared)", NULL);
        return;
    }
    console_report("killed by signal ", number_to_text((uint64_t)signal, number), " (", strsignal(signal), ")", NULL);
}

void finish_after_application(int wait_status)
{
    end_processes();
    sync();
    if (WIFEXITED(wait_status))
        finish(WEXITSTATUS(wait_status));
    limit_output_time();
    console_end_line();
    report_signal(WTERMSIG(wait_status));
    end_machine(128 + WTERMSIG(wait_status));
}

void finish(int status)
{
    char number[NUMBER_TEXT_SIZE];
    limit_output_time();
    console_end_line();
    console_report("exited with status ", number_to_text((uint64_t)status, number), NULL);
    end_machine(status);
}
