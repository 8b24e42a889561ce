/* Starting the application; see launch.h. */
#include "launch.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "console.h"
#include "filesystem.h"
#include "program_file.h"
#include "streams.h"

/* Where the child failed. vfork() makes it share PID 1's memory until execve(), so that it writes this directly: the
 * two system calls, the copy of the page tables and the page faults that fork() and a pipe would cost are saved. */
static struct {
    const char *step; /* NULL: it did not fail */
    int error;
} volatile failure;

static _Noreturn void child_fail(const char *step)
{
    failure.error = errno;
    failure.step = step;
    _exit(STATUS_SETUP_FAILED);
}

/* Nobody else could listen on the ports below 1024: they are the user's too, as in a container (Linux:
 * Documentation/networking/ip-sysctl.rst). */
static void open_ports(void)
{
    int file = open("/proc/sys/net/ipv4/ip_unprivileged_port_start", O_WRONLY | O_CLOEXEC);
    if (file < 0)
        return; /* a kernel without a network, or without this setting */
    if (write(file, "0\n", 2) != 2)
        child_fail("cannot open the ports below 1024 to the user");
    close(file);
}

/* Gives the console and the terminals of the output to the user too: /dev/stdout is opened anew by programs that log
 * there. */
static void become_user(const struct config *config)
{
    open_ports();
    fchown(STDIN_FILENO, config->user, config->group);
    streams_give(config->user, config->group);
    if (setgroups(0, NULL) != 0 || setgid(config->group) != 0 || setuid(config->user) != 0)
        child_fail("cannot become the configured user");
}

/* Signals are still blocked when the group takes the foreground: SIGTTOU would stop it. */
static _Noreturn void run_child(const struct config *config)
{
    sigset_t none;
    sigemptyset(&none);
    setpgid(0, 0);
    tcsetpgrp(STDIN_FILENO, getpid());
    streams_install();
    if (chdir(config->workdir) != 0)
        child_fail("cannot change to the working directory");
    if (config->has_user)
        become_user(config);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(config->executable, config->arguments.words, config->environment.words);
    child_fail("");
}

/* Why the kernel does not find a program that is there, or "". The text is in `hint`. */
static void explain(const char *program, int error)
{
    static char head[PROGRAM_HEAD_SIZE];
    char *interpreter = NULL;
    ssize_t size = file_read(program, head, sizeof head);
    if (size < 0)
        return;
    enum program_kind kind = program_examine(head, (size_t)size, &interpreter);
    if (error == ENOENT && interpreter != NULL) {
        bool carriage_return = interpreter[strlen(interpreter) - 1] == '\r';
        console_report("hint: the file exists, but not its ", kind == PROGRAM_ELF ? "ELF" : "#!", " interpreter ",
                       interpreter, carriage_return ? " (the line ends with CR LF)" : "", NULL);
    } else if (error == ENOEXEC) {
        console_report("hint: ",
                       kind == PROGRAM_ELF ? "it is an ELF file, but not for this machine"
                                           : "it is not an ELF file and does not begin with #!",
                       NULL);
    }
}

static int report_failure(const struct config *config)
{
    int error = failure.error;
    if (*failure.step != '\0') {
        console_report(failure.step, ": ", strerror(error), NULL);
        return STATUS_SETUP_FAILED;
    }
    console_report("cannot start ", config->executable, ": ", strerror(error), NULL);
    if (error == ENOENT || error == ENOEXEC)
        explain(config->executable, error);
    return error == ENOENT || error == ENOTDIR ? STATUS_NOT_FOUND : STATUS_NOT_EXECUTABLE;
}

pid_t launch(const struct config *config, int *status)
{
    pid_t child = vfork();
    if (child == 0)
        run_child(config);
    if (child < 0) {
        console_report_error("cannot create a process", errno);
        *status = STATUS_SETUP_FAILED;
        return 0;
    }
    if (failure.step == NULL)
        return child;
    waitpid(child, NULL, 0);
    *status = report_failure(config);
    return 0;
}
