/* Crashes; see crash.h. */
#include "crash.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include "console.h"
#include "core_file.h"
#include "filesystem.h"
#include "program_file.h"
#include "text.h"

#define HANDLER "|/.unikernel/init crash"
/* What a dump begins with; the length of the core file follows as eight bytes, least significant first. */
#define DUMP_MAGIC "UKCRASH1"

enum {
    PATTERN_MAX = 127,              /* kernel: CORENAME_MAX_SIZE */
    BEGINNING_MAX = 8 * 1024 * 1024, /* headers and notes: more than 65530 mappings and some hundred threads take */
    HANDLER_SECONDS = 20,           /* a console or a port that takes nothing must not keep the machine */
    BLOCK = 64 * 1024,
};

/* --- PID 1 --- */

void crash_prepare(const char *port)
{
    char pattern[PATTERN_MAX + 1] = HANDLER;
    if (port != NULL) {
        if (sizeof HANDLER + strlen(port) > PATTERN_MAX) {
            console_report("UNIKERNEL_CRASH is too long: ", port, NULL);
        } else {
            strcat(pattern, " ");
            strcat(pattern, port);
        }
    }
    /* A kernel without core dumps (CONFIG_COREDUMP=n) has none of these. */
    if (!file_set("/proc/sys/kernel/core_pattern", pattern))
        return;
    /* So many at a time; any limit makes the kernel wait for us (Documentation/admin-guide/sysctl/kernel.rst). */
    file_set("/proc/sys/kernel/core_pipe_limit", "16");
    /* Programs that have dropped their privileges too (proc(5)): who reads it is root. */
    file_set("/proc/sys/fs/suid_dumpable", "2");
    /* No memory in the core itself: we take what we need from /proc, without reading all the rest (core(5)). */
    file_set("/proc/self/coredump_filter", "0");
}

/* --- The handler --- */

/* Reads until `size` bytes are there. False: there are fewer. */
static bool read_exactly(unsigned char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t got = read(STDIN_FILENO, bytes, size);
        if (got <= 0)
            return false;
        bytes += got;
        size -= (size_t)got;
    }
    return true;
}

static bool read_core(struct core_file *core)
{
    unsigned char head[CORE_HEAD_SIZE];
    if (!read_exactly(head, sizeof head))
        return false;
    uint64_t size = core_beginning(head, sizeof head);
    if (size < sizeof head)
        return false;
    size = size < BEGINNING_MAX ? size : BEGINNING_MAX;
    unsigned char *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bytes == MAP_FAILED)
        return false;
    memcpy(bytes, head, sizeof head);
    return read_exactly(bytes + sizeof head, size - sizeof head) && core_read(bytes, size, core);
}

/* The path of a file about the process in /proc. */
static const char *process_file(const struct core_file *core, const char *name)
{
    static char path[64];
    char number[NUMBER_TEXT_SIZE];
    strcpy(path, "/proc/");
    strcat(path, number_to_text(core->thread, number));
    strcat(path, name);
    return path;
}

/* What would do something to a terminal becomes `?`. */
static void make_printable(char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = '?';
}

/* The name of the program's file. */
static const char *program_name(const struct core_file *core)
{
    static char path[PATH_MAX];
    ssize_t size = readlink(process_file(core, "/exe"), path, sizeof path - 1);
    if (size <= 0)
        return "a process";
    path[size] = '\0';
    make_printable(path);
    return strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path;
}

/* Where the program counter is: the address for which the file's debugging information has the line. False: in no file
 * that can be read. */
static bool find_place(const struct core_file *core, char path[PATH_MAX], uint64_t *address)
{
    static char head[PROGRAM_HEAD_SIZE];
    struct mapped_file file;
    if (!core_find_file(core, core->program_counter, &file) || strlen(file.path) >= PATH_MAX)
        return false;
    ssize_t size = file_read(file.path, head, sizeof head);
    if (size <= 0 || !program_link_address(head, (size_t)size, core->program_counter - file.start + file.offset, address))
        return false;
    strcpy(path, file.path);
    make_printable(path);
    return true;
}

static void report(const struct core_file *core)
{
    static char path[PATH_MAX];
    char signal[NUMBER_TEXT_SIZE], thread[NUMBER_TEXT_SIZE], fault[HEX_TEXT_SIZE], place[HEX_TEXT_SIZE];
    const bool has_fault = core_has_fault_address(core);
    uint64_t address = core->program_counter;
    const bool is_in_file = find_place(core, path, &address);
    console_report(program_name(core), " crashed: signal ", number_to_text((uint64_t)core->signal, signal), " (",
                   strsignal(core->signal), ")", has_fault ? ", address " : "",
                   has_fault ? hex_to_text(core->fault_address, fault) : "", ", at ", is_in_file ? path : "",
                   is_in_file ? "+" : "", hex_to_text(address, place), " (thread ",
                   number_to_text(core->thread, thread), ")", NULL);
}

/* Bytes on their way to the port, in blocks: each write costs an exit to the hypervisor. */
struct port {
    int file;
    bool failed;
    size_t length;
    unsigned char block[BLOCK];
};

static void flush(struct port *port)
{
    const unsigned char *bytes = port->block;
    while (port->length > 0 && !port->failed) {
        ssize_t written = write(port->file, bytes, port->length);
        port->failed = written <= 0;
        bytes += written;
        port->length -= (size_t)written;
    }
    port->length = 0;
}

/* Room for up to a page, which the caller fills. */
static unsigned char *reserve(struct port *port, size_t size)
{
    if (port->length + size > BLOCK)
        flush(port);
    port->length += size;
    return port->block + port->length - size;
}

static void send(struct port *port, const void *bytes, size_t size)
{
    for (size_t done = 0, part; done < size; done += part) {
        part = size - done < CORE_PAGE ? size - done : CORE_PAGE;
        memcpy(reserve(port, part), (const char *)bytes + done, part);
    }
}

static void send_zeros(struct port *port, size_t size)
{
    memset(reserve(port, size), 0, size);
}

/* Pages that cannot be read are sent as zeros: the length has been told. */
static void send_memory(struct port *port, int memory, const struct core_part *part)
{
    for (uint64_t done = 0; done < part->size && !port->failed; done += CORE_PAGE) {
        unsigned char *page = reserve(port, CORE_PAGE);
        ssize_t got = memory >= 0 ? pread(memory, page, CORE_PAGE, (off_t)(part->address + done)) : 0;
        got = got > 0 ? got : 0;
        memset(page + got, 0, CORE_PAGE - (size_t)got);
    }
}

static size_t padding(uint64_t offset)
{
    return (CORE_PAGE - offset % CORE_PAGE) % CORE_PAGE;
}

/* Sends a core file with the notes of the whole one, and with the memory that is needed. */
static void send_dump(struct port *port, const struct core_file *core, int memory)
{
    static struct core_part parts[CORE_PARTS_MAX];
    const size_t count = core_select(core, parts);
    Elf64_Ehdr elf;
    memcpy(&elf, core->bytes, sizeof elf);
    elf.e_phnum = (Elf64_Half)(count + 1);
    elf.e_shoff = elf.e_shnum = elf.e_shstrndx = 0;
    const Elf64_Phdr notes = {.p_type = PT_NOTE,
                              .p_offset = sizeof elf + (count + 1) * sizeof notes,
                              .p_filesz = core->notes_size,
                              .p_align = 4};
    const uint64_t notes_end = notes.p_offset + notes.p_filesz, memory_offset = notes_end + padding(notes_end);
    uint64_t length = memory_offset;
    for (size_t i = 0; i < count; i++)
        length += parts[i].size;
    send(port, DUMP_MAGIC, sizeof DUMP_MAGIC - 1);
    for (int shift = 0; shift < 64; shift += 8)
        *reserve(port, 1) = (unsigned char)(length >> shift);
    send(port, &elf, sizeof elf);
    send(port, &notes, sizeof notes);
    uint64_t offset = memory_offset;
    for (size_t i = 0; i < count; i++) {
        const Elf64_Phdr header = {.p_type = PT_LOAD,
                                   .p_flags = parts[i].flags,
                                   .p_offset = offset,
                                   .p_vaddr = parts[i].address,
                                   .p_filesz = parts[i].size,
                                   .p_memsz = parts[i].size,
                                   .p_align = CORE_PAGE};
        send(port, &header, sizeof header);
        offset += parts[i].size;
    }
    send(port, core->bytes + core->notes_offset, core->notes_size);
    send_zeros(port, padding(notes_end));
    for (size_t i = 0; i < count; i++)
        send_memory(port, memory, &parts[i]);
    flush(port);
}

static void dump(const struct core_file *core, const char *path)
{
    static struct port port;
    port.file = open(path, O_WRONLY | O_NOCTTY | O_CLOEXEC);
    if (port.file < 0) {
        console_report("UNIKERNEL_CRASH=", path, ": ", strerror(errno), NULL);
        return;
    }
    terminal_make_raw(port.file);
    flock(port.file, LOCK_EX); /* one dump after another */
    int memory = open(process_file(core, "/mem"), O_RDONLY | O_CLOEXEC);
    send_dump(&port, core, memory);
    if (port.failed)
        console_report("the dump could not be written to ", path, NULL);
    terminal_drain(port.file);
    close(port.file);
}

int crash_main(int argc, char **argv)
{
    struct core_file core;
    /* When the application ends, so does this handler of another crash, but not before it is done. */
    signal(SIGTERM, SIG_IGN);
    alarm(HANDLER_SECONDS);
    if (!read_core(&core))
        return 1;
    console_attach();
    report(&core);
    if (argc > 2)
        dump(&core, argv[2]);
    console_drain();
    return 0;
}
