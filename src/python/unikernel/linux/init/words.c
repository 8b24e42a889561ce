/* Argument and environment lists and their encoding; see words.h. */
#include "words.h"

#include <string.h>

bool words_add(struct word_list *list, char *word)
{
    if (list->count == WORDS_MAX)
        return false;
    list->words[list->count++] = word;
    return true;
}

/* The index of the entry with the key of `entry`, or the count if there is none. */
static size_t environment_find(const struct word_list *environment, const char *entry)
{
    size_t key_length = strcspn(entry, "=");
    size_t i = 0;
    for (; i < environment->count; i++) {
        const char *other = environment->words[i];
        if (strncmp(other, entry, key_length) == 0 && other[key_length] == '=')
            break;
    }
    return i;
}

bool environment_set(struct word_list *environment, char *entry)
{
    size_t i = environment_find(environment, entry);
    if (i == environment->count)
        return words_add(environment, entry);
    environment->words[i] = entry;
    return true;
}

bool environment_has(const struct word_list *environment, const char *entry)
{
    return environment_find(environment, entry) < environment->count;
}

char *words_begin(char *encoded)
{
    return *encoded == '\0' ? NULL : encoded;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Decodes the byte at *from (plain or %XX) into *byte. False: a % without two hexadecimal digits. */
static bool decode_byte(const char **from, char *byte)
{
    const char *at = *from;
    if (*at != '%') {
        *byte = *at;
        *from = at + 1;
        return true;
    }
    int high = hex_digit(at[1]);
    int low = high < 0 ? -1 : hex_digit(at[2]);
    if (low < 0)
        return false;
    *byte = (char)(high * 16 + low);
    *from = at + 3;
    return true;
}

enum words_next words_next(char **cursor, char **word)
{
    if (*cursor == NULL)
        return WORDS_END;
    char *start = *cursor;
    const char *from = start;
    size_t length = 0;
    bool has_nul = false;
    while (*from != '\0' && *from != ',') {
        if (!decode_byte(&from, &start[length]))
            return WORDS_MALFORMED;
        has_nul = has_nul || start[length] == '\0';
        length++;
    }
    if (has_nul && length > 1) /* %00 is the empty word; no other word can hold a NUL */
        return WORDS_MALFORMED;
    *cursor = *from == '\0' ? NULL : start + (from - start) + 1;
    start[length] = '\0';
    *word = start;
    return WORDS_FOUND;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The end of the word at `word`: spaces within double quotes belong to it (kernel: lib/cmdline.c, next_arg()). */
static const char *word_end(const char *word)
{
    bool quoted = false;
    for (; *word != '\0' && (quoted || !is_space(*word)); word++)
        if (*word == '"')
            quoted = !quoted;
    return word;
}

size_t words_after_dashes(const char *command_line)
{
    size_t count = 0;
    bool dashes = false;
    for (const char *at = command_line;;) {
        while (is_space(*at))
            at++;
        if (*at == '\0')
            return count;
        const char *end = word_end(at);
        if (dashes)
            count++;
        else
            dashes = end - at == 2 && at[0] == '-' && at[1] == '-';
        at = end;
    }
}
