/* The network: loopback, the one Ethernet interface with its address and default route, /etc/resolv.conf. */
#ifndef UNIKERNEL_NETWORK_H
#define UNIKERNEL_NETWORK_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "dhcp.h"

/* Configures the network as `config` says, which must stay; with DHCP this waits for a lease. False: it could not, and
 * has said why. */
bool network_start(const struct config *config);

/* Keeping the lease while the application runs: when the socket (-1: none) can be read, or the deadline (DHCP_NEVER:
 * none; times are those of monotonic.h) has come, network_serve() is to be called. */
int network_socket(void);
int64_t network_deadline(void);
void network_serve(void);

#endif
