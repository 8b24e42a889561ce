/* IPv4 addresses as text and as numbers (host byte order everywhere but in packets). Pure: no system calls. */
#ifndef UNIKERNEL_IPV4_H
#define UNIKERNEL_IPV4_H

#include <stdbool.h>
#include <stdint.h>

enum { IPV4_TEXT_SIZE = 16 };

/* "10.0.2.15"; nothing may follow. */
bool ipv4_parse(const char *text, uint32_t *address);

/* "10.0.2.15/24"; the prefix length is required and becomes a netmask. */
bool ipv4_parse_with_prefix(const char *text, uint32_t *address, uint32_t *netmask);

char *ipv4_to_text(uint32_t address, char text[IPV4_TEXT_SIZE]);

/* The number of leading one bits. */
unsigned ipv4_prefix_length(uint32_t netmask);

/* Ones, then zeros. */
bool ipv4_is_netmask(uint32_t netmask);

/* Can a network interface have this address: not 0.x, loopback, multicast, reserved or broadcast. */
bool ipv4_is_host(uint32_t address);

/* The netmask that an address implies where nobody says one (RFC 791 classes). */
uint32_t ipv4_classful_netmask(uint32_t address);

#endif
