/* A DHCP client (RFC 2131) for one interface: its states, timers and socket. It changes no address itself; whoever runs
 * it (network.c) waits for the socket and the deadline, calls dhcp_serve() and acts upon the event. */
#ifndef UNIKERNEL_DHCP_H
#define UNIKERNEL_DHCP_H

#include <stdint.h>

#include "dhcp_packet.h"

enum dhcp_state { DHCP_SELECTING, DHCP_REQUESTING, DHCP_BOUND, DHCP_RENEWING, DHCP_REBINDING };

enum dhcp_event {
    DHCP_NOTHING,
    DHCP_LEASED, /* `lease` is new, or the old one goes on: its address, gateway... may differ */
    DHCP_LOST,   /* the address must no longer be used */
};

#define DHCP_NEVER INT64_MAX

/* Times are those of monotonic.h. */
struct dhcp_client {
    const char *interface;
    const uint8_t *mac;
    const char *hostname; /* to tell the server, or NULL */
    int socket; /* -1 while no answer is awaited: the port is free, other clients' broadcasts wake nobody */
    enum dhcp_state state;
    uint32_t random;
    uint32_t transaction;
    int64_t began, requested; /* when this exchange began, when its DHCPREQUEST was first sent */
    int64_t deadline;         /* when dhcp_serve() is to be called even without a packet */
    int64_t retry_delay;
    unsigned attempts;
    int64_t renew_at, rebind_at, expires_at;
    struct dhcp_reply lease; /* offered (DHCP_REQUESTING) or held */
};

/* Makes a client that sends its first message at the first dhcp_serve(). `seed` need only differ between machines. */
void dhcp_init(struct dhcp_client *client, const char *interface, const uint8_t mac[MAC_SIZE], const char *hostname,
               uint32_t seed, int64_t now);

/* Reads what has arrived, does what is due. 0 in *error or the errno of a socket call that failed. */
enum dhcp_event dhcp_serve(struct dhcp_client *client, int64_t now, int *error);

#endif
