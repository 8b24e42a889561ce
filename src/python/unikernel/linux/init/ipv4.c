/* IPv4 addresses as text and as numbers; see ipv4.h. */
#include "ipv4.h"

#include <stddef.h>
#include <string.h>

#include "text.h"

static bool read_address(const char **cursor, uint32_t *address)
{
    uint32_t value = 0;
    for (int part = 0; part < 4; part++) {
        uint32_t byte;
        if (part > 0 && *(*cursor)++ != '.')
            return false;
        if (!number_read(cursor, 255, &byte))
            return false;
        value = value << 8 | byte;
    }
    *address = value;
    return true;
}

bool ipv4_parse(const char *text, uint32_t *address)
{
    return read_address(&text, address) && *text == '\0';
}

bool ipv4_parse_with_prefix(const char *text, uint32_t *address, uint32_t *netmask)
{
    uint32_t prefix;
    if (!read_address(&text, address) || *text++ != '/' || !number_read(&text, 32, &prefix) || *text != '\0')
        return false;
    *netmask = prefix == 0 ? 0 : UINT32_MAX << (32 - prefix);
    return true;
}

char *ipv4_to_text(uint32_t address, char text[IPV4_TEXT_SIZE])
{
    size_t length = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        char byte[NUMBER_TEXT_SIZE];
        size_t digits = strlen(number_to_text(address >> shift & 255, byte));
        memcpy(text + length, byte, digits);
        length += digits;
        text[length++] = shift > 0 ? '.' : '\0';
    }
    return text;
}

unsigned ipv4_prefix_length(uint32_t netmask)
{
    unsigned length = 0;
    for (; netmask & UINT32_C(0x80000000); netmask <<= 1)
        length++;
    return length;
}

bool ipv4_is_netmask(uint32_t netmask)
{
    uint32_t host_bits = ~netmask;
    return netmask != 0 && (host_bits & (host_bits + 1)) == 0;
}

bool ipv4_is_host(uint32_t address)
{
    uint32_t first = address >> 24;
    return first != 0 && first != 127 && first < 224;
}

uint32_t ipv4_classful_netmask(uint32_t address)
{
    if (address >> 31 == 0)
        return UINT32_C(0xff000000);
    return address >> 30 == 2 ? UINT32_C(0xffff0000) : UINT32_C(0xffffff00);
}
