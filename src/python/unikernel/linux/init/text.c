/* Numbers to and from text; see text.h. */
#include "text.h"

#include <stddef.h>
#include <string.h>

char *number_to_text(uint64_t number, char text[NUMBER_TEXT_SIZE])
{
    char reversed[NUMBER_TEXT_SIZE];
    size_t digits = 0;
    do {
        reversed[digits++] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    for (size_t i = 0; i < digits; i++)
        text[i] = reversed[digits - 1 - i];
    text[digits] = '\0';
    return text;
}

char *hex_to_text(uint64_t number, char text[HEX_TEXT_SIZE])
{
    size_t digits = 1;
    while (digits < 16 && number >> (4 * digits) != 0)
        digits++;
    text[0] = '0';
    text[1] = 'x';
    for (size_t i = 0; i < digits; i++)
        text[2 + i] = "0123456789abcdef"[number >> (4 * (digits - 1 - i)) & 15];
    text[2 + digits] = '\0';
    return text;
}

bool number_read(const char **cursor, uint32_t maximum, uint32_t *number)
{
    const char *digit = *cursor;
    uint64_t value = 0;
    if (*digit < '0' || *digit > '9')
        return false;
    for (; *digit >= '0' && *digit <= '9'; digit++) {
        value = value * 10 + (uint64_t)(*digit - '0');
        if (value > maximum)
            return false;
    }
    *number = (uint32_t)value;
    *cursor = digit;
    return true;
}

char *text_after(char *text, const char *prefix)
{
    size_t length = strlen(prefix);
    return strncmp(text, prefix, length) == 0 ? text + length : NULL;
}
