/* The beginning of a core file as Linux writes it: what a crash was, and which memory explains it. Pure: no system
 * calls. */
#ifndef UNIKERNEL_CORE_FILE_H
#define UNIKERNEL_CORE_FILE_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct core_file {
    const unsigned char *bytes;
    size_t mapping_count; /* of the process: program headers from the second on, by rising address */
    size_t notes_offset, notes_size; /* whole notes only */
    const unsigned char *files;      /* the note about mapped files (NT_FILE), or NULL */
    size_t files_size;
    int signal, code; /* siginfo_t's si_code */
    uint64_t fault_address, program_counter, stack_pointer;
    uint64_t vdso; /* 0: none */
    uint32_t thread;
};

/* A mapping of a file. */
struct mapped_file {
    uint64_t start, end;
    uint64_t offset; /* of `start` in the file */
    const char *path;
};

/* How many bytes, from the beginning of a core file of which `size` are known, hold its headers and notes; 0: it is none.
 * The first CORE_HEAD_SIZE bytes are enough to know. */
enum { CORE_HEAD_SIZE = sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr) };
uint64_t core_beginning(const unsigned char *bytes, size_t size);

/* `bytes` holds the headers, and the notes as far as `size` goes. False: it is no core file of a process. `core` keeps
 * pointers into `bytes`. */
bool core_read(const unsigned char *bytes, size_t size, struct core_file *core);

/* Whether the signal is told with a fault at an address: not if a process has sent it, nor where the processor does not
 * say the address. */
bool core_has_fault_address(const struct core_file *core);

/* False: no file is mapped at the address. */
bool core_find_file(const struct core_file *core, uint64_t address, struct mapped_file *file);

/* A piece of memory, in whole pages. */
struct core_part {
    uint64_t address, size;
    uint32_t flags; /* PF_R, PF_W, PF_X */
};

enum {
    CORE_PAGE = 4096,
    CORE_PARTS_MAX = 1024,
    CORE_STACK_MAX = 256 * 1024,
    CORE_SMALL_MAX = 64 * 1024,   /* a mapping of data up to this size is taken whole ... */
    CORE_BUDGET = 1024 * 1024,    /* ... as long as all of them together take no more than this */
};

/* Chooses the memory from which debuggers reconstruct the calls: the stack from its pointer on, the vDSO, the first page
 * of each mapped file (its build id) and small mappings of data (where the dynamic linker keeps what is loaded; some of
 * it cannot be written to any more). By rising address; returns how many. */
size_t core_select(const struct core_file *core, struct core_part parts[CORE_PARTS_MAX]);

#endif
