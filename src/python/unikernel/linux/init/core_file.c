/* The beginning of a core file; see core_file.h. */
#include "core_file.h"

#include <string.h>

enum {
    RED_ZONE = 128,            /* below the stack pointer, and in use (System V ABI, AMD64) */
    OVERFLOW_MAX = 1024 * 1024, /* how far below its stack a thread that has used it up may be */
    VDSO_MAX = 16 * 1024,
    SI_KERNEL_CODE = 0x80, /* asm-generic/siginfo.h: a fault whose address the processor does not say */
    AT_SYSINFO_EHDR_TYPE = 33,
    /* struct elf_prstatus (linux/elfcore.h) is the same on all 64-bit machines up to the registers. */
    STATUS_THREAD = 32,
    STATUS_REGISTERS = 112,
#if defined(__x86_64__)
    REGISTER_PC = 16, /* asm/user_64.h */
    REGISTER_SP = 19,
#elif defined(__aarch64__)
    REGISTER_PC = 32, /* asm/ptrace.h */
    REGISTER_SP = 31,
#else
#error "which registers are the program counter and the stack pointer?"
#endif
    SIGINFO_CODE = 8, /* asm-generic/siginfo.h */
    SIGINFO_ADDRESS = 16,
    FILES_HEADER = 16, /* of NT_FILE: a count, and the unit of offsets */
    FILES_ENTRY = 24,
};

static uint32_t read_u32(const unsigned char *bytes)
{
    uint32_t number;
    memcpy(&number, bytes, sizeof number);
    return number;
}

static uint64_t read_u64(const unsigned char *bytes)
{
    uint64_t number;
    memcpy(&number, bytes, sizeof number);
    return number;
}

uint64_t core_beginning(const unsigned char *bytes, size_t size)
{
    Elf64_Ehdr elf;
    Elf64_Phdr notes;
    if (size < CORE_HEAD_SIZE)
        return 0;
    memcpy(&elf, bytes, sizeof elf);
    memcpy(&notes, bytes + sizeof elf, sizeof notes);
    if (memcmp(elf.e_ident, ELFMAG, SELFMAG) != 0 || elf.e_ident[EI_CLASS] != ELFCLASS64 || elf.e_type != ET_CORE)
        return 0;
    /* As Linux lays it out: the notes come first, and right behind the program headers. */
    if (elf.e_phoff != sizeof elf || notes.p_type != PT_NOTE || notes.p_offset < CORE_HEAD_SIZE)
        return 0;
    return notes.p_filesz <= UINT64_MAX - notes.p_offset ? notes.p_offset + notes.p_filesz : 0;
}

struct note {
    uint32_t type;
    const unsigned char *content;
    size_t size;
};

/* Takes the note at *offset of `bytes` and moves *offset behind it. False: no whole one is left. */
static bool next_note(const unsigned char *bytes, size_t size, size_t *offset, struct note *note)
{
    Elf64_Nhdr header;
    size_t left = size - *offset;
    if (left < sizeof header)
        return false;
    memcpy(&header, bytes + *offset, sizeof header);
    left -= sizeof header;
    const uint64_t name = ((uint64_t)header.n_namesz + 3) & ~(uint64_t)3;
    const uint64_t content = ((uint64_t)header.n_descsz + 3) & ~(uint64_t)3;
    if (name > left || content > left - name)
        return false;
    note->type = header.n_type;
    note->content = bytes + *offset + sizeof header + name;
    note->size = header.n_descsz;
    *offset += sizeof header + name + content;
    return true;
}

static void read_auxiliary_vector(struct core_file *core, const struct note *note)
{
    for (size_t at = 0; at + 16 <= note->size; at += 16)
        if (read_u64(note->content + at) == AT_SYSINFO_EHDR_TYPE)
            core->vdso = read_u64(note->content + at + 8);
}

/* The notes about the thread that crashed come first. */
static void read_note(struct core_file *core, const struct note *note, bool *has_status)
{
    if (note->type == NT_PRSTATUS && !*has_status && note->size >= STATUS_REGISTERS + 8 * (REGISTER_SP + 1)) {
        const unsigned char *registers = note->content + STATUS_REGISTERS;
        core->thread = read_u32(note->content + STATUS_THREAD);
        core->program_counter = read_u64(registers + 8 * REGISTER_PC);
        core->stack_pointer = read_u64(registers + 8 * REGISTER_SP);
        *has_status = true;
    } else if (note->type == NT_SIGINFO && note->size >= SIGINFO_ADDRESS + 8) {
        core->signal = (int)read_u32(note->content);
        core->code = (int)read_u32(note->content + SIGINFO_CODE);
        core->fault_address = read_u64(note->content + SIGINFO_ADDRESS);
    } else if (note->type == NT_AUXV) {
        read_auxiliary_vector(core, note);
    } else if (note->type == NT_FILE && note->size > FILES_HEADER && note->content[note->size - 1] == '\0') {
        core->files = note->content;
        core->files_size = note->size;
    }
}

bool core_read(const unsigned char *bytes, size_t size, struct core_file *core)
{
    const uint64_t end = core_beginning(bytes, size);
    if (end == 0)
        return false;
    memset(core, 0, sizeof *core);
    core->bytes = bytes;
    Elf64_Phdr notes;
    memcpy(&notes, bytes + sizeof(Elf64_Ehdr), sizeof notes);
    if (notes.p_offset > size)
        return false;
    core->notes_offset = notes.p_offset;
    /* Not by e_phnum, which cannot say more than 65534. */
    core->mapping_count = (notes.p_offset - sizeof(Elf64_Ehdr)) / sizeof(Elf64_Phdr) - 1;
    const size_t room = (end < size ? (size_t)end : size) - core->notes_offset;
    struct note note;
    bool has_status = false;
    while (next_note(bytes + core->notes_offset, room, &core->notes_size, &note))
        read_note(core, &note, &has_status);
    return has_status && core->signal > 0;
}

bool core_has_fault_address(const struct core_file *core)
{
    enum { SIGILL_NUMBER = 4, SIGBUS_NUMBER = 7, SIGFPE_NUMBER = 8, SIGSEGV_NUMBER = 11 }; /* Linux' on these machines */
    const bool is_fault = core->signal == SIGILL_NUMBER || core->signal == SIGBUS_NUMBER || core->signal == SIGFPE_NUMBER ||
                          core->signal == SIGSEGV_NUMBER;
    return is_fault && core->code > 0 && core->code != SI_KERNEL_CODE;
}

/* How many entries NT_FILE really has room for. */
static uint64_t file_count(const struct core_file *core)
{
    if (core->files == NULL)
        return 0;
    const uint64_t count = read_u64(core->files), most = (core->files_size - FILES_HEADER) / FILES_ENTRY;
    return count < most ? count : most;
}

static struct mapped_file file_entry(const struct core_file *core, uint64_t index)
{
    const unsigned char *entry = core->files + FILES_HEADER + index * FILES_ENTRY;
    const uint64_t unit = read_u64(core->files + 8);
    return (struct mapped_file){read_u64(entry), read_u64(entry + 8), read_u64(entry + 16) * unit, NULL};
}

/* The paths follow all entries, in their order. */
static const char *file_path(const struct core_file *core, uint64_t index)
{
    const char *path = (const char *)core->files + FILES_HEADER + file_count(core) * FILES_ENTRY;
    const char *end = (const char *)core->files + core->files_size;
    for (; index > 0 && path < end; index--)
        path += strlen(path) + 1;
    return path < end ? path : NULL;
}

bool core_find_file(const struct core_file *core, uint64_t address, struct mapped_file *file)
{
    const uint64_t count = file_count(core);
    for (uint64_t i = 0; i < count; i++) {
        *file = file_entry(core, i);
        if (file->start <= address && address < file->end) {
            file->path = file_path(core, i);
            return file->path != NULL;
        }
    }
    return false;
}

static Elf64_Phdr mapping(const struct core_file *core, size_t index)
{
    Elf64_Phdr header;
    memcpy(&header, core->bytes + sizeof(Elf64_Ehdr) + (index + 1) * sizeof header, sizeof header);
    return header;
}

/* The mapping with the stack of the thread that crashed: the one at its pointer, or, when it has run out of it, the next
 * one above. Its index, or the count. */
static size_t find_stack(const struct core_file *core)
{
    for (size_t i = 0; i < core->mapping_count; i++) {
        const Elf64_Phdr header = mapping(core, i);
        if (core->stack_pointer >= header.p_vaddr && core->stack_pointer - header.p_vaddr < header.p_memsz)
            return i;
        if (header.p_vaddr > core->stack_pointer && header.p_flags & PF_W)
            return header.p_vaddr - core->stack_pointer <= OVERFLOW_MAX ? i : core->mapping_count;
    }
    return core->mapping_count;
}

static uint64_t least(uint64_t one, uint64_t other)
{
    return one < other ? one : other;
}

static struct core_part stack_part(const struct core_file *core, const Elf64_Phdr *header)
{
    struct core_part part = {header->p_vaddr, header->p_memsz, header->p_flags};
    const uint64_t used = core->stack_pointer - RED_ZONE;
    if (core->stack_pointer >= RED_ZONE && used > part.address) {
        part.size -= (used & ~(uint64_t)(CORE_PAGE - 1)) - part.address;
        part.address = used & ~(uint64_t)(CORE_PAGE - 1);
    }
    part.size = least(part.size, CORE_STACK_MAX);
    return part;
}

size_t core_select(const struct core_file *core, struct core_part parts[CORE_PARTS_MAX])
{
    const size_t stack = find_stack(core);
    const uint64_t files = file_count(core);
    uint64_t file = 0, budget = CORE_BUDGET;
    size_t count = 0;
    /* The stack always finds a place. */
    for (size_t i = 0; i < core->mapping_count && count < CORE_PARTS_MAX; i++) {
        const Elf64_Phdr header = mapping(core, i);
        if (header.p_type != PT_LOAD || header.p_memsz == 0 || (header.p_vaddr | header.p_memsz) % CORE_PAGE != 0)
            continue;
        while (file < files && file_entry(core, file).start < header.p_vaddr)
            file++;
        struct core_part part = {header.p_vaddr, 0, header.p_flags};
        if (i == stack)
            part = stack_part(core, &header);
        else if (header.p_vaddr == core->vdso)
            part.size = least(header.p_memsz, VDSO_MAX);
        else if (i < stack && count == CORE_PARTS_MAX - 1)
            continue;
        else if (!(header.p_flags & PF_X) && header.p_memsz <= CORE_SMALL_MAX)
            part.size = least(header.p_memsz, budget);
        else if (file < files && file_entry(core, file).start == header.p_vaddr && file_entry(core, file).offset == 0)
            part.size = least(CORE_PAGE, budget);
        if (part.size == 0)
            continue;
        if (i != stack && header.p_vaddr != core->vdso)
            budget -= part.size;
        parts[count++] = part;
    }
    return count;
}
