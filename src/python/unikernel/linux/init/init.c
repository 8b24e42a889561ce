/* PID 1 of a unikernel: prepares the system, starts the one application, reaps processes, passes signals and keeps the
 * DHCP lease while it runs, and ends the machine with its exit status. README.md says how it is told what to do. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/klog.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config.h"
#include "console.h"
#include "crash.h"
#include "filesystem.h"
#include "finish.h"
#include "launch.h"
#include "monotonic.h"
#include "network.h"
#include "streams.h"
#include "text.h"
#include "words.h"

#define CONFIG_PATH "/.unikernel/config"

enum { CONFIG_SIZE_MAX = 256 * 1024, COMMAND_LINE_MAX = 4096 };

static struct config config;

static void report_config_problem(const char *record, const char *problem)
{
    console_report(CONFIG_PATH ": ", record, ": ", problem, NULL);
}

static void load_config(void)
{
    static char text[CONFIG_SIZE_MAX];
    ssize_t size = file_read(CONFIG_PATH, text, sizeof text);
    if (size < 0)
        console_report_error(CONFIG_PATH, errno);
    else if (size == CONFIG_SIZE_MAX)
        report_config_problem("", "larger than 256 KiB");
    else if (config_parse(text, (size_t)size, &config, report_config_problem))
        return;
    finish(STATUS_SETUP_FAILED);
}

static _Noreturn void fail_with_word(const char *problem, const char *word)
{
    console_report(problem, word, NULL);
    finish(STATUS_SETUP_FAILED);
}

static void add_argument(char *argument)
{
    if (!words_add(&config.arguments, argument))
        fail_with_word("too many arguments, from ", argument);
}

static void set_variable(char *entry)
{
    if (!environment_set(&config.environment, entry))
        fail_with_word("too many environment variables, from ", entry);
}

static void set_default_variable(char *entry)
{
    if (!environment_has(&config.environment, entry))
        set_variable(entry);
}

/* Adds the last of the arguments of PID 1, as many as follow ` -- ` on the kernel command line. */
static void add_kernel_arguments(int count, char **arguments)
{
    char command_line[COMMAND_LINE_MAX];
    size_t given = (size_t)count - 1;
    if (given == 0)
        return;
    ssize_t size = file_read("/proc/cmdline", command_line, sizeof command_line - 1);
    if (size >= 0) {
        command_line[size] = '\0';
        size_t meant = words_after_dashes(command_line);
        given = meant < given ? meant : given;
    }
    for (size_t i = (size_t)count - given; i < (size_t)count; i++)
        add_argument(arguments[i]);
}

/* Hands each word of an encoded list (words.h) to `take`. */
static void take_words(const char *name, char *encoded, void take(char *))
{
    char *word, *cursor = words_begin(encoded);
    enum words_next next;
    while ((next = words_next(&cursor, &word)) == WORDS_FOUND)
        take(word);
    if (next == WORDS_MALFORMED)
        fail_with_word("malformed percent-encoding in ", name);
}

static void take_variable(char *word)
{
    if (*word == '=' || strchr(word, '=') == NULL)
        fail_with_word("not NAME=value in UNIKERNEL_ENV: ", word);
    set_variable(word);
}

/* What the kernel got on its command line is set over the configuration, but HOME and TERM are its own defaults
 * (kernel: init/main.c, envp_init). */
static void add_kernel_environment(char **environment)
{
    char *more_arguments = NULL, *more_variables = NULL;
    const char *wrong;
    for (char **entry = environment; *entry != NULL; entry++) {
        char *value;
        if ((value = text_after(*entry, "UNIKERNEL_ARGS=")) != NULL)
            more_arguments = value;
        else if ((value = text_after(*entry, "UNIKERNEL_ENV=")) != NULL)
            more_variables = value;
        else if ((value = text_after(*entry, "UNIKERNEL_STDOUT=")) != NULL)
            config.standard_output = value;
        else if ((value = text_after(*entry, "UNIKERNEL_STDERR=")) != NULL)
            config.standard_error = value;
        else if ((value = text_after(*entry, "UNIKERNEL_CRASH=")) != NULL)
            config.crash = value;
        else if ((value = text_after(*entry, "ip=")) != NULL) {
            if ((wrong = config_take_address(&config, value)) != NULL)
                fail_with_word("the kernel parameter ip: ", wrong);
        } else if (text_after(*entry, "HOME=") != NULL || text_after(*entry, "TERM=") != NULL)
            set_default_variable(*entry);
        else
            set_variable(*entry);
    }
    if (more_arguments != NULL)
        take_words("UNIKERNEL_ARGS", more_arguments, add_argument);
    if (more_variables != NULL)
        take_words("UNIKERNEL_ENV", more_variables, take_variable);
}

static void complete_command(int argc, char **argv, char **environment)
{
    static char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    static char home[] = "HOME=/", term[] = "TERM=linux";
    if (config.arguments.count == 0)
        config.arguments.words[config.arguments.count++] = (char *)config.executable;
    add_kernel_arguments(argc, argv);
    add_kernel_environment(environment);
    set_default_variable(path);
    set_default_variable(home);
    set_default_variable(term);
}

/* Signals that PID 1 passes on to the application. */
static const int forwarded_signals[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPWR, SIGUSR1, SIGUSR2, SIGWINCH};

static volatile sig_atomic_t received[NSIG];

static void note_signal(int signal)
{
    received[signal] = 1;
}

/* Without a handler, the kernel drops signals to PID 1 that are not blocked. */
static void handle_signals(void)
{
    struct sigaction action = {.sa_handler = note_signal};
    sigaction(SIGCHLD, &action, NULL);
    for (size_t i = 0; i < sizeof forwarded_signals / sizeof *forwarded_signals; i++)
        sigaction(forwarded_signals[i], &action, NULL);
}

static void forward_signals(pid_t application)
{
    for (size_t i = 0; i < sizeof forwarded_signals / sizeof *forwarded_signals; i++) {
        int signal = forwarded_signals[i];
        if (received[signal]) {
            received[signal] = 0;
            kill(application, signal);
        }
    }
}

/* Reaps what has ended. True: the application was among it. */
static bool reap(pid_t application, int *wait_status)
{
    pid_t pid;
    int status;
    bool ended = false;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == application) {
            *wait_status = status;
            ended = true;
        }
    }
    return ended;
}

/* Sleeps until a signal arrives or the network needs service. Signals arrive only here: everywhere else they are
 * blocked. */
static void wait_for_event(void)
{
    struct pollfd socket = {.fd = network_socket(), .events = POLLIN};
    const int64_t deadline = network_deadline();
    struct timespec timeout;
    sigset_t none;
    sigemptyset(&none);
    if (deadline != DHCP_NEVER)
        timeout = monotonic_duration(deadline - monotonic_now());
    ppoll(&socket, 1, deadline != DHCP_NEVER ? &timeout : NULL, &none);
}

static int supervise(pid_t application)
{
    int wait_status = 0;
    handle_signals();
    reboot(RB_DISABLE_CAD); /* Ctrl-Alt-Del becomes SIGINT to PID 1 instead of a reset */
    while (!reap(application, &wait_status)) {
        wait_for_event();
        forward_signals(application);
        network_serve();
    }
    return wait_status;
}

int main(int argc, char **argv, char **environment)
{
    sigset_t all;
    int status;
    if (getpid() != 1)
        return crash_main(argc, argv);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    filesystem_prepare();
    console_take();
    load_config();
    complete_command(argc, argv, environment);
    if (config.hostname != NULL && sethostname(config.hostname, strlen(config.hostname)) != 0)
        console_report_error("cannot set the host name", errno);
    if (!network_start(&config))
        finish(STATUS_SETUP_FAILED);
    crash_prepare(config.crash);
    streams_open(config.standard_output, config.standard_error);
    /* The command line keeps the kernel quiet while it boots; from now on its errors, such as an out-of-memory kill,
     * have something to say (syslog(2), SYSLOG_ACTION_CONSOLE_LEVEL). */
    klogctl(8, NULL, 4);
    pid_t application = launch(&config, &status);
    if (application == 0)
        finish(status);
    finish_after_application(supervise(application));
}
