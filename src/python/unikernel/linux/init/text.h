/* Numbers to and from text, without stdio (which would double the size of PID 1). Pure: no system calls. */
#ifndef UNIKERNEL_TEXT_H
#define UNIKERNEL_TEXT_H

#include <stdbool.h>
#include <stdint.h>

enum { NUMBER_TEXT_SIZE = 21 }; /* 2^64 - 1 has 20 digits */

/* Writes `number` in decimal into `text` and returns `text`. */
char *number_to_text(uint64_t number, char text[NUMBER_TEXT_SIZE]);

enum { HEX_TEXT_SIZE = 19 }; /* 0x and 16 digits */

/* Writes `number` in hexadecimal, with 0x in front, into `text` and returns `text`. */
char *hex_to_text(uint64_t number, char text[HEX_TEXT_SIZE]);

/* Reads decimal digits from *cursor and moves it behind them. False: no digit, or more than `maximum`. */
bool number_read(const char **cursor, uint32_t maximum, uint32_t *number);

/* If `text` begins with `prefix`, returns what follows it, else NULL. */
char *text_after(char *text, const char *prefix);

#endif
