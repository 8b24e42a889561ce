/* DHCP messages (RFC 2131, RFC 2132) to and from bytes. Pure: no system calls; addresses in host byte order. */
#ifndef UNIKERNEL_DHCP_PACKET_H
#define UNIKERNEL_DHCP_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"

enum {
    DHCP_SERVER_PORT = 67,
    DHCP_CLIENT_PORT = 68,
    DHCP_PACKET_SIZE = 576, /* what every client must be able to receive and no server may exceed (RFC 2131, 2.) */
    DHCP_NAME_SIZE = 256,
    MAC_SIZE = 6,
};

enum dhcp_message { DHCP_DISCOVER = 1, DHCP_OFFER = 2, DHCP_REQUEST = 3, DHCP_ACK = 5, DHCP_NAK = 6 };

#define DHCP_FOREVER UINT32_MAX /* a lease time that never ends (RFC 2131, 3.3) */

struct dhcp_request {
    enum dhcp_message message;
    uint32_t transaction;
    const uint8_t *mac;
    uint16_t seconds;          /* since the client began to ask */
    uint32_t client_address;   /* 0: the client cannot be reached at an address yet, the answer must be a broadcast */
    uint32_t requested_address; /* 0: option absent */
    uint32_t server;           /* 0: option absent */
    const char *hostname;      /* NULL: option absent */
};

struct dhcp_reply {
    enum dhcp_message message;
    uint32_t address;
    uint32_t server;
    uint32_t netmask;
    uint32_t gateway; /* 0: none */
    uint32_t nameservers[NAMESERVERS_MAX];
    size_t nameserver_count;
    char hostname[DHCP_NAME_SIZE]; /* "": none; only letters, digits, `-`, `_` and `.` */
    char domain[DHCP_NAME_SIZE];   /* as hostname, and spaces: some servers send a search list */
    uint16_t mtu;                  /* 0: not given */
    uint32_t lease_seconds, renew_seconds, rebind_seconds;
};

/* Returns the number of bytes written. */
size_t dhcp_encode(const struct dhcp_request *request, uint8_t packet[DHCP_PACKET_SIZE]);

/* False: malformed, or not an answer to `mac` in `transaction`. */
bool dhcp_parse(const uint8_t *packet, size_t size, uint32_t transaction, const uint8_t mac[MAC_SIZE],
                struct dhcp_reply *reply);

#endif
