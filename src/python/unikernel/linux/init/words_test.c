/* Tests of word lists, their encoding and the examination of program files. Links program_file.c, words.c. */
#include "words.h"

#include <elf.h>
#include <string.h>

#include "check.h"
#include "program_file.h"

/* Decodes and joins the words with `|`, each in <>; "malformed" if it is. */
static const char *decoded(const char *encoded)
{
    static char buffer[256], joined[512];
    char *word, *cursor;
    enum words_next next;
    snprintf(buffer, sizeof buffer, "%s", encoded);
    cursor = words_begin(buffer);
    joined[0] = '\0';
    while ((next = words_next(&cursor, &word)) == WORDS_FOUND) {
        strcat(joined, "<");
        strcat(joined, word);
        strcat(joined, ">");
    }
    return next == WORDS_MALFORMED ? "malformed" : joined;
}

static void test_decoding(void)
{
    CHECK(strcmp(decoded(""), "") == 0);
    CHECK(strcmp(decoded("%00"), "<>") == 0);
    CHECK(strcmp(decoded("%00,%00"), "<><>") == 0);
    CHECK(strcmp(decoded(","), "<><>") == 0);
    CHECK(strcmp(decoded("a,"), "<a><>") == 0);
    CHECK(strcmp(decoded("a"), "<a>") == 0);
    CHECK(strcmp(decoded("a%20b,%2C%25%22,%c3%A9"), "<a b><,%\"><\xc3\xa9>") == 0);
}

static void test_malformed(void)
{
    static const char *const encoded[] = {"%",    "a%",   "%4",   "a,%4",   "%zz", "%4g",
                                          "%%41", "a%00", "%00a", "%00%00", "% 1"};
    for (size_t i = 0; i < sizeof encoded / sizeof *encoded; i++)
        CHECK(strcmp(decoded(encoded[i]), "malformed") == 0);
}

static void test_environment(void)
{
    static struct word_list list;
    char a1[] = "A=1", ab[] = "AB=2", a2[] = "A=", b[] = "B=x=y";
    CHECK(environment_set(&list, a1) && environment_set(&list, ab) && environment_set(&list, a2));
    CHECK(environment_set(&list, b) && list.count == 3);
    CHECK(list.words[0] == a2 && list.words[1] == ab && list.words[2] == b && list.words[3] == NULL);
    CHECK(environment_has(&list, "AB=") && !environment_has(&list, "ABC=") && !environment_has(&list, "="));
}

static void test_words_after_dashes(void)
{
    CHECK(words_after_dashes("") == 0);
    CHECK(words_after_dashes("quiet nomodule\n") == 0);
    CHECK(words_after_dashes("quiet --\n") == 0);
    CHECK(words_after_dashes("quiet -- a b=c\n") == 2);
    CHECK(words_after_dashes("x=\"-- no\" --flag -- \"a b\" c=\"d e\" --  -- \n") == 4);
    CHECK(words_after_dashes("-- \"never closed ...") == 1);
}

static void test_scripts(void)
{
    char good[] = "#! /bin/sh -e\n", plain[] = "#!/bin/x\nrest", none[] = "#! \n", cut[] = "#!/bin/sh", no[] = "echo";
    char *interpreter;
    CHECK(program_examine(good, sizeof good - 1, &interpreter) == PROGRAM_SCRIPT);
    CHECK(interpreter != NULL && strcmp(interpreter, "/bin/sh") == 0);
    CHECK(program_examine(plain, sizeof plain - 1, &interpreter) == PROGRAM_SCRIPT);
    CHECK(interpreter != NULL && strcmp(interpreter, "/bin/x") == 0);
    CHECK(program_examine(none, sizeof none - 1, &interpreter) == PROGRAM_SCRIPT && interpreter == NULL);
    CHECK(program_examine(cut, sizeof cut - 1, &interpreter) == PROGRAM_SCRIPT && interpreter == NULL);
    CHECK(program_examine(no, sizeof no - 1, &interpreter) == PROGRAM_UNKNOWN && interpreter == NULL);
    CHECK(program_examine(no, 0, &interpreter) == PROGRAM_UNKNOWN);
}

enum { ELF_SIZE = 256, INTERPRETER_AT = 200 };

static void make_elf(char elf[ELF_SIZE], uint64_t interpreter_at, uint64_t interpreter_size, uint64_t segments_at)
{
    Elf64_Ehdr header = {.e_ident = ELFMAG, .e_phoff = segments_at, .e_phnum = 2};
    Elf64_Phdr segments[2] = {{.p_type = PT_LOAD},
                              {.p_type = PT_INTERP, .p_offset = interpreter_at, .p_filesz = interpreter_size}};
    header.e_ident[EI_CLASS] = ELFCLASS64;
    memset(elf, 'x', ELF_SIZE);
    memcpy(elf, &header, sizeof header);
    memcpy(elf + sizeof header, segments, sizeof segments);
    memcpy(elf + INTERPRETER_AT, "/lib/ld.so", 11);
}

static void test_elf(void)
{
    char elf[ELF_SIZE], *interpreter;
    make_elf(elf, INTERPRETER_AT, 11, sizeof(Elf64_Ehdr));
    CHECK(program_examine(elf, ELF_SIZE, &interpreter) == PROGRAM_ELF);
    CHECK(interpreter != NULL && strcmp(interpreter, "/lib/ld.so") == 0);
    for (size_t size = 4; size < INTERPRETER_AT + 11; size++) {
        make_elf(elf, INTERPRETER_AT, 11, sizeof(Elf64_Ehdr));
        CHECK(program_examine(elf, size, &interpreter) == PROGRAM_ELF && interpreter == NULL);
    }
    static const uint64_t wild[][3] = {{UINT64_MAX, 11, 64}, {200, UINT64_MAX, 64}, {200, 0, 64},
                                       {200, 11, UINT64_MAX}, {200, 11, 255},       {256, 1, 64}};
    for (size_t i = 0; i < sizeof wild / sizeof *wild; i++) {
        make_elf(elf, wild[i][0], wild[i][1], wild[i][2]);
        CHECK(program_examine(elf, ELF_SIZE, &interpreter) == PROGRAM_ELF && interpreter == NULL);
    }
}

int main(void)
{
    test_decoding();
    test_malformed();
    test_environment();
    test_words_after_dashes();
    test_scripts();
    test_elf();
    return CHECK_RESULT();
}
