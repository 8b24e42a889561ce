/* What PID 1 says on the console; see console.h. */
#include "console.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static const char prefix[] = "unikernel: ";

/* The rootfs held no /dev/console when the kernel opened it; devtmpfs has one if there is a console at all. */
static void open_console(void)
{
    int console = open("/dev/console", O_RDWR);
    if (console < 0)
        console = open("/dev/null", O_RDWR);
    if (console != 0)
        return;
    dup2(0, 1);
    dup2(0, 2);
}

void console_take(void)
{
    /* PID 1 itself leads the session of the terminal, not the application: when a leader ends, the kernel hangs the
     * terminal up and throws away output that still waits for the serial port (tty_ldisc_hangup()). */
    setsid();
    if (ioctl(STDIN_FILENO, TIOCSCTTY, 0) != 0 && errno == EBADF) {
        open_console();
        ioctl(STDIN_FILENO, TIOCSCTTY, 0);
    }
}

/* Appends what fits; a line is one write, so that nothing else gets into it. */
static size_t append(char *line, size_t length, size_t size, const char *piece)
{
    size_t piece_length = strlen(piece);
    if (piece_length > size - length)
        piece_length = size - length;
    memcpy(line + length, piece, piece_length);
    return length + piece_length;
}

static void write_all(const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t written = write(STDERR_FILENO, bytes, size);
        if (written <= 0)
            return;
        bytes += written;
        size -= (size_t)written;
    }
}

void console_report(const char *piece, ...)
{
    char line[1024];
    const size_t room = sizeof line - 1;
    size_t length = append(line, 0, room, prefix);
    va_list pieces;
    va_start(pieces, piece);
    for (; piece != NULL; piece = va_arg(pieces, const char *))
        length = append(line, length, room, piece);
    va_end(pieces);
    line[length] = '\n';
    write_all(line, length + 1);
}

void console_report_error(const char *what, int error)
{
    console_report(what, ": ", strerror(error), NULL);
}

void console_end_line(void)
{
    /* Only the terminal knows the column: with ONOCR it drops a carriage return in column 0, with OCRNL it sends a line
     * feed for it elsewhere. The flags stay: the line that follows is the last. */
    struct termios terminal;
    tcflow(STDERR_FILENO, TCOON); /* after Ctrl-S, output would wait for ever */
    if (tcgetattr(STDERR_FILENO, &terminal) != 0)
        return;
    bool column_known = (terminal.c_oflag & OPOST) != 0; /* else the application has left a raw terminal behind */
    terminal.c_oflag = OPOST | ONLCR | ONOCR | OCRNL;
    tcsetattr(STDERR_FILENO, TCSANOW, &terminal);
    write_all(column_known ? "\r" : "\n", 1);
}

void console_attach(void)
{
    struct termios terminal;
    int console = open("/dev/console", O_RDWR | O_NOCTTY);
    if (console < 0)
        return;
    dup2(console, STDERR_FILENO);
    /* The application goes on with the terminal as it has set it. */
    const bool is_terminal = tcgetattr(STDERR_FILENO, &terminal) == 0;
    console_end_line();
    if (is_terminal)
        tcsetattr(STDERR_FILENO, TCSANOW, &terminal);
}

void console_drain(void)
{
    terminal_drain(STDERR_FILENO);
}

bool terminal_make_raw(int terminal)
{
    struct termios settings;
    if (tcgetattr(terminal, &settings) != 0)
        return false;
    cfmakeraw(&settings);
    return tcsetattr(terminal, TCSANOW, &settings) == 0;
}

void terminal_drain(int terminal)
{
    tcdrain(terminal);
}
