/* Argument and environment lists, and the encoding in which a VMM runner hands over further words. Pure: no system
 * calls.
 *
 * The encoding (UNIKERNEL_ARGS, UNIKERNEL_ENV): words joined with `,`; in a word, any byte may be written as %XX and
 * the bytes `%`, `,` and everything that the kernel command line cannot carry (space, quotes, control characters) must
 * be. An empty value means no words at all; an empty word is written `%00` (a word ends at its first NUL, and no other
 * word can hold one), so that one empty word is `%00` and two are `%00,%00`. */
#ifndef UNIKERNEL_WORDS_H
#define UNIKERNEL_WORDS_H

#include <stdbool.h>
#include <stddef.h>

enum { WORDS_MAX = 4096 };

struct word_list {
    size_t count;
    char *words[WORDS_MAX + 1]; /* ends with NULL, as execve wants it */
};

/* False: the list is full. */
bool words_add(struct word_list *list, char *word);

/* Adds `entry` ("KEY=value") in place of the entry with the same key, if there is one. False: the list is full. */
bool environment_set(struct word_list *environment, char *entry);

/* Whether the list has an entry with the key of `entry` ("KEY=value"). */
bool environment_has(const struct word_list *environment, const char *entry);

enum words_next { WORDS_END, WORDS_FOUND, WORDS_MALFORMED };

/* Iteration over encoded words, decoding in place: `cursor` starts as words_begin(value). */
char *words_begin(char *encoded);
enum words_next words_next(char **cursor, char **word);

/* How many words follow the word `--` of a kernel command line: those are meant for PID 1. The kernel also hands PID 1
 * each word before `--` that it does not know (`nomodule` on a kernel without modules), in front of them. */
size_t words_after_dashes(const char *command_line);

#endif
