/* File systems, directories and links; see filesystem.h. All of it is on the way to the first line of the application:
 * everything is just tried, and looked into only if it fails. */
#include "filesystem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "console.h"

static void make_directory(const char *path, mode_t mode)
{
    if (mkdir(path, mode) != 0 && errno != EEXIST)
        console_report("cannot make the directory ", path, NULL);
}

static int try_mount(const char *target, const char *type, unsigned long flags, const char *options)
{
    return mount(type, target, type, flags, options) == 0 ? 0 : errno;
}

static void mount_at(const char *target, const char *type, unsigned long flags, const char *options, bool required)
{
    int error = try_mount(target, type, flags, options);
    if (error == ENOENT) {
        make_directory(target, 0755);
        error = try_mount(target, type, flags, options);
    }
    if (error == ENODEV && !required)
        return;
    if (error != 0) {
        console_report("cannot mount ", type, NULL);
        console_report_error(target, error);
    }
}

/* The image is in memory already, so that /tmp needs no tmpfs; what the image holds there stays visible. */
static void open_tmp(void)
{
    const mode_t everyone = S_ISVTX | 0777;
    if (chmod("/tmp", everyone) == 0 || errno != ENOENT)
        return;
    make_directory("/tmp", 0777);
    chmod("/tmp", everyone); /* mkdir() heeds the umask */
}

static void link_descriptors(void)
{
    static const char *const links[][2] = {
        {"/proc/self/fd", "/dev/fd"},
        {"/proc/self/fd/0", "/dev/stdin"},
        {"/proc/self/fd/1", "/dev/stdout"},
        {"/proc/self/fd/2", "/dev/stderr"},
    };
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        if (symlink(links[i][0], links[i][1]) != 0 && errno != EEXIST)
            console_report_error(links[i][1], errno);
}

void filesystem_prepare(void)
{
    const unsigned long plain = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    mount_at("/dev", "devtmpfs", MS_NOSUID, "mode=0755", true);
    mount_at("/proc", "proc", plain, NULL, true);
    mount_at("/sys", "sysfs", plain, NULL, true);
    make_directory("/dev/shm", 0755); /* devtmpfs never holds it */
    mount_at("/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777", true);
    make_directory("/dev/pts", 0755);
    mount_at("/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666", false);
    link_descriptors();
    make_directory("/run", 0755);
    open_tmp();
}

ssize_t file_read(const char *path, char *bytes, size_t size)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return -1;
    size_t length = 0;
    ssize_t got;
    do {
        got = read(file, bytes + length, size - length);
        length += got > 0 ? (size_t)got : 0;
    } while (got > 0 && length < size);
    int error = errno;
    close(file);
    errno = error;
    return got < 0 ? -1 : (ssize_t)length;
}

bool file_set(const char *path, const char *text)
{
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0)
        return false;
    const ssize_t size = (ssize_t)strlen(text);
    const bool written = write(file, text, (size_t)size) == size;
    close(file);
    return written;
}

void file_replace(const char *directory, const char *path, const char *bytes, size_t size)
{
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
    unlink(path);
    int file = open(path, flags, 0644);
    if (file < 0 && errno == ENOENT) {
        make_directory(directory, 0755);
        file = open(path, flags, 0644);
    }
    if (file < 0 || write(file, bytes, size) != (ssize_t)size)
        console_report_error(path, errno);
    if (file >= 0)
        close(file);
}
