/* What kind of program a file is; see program_file.h. */
#include "program_file.h"

#include <elf.h>
#include <string.h>

/* Reads program header `index` of a 64-bit ELF file of this machine's byte order. False: there is none. */
static bool read_segment(const char *head, size_t size, size_t index, Elf64_Phdr *segment)
{
    Elf64_Ehdr elf;
    if (size < sizeof elf || memcmp(head, ELFMAG, SELFMAG) != 0 || head[EI_CLASS] != ELFCLASS64)
        return false;
    memcpy(&elf, head, sizeof elf);
    if (index >= elf.e_phnum || elf.e_phoff > size || (index + 1) * sizeof *segment > size - elf.e_phoff)
        return false;
    memcpy(segment, head + elf.e_phoff + index * sizeof *segment, sizeof *segment);
    return true;
}

/* PT_INTERP, or NULL. */
static char *elf_interpreter(char *head, size_t size)
{
    Elf64_Phdr segment;
    for (size_t i = 0; read_segment(head, size, i, &segment); i++) {
        if (segment.p_type != PT_INTERP)
            continue;
        if (segment.p_offset >= size || segment.p_filesz == 0 || segment.p_filesz > size - segment.p_offset)
            return NULL;
        head[segment.p_offset + segment.p_filesz - 1] = '\0'; /* it is NUL already in a sane file */
        return head + segment.p_offset;
    }
    return NULL;
}

/* The path after #! up to a space or the end of the line, or NULL (kernel: fs/binfmt_script.c). */
static char *script_interpreter(char *head, size_t size)
{
    size_t start = 2;
    while (start < size && (head[start] == ' ' || head[start] == '\t'))
        start++;
    size_t end = start;
    while (end < size && head[end] != ' ' && head[end] != '\t' && head[end] != '\n' && head[end] != '\0')
        end++;
    if (end == start || end == size)
        return NULL;
    head[end] = '\0';
    return head + start;
}

enum program_kind program_examine(char *head, size_t size, char **interpreter)
{
    *interpreter = NULL;
    if (size >= SELFMAG && memcmp(head, ELFMAG, SELFMAG) == 0) {
        *interpreter = elf_interpreter(head, size);
        return PROGRAM_ELF;
    }
    if (size >= 2 && head[0] == '#' && head[1] == '!') {
        *interpreter = script_interpreter(head, size);
        return PROGRAM_SCRIPT;
    }
    return PROGRAM_UNKNOWN;
}

bool program_link_address(const char *head, size_t size, uint64_t offset, uint64_t *address)
{
    Elf64_Phdr segment;
    for (size_t i = 0; read_segment(head, size, i, &segment); i++) {
        if (segment.p_type == PT_LOAD && offset >= segment.p_offset && offset - segment.p_offset < segment.p_filesz) {
            *address = offset - segment.p_offset + segment.p_vaddr;
            return true;
        }
    }
    return false;
}
