/* Tests of core files, of link-time addresses and of the machine's memory. Links core_file.c, memory.c, program_file.c,
 * text.c. */
#include "core_file.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "memory.h"
#include "program_file.h"
#include "text.h"

enum { ROOM = 64 * 1024, STATUS_SIZE = 336, MAPPINGS_MAX = 2048 };

/* A core file as Linux writes it, made by hand: registers and mappings as given. */
static struct {
    uint64_t counter, stack;
    int signal, code;
    struct {
        uint64_t start, size;
        uint32_t flags;
        const char *path; /* NULL: of no file */
        uint64_t page;    /* where in the file, in pages */
    } mappings[MAPPINGS_MAX];
    size_t mapping_count;
    uint64_t vdso;
} made;

static unsigned char *bytes;
static size_t size;

static void put(const void *data, size_t length)
{
    bytes = realloc(bytes, size + length);
    memcpy(bytes + size, data, length);
    size += length;
}

static void put_note(uint32_t type, const void *content, size_t length)
{
    static const char zeros[4], name[8] = "CORE";
    const Elf64_Nhdr header = {5, (uint32_t)length, type};
    put(&header, sizeof header);
    put(name, sizeof name);
    put(content, length);
    put(zeros, -length & 3);
}

static void put_files(void)
{
    static unsigned char content[ROOM];
    size_t length = 16;
    uint64_t count = 0, page = 4096;
    for (size_t i = 0; i < made.mapping_count; i++) {
        if (made.mappings[i].path == NULL)
            continue;
        uint64_t entry[3] = {made.mappings[i].start, made.mappings[i].start + made.mappings[i].size, made.mappings[i].page};
        memcpy(content + length, entry, sizeof entry);
        length += sizeof entry;
        count++;
    }
    for (size_t i = 0; i < made.mapping_count; i++) {
        if (made.mappings[i].path == NULL)
            continue;
        strcpy((char *)content + length, made.mappings[i].path);
        length += strlen(made.mappings[i].path) + 1;
    }
    memcpy(content, &count, 8);
    memcpy(content + 8, &page, 8);
    if (count > 0)
        put_note(NT_FILE, content, length);
}

static void put_thread(uint32_t thread, uint64_t counter, uint64_t stack)
{
    unsigned char status[STATUS_SIZE] = {0};
    memcpy(status + 32, &thread, 4);
#if defined(__x86_64__)
    memcpy(status + 112 + 8 * 16, &counter, 8);
    memcpy(status + 112 + 8 * 19, &stack, 8);
#else
    memcpy(status + 112 + 8 * 32, &counter, 8);
    memcpy(status + 112 + 8 * 31, &stack, 8);
#endif
    put_note(NT_PRSTATUS, status, sizeof status);
}

static void make(void)
{
    const uint64_t notes_at = sizeof(Elf64_Ehdr) + (made.mapping_count + 1) * sizeof(Elf64_Phdr);
    Elf64_Ehdr elf = {.e_ident = ELFMAG, .e_type = ET_CORE, .e_phoff = sizeof elf};
    elf.e_ident[EI_CLASS] = ELFCLASS64;
    size = 0;
    put(&elf, sizeof elf);
    Elf64_Phdr notes = {.p_type = PT_NOTE, .p_offset = notes_at};
    put(&notes, sizeof notes);
    for (size_t i = 0; i < made.mapping_count; i++) {
        Elf64_Phdr header = {.p_type = PT_LOAD,
                             .p_flags = made.mappings[i].flags,
                             .p_vaddr = made.mappings[i].start,
                             .p_memsz = made.mappings[i].size};
        put(&header, sizeof header);
    }
    put_thread(12, made.counter, made.stack);
    int information[32] = {made.signal, 0, made.code};
    information[4] = 0x1234;
    put_note(NT_SIGINFO, information, sizeof information);
    uint64_t auxiliary[4] = {33, made.vdso, 0, 0};
    put_note(NT_AUXV, auxiliary, sizeof auxiliary);
    put_files();
    put_thread(13, 1, 2);
    notes.p_filesz = size - notes_at;
    memcpy(bytes + sizeof elf, &notes, sizeof notes);
}

static void make_program(void)
{
    memset(&made, 0, sizeof made);
    made.counter = 0x401136;
    made.stack = 0x7ffe00001e88;
    made.signal = 11;
    made.code = 1;
    made.vdso = 0x7fff00000000;
    made.mapping_count = 7;
    made.mappings[0].start = 0x400000, made.mappings[0].size = 0x1000, made.mappings[0].flags = PF_R;
    made.mappings[0].path = "/app/hello";
    made.mappings[1].start = 0x401000, made.mappings[1].size = 0x2000, made.mappings[1].flags = PF_R | PF_X;
    made.mappings[1].path = "/app/hello", made.mappings[1].page = 1;
    made.mappings[2].start = 0x403000, made.mappings[2].size = 0x1000, made.mappings[2].flags = PF_R | PF_W;
    made.mappings[2].path = "/app/hello", made.mappings[2].page = 3;
    made.mappings[3].start = 0x500000, made.mappings[3].size = 64 << 20, made.mappings[3].flags = PF_R | PF_W;
    made.mappings[4].start = 0x7f0000000000, made.mappings[4].size = 0x4000, made.mappings[4].flags = PF_R | PF_X;
    made.mappings[4].path = "/lib/libc.so";
    made.mappings[5].start = 0x7ffe00000000, made.mappings[5].size = 0x4000, made.mappings[5].flags = PF_R | PF_W;
    made.mappings[6].start = 0x7fff00000000, made.mappings[6].size = 0x2000, made.mappings[6].flags = PF_R | PF_X;
    make();
}

static struct core_file core;

/* Reads a copy that ends exactly where the bytes end, so that a sanitizer sees reads behind them. */
static bool read_copy(size_t length)
{
    static unsigned char *copy;
    free(copy);
    copy = malloc(length + (length == 0));
    memcpy(copy, bytes, length);
    return core_read(copy, length, &core);
}

static void test_what_happened(void)
{
    struct mapped_file file;
    make_program();
    CHECK(core_beginning(bytes, CORE_HEAD_SIZE) == size && core_beginning(bytes, CORE_HEAD_SIZE - 1) == 0);
    CHECK(read_copy(size));
    CHECK(core.signal == 11 && core.code == 1 && core.fault_address == 0x1234 && core_has_fault_address(&core));
    CHECK(core.thread == 12 && core.program_counter == 0x401136 && core.stack_pointer == 0x7ffe00001e88);
    CHECK(core.mapping_count == 7 && core.vdso == 0x7fff00000000 && core.notes_size == size - core.notes_offset);
    CHECK(core_find_file(&core, core.program_counter, &file));
    CHECK(file.start == 0x401000 && file.offset == 0x1000 && strcmp(file.path, "/app/hello") == 0);
    CHECK(core_find_file(&core, 0x7f0000003fff, &file) && strcmp(file.path, "/lib/libc.so") == 0 && file.offset == 0);
    CHECK(!core_find_file(&core, 0, &file) && !core_find_file(&core, 0x500000, &file));
}

static void test_fault_addresses(void)
{
    static const struct {
        int signal, code;
        bool has;
    } cases[] = {{11, 1, true}, {7, 2, true}, {8, 1, true}, {4, 2, true}, {6, -6, false}, {11, 0, false}, {11, 0x80, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make_program();
        made.signal = cases[i].signal;
        made.code = cases[i].code;
        make();
        CHECK(read_copy(size) && core_has_fault_address(&core) == cases[i].has);
    }
}

static bool is_part(const struct core_part *part, uint64_t address, uint64_t length)
{
    return part->address == address && part->size == length;
}

static void test_selection(void)
{
    static struct core_part parts[CORE_PARTS_MAX];
    make_program();
    CHECK(read_copy(size));
    CHECK(core_select(&core, parts) == 5);
    CHECK(is_part(&parts[0], 0x400000, 0x1000)); /* the first page of the file */
    CHECK(is_part(&parts[1], 0x403000, 0x1000)); /* what is written to */
    CHECK(is_part(&parts[2], 0x7f0000000000, 0x1000));
    CHECK(is_part(&parts[3], 0x7ffe00001000, 0x3000) && parts[3].flags == (PF_R | PF_W)); /* from the pointer on */
    CHECK(is_part(&parts[4], 0x7fff00000000, 0x2000));                                   /* the vDSO */
    /* A pointer at the beginning of a page: what is below it is in use too. */
    made.stack = 0x7ffe00002000;
    make();
    CHECK(read_copy(size) && core_select(&core, parts) == 5 && is_part(&parts[3], 0x7ffe00001000, 0x3000));
    /* Out of its stack: the one above it. And a large stack is cut. */
    made.stack = 0x7ffe00000000 - 0x900;
    made.mappings[5].size = 8 << 20;
    make();
    CHECK(read_copy(size) && core_select(&core, parts) == 5 && is_part(&parts[3], 0x7ffe00000000, CORE_STACK_MAX));
    made.stack = 0x10;
    make();
    CHECK(read_copy(size) && core_select(&core, parts) == 4);
}

static void test_many_mappings_leave_the_stack_its_place(void)
{
    static struct core_part parts[CORE_PARTS_MAX];
    make_program();
    const size_t last = MAPPINGS_MAX - 1;
    for (size_t i = 0; i < MAPPINGS_MAX; i++) {
        made.mappings[i].start = (i + 1) << 20;
        made.mappings[i].size = 4096;
        made.mappings[i].flags = PF_R | PF_W;
        made.mappings[i].path = NULL;
    }
    made.mapping_count = MAPPINGS_MAX;
    made.stack = made.mappings[last].start + 512;
    make();
    CHECK(read_copy(size));
    const size_t count = core_select(&core, parts);
    CHECK(count == CORE_BUDGET / 4096 + 1 && is_part(&parts[count - 1], made.mappings[last].start, 4096));
}

/* Every beginning and many damaged bytes: a sanitizer sees what is read where nothing is. */
static void test_damaged(void)
{
    static struct core_part parts[CORE_PARTS_MAX];
    struct mapped_file file;
    make_program();
    for (size_t length = 0; length < size; length++)
        if (read_copy(length)) {
            core_select(&core, parts);
            core_find_file(&core, core.program_counter, &file);
        }
    for (size_t at = 0; at < size; at++) {
        const unsigned char before = bytes[at];
        static const unsigned char wild[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
        for (size_t i = 0; i < sizeof wild; i++) {
            bytes[at] = wild[i];
            if (read_copy(size)) {
                CHECK(core_select(&core, parts) <= CORE_PARTS_MAX);
                core_find_file(&core, core.program_counter, &file);
            }
        }
        bytes[at] = before;
    }
    CHECK(read_copy(size));
    bytes[0] = 'X';
    CHECK(!read_copy(size) && core_beginning(bytes, size) == 0);
}

static void test_link_addresses(void)
{
    unsigned char head[256] = {0};
    const Elf64_Ehdr elf = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64}, .e_phoff = sizeof elf, .e_phnum = 2};
    const Elf64_Phdr segments[2] = {{.p_type = PT_LOAD, .p_vaddr = 0x400000, .p_filesz = 0x800},
                                    {.p_type = PT_LOAD, .p_offset = 0x1000, .p_vaddr = 0x402000, .p_filesz = 0x500}};
    uint64_t address = 0;
    memcpy(head, &elf, sizeof elf);
    memcpy(head + sizeof elf, segments, sizeof segments);
    CHECK(program_link_address((char *)head, sizeof head, 0x10, &address) && address == 0x400010);
    CHECK(program_link_address((char *)head, sizeof head, 0x1136, &address) && address == 0x402136);
    CHECK(!program_link_address((char *)head, sizeof head, 0x1500, &address));
    CHECK(!program_link_address((char *)head, sizeof elf + sizeof *segments, 0x1136, &address));
    CHECK(!program_link_address("#!/bin/sh", 9, 0, &address));
}

static void test_memory(void)
{
    static const char zones[] = "Node 0, zone      DMA\n  per-node stats\n      nr_present 5\n  pages free     3840\n"
                                "        spanned  4095\n        present  3998\n        managed  3840\nNode 0, zone    DMA32\n"
                                "        present  28640\nNode 0, zone   Normal\n        present  0\n";
    CHECK(memory_mebibytes(zones, 4096) == 128);
    CHECK(memory_mebibytes("", 4096) == 0 && memory_mebibytes("\n        present  \n", 4096) == 0);
    CHECK(memory_mebibytes("\n        present  1\n", 4096) == 1);
    CHECK(memory_mebibytes("\n        present  4294967295\n", 4096) == 16777216);
}

static void test_hexadecimal(void)
{
    char text[HEX_TEXT_SIZE];
    CHECK(strcmp(hex_to_text(0, text), "0x0") == 0);
    CHECK(strcmp(hex_to_text(0x1136, text), "0x1136") == 0);
    CHECK(strcmp(hex_to_text(UINT64_MAX, text), "0xffffffffffffffff") == 0);
}

int main(void)
{
    test_what_happened();
    test_fault_addresses();
    test_selection();
    test_many_mappings_leave_the_stack_its_place();
    test_damaged();
    test_link_addresses();
    test_memory();
    test_hexadecimal();
    return CHECK_RESULT();
}
