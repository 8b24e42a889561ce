/* A DHCP client; see dhcp.h. An ordinary UDP socket does: Linux sends to 255.255.255.255 from an interface without an
 * address when the socket is bound to it, and hands over answers to that address, which the broadcast flag asks for. */
#include "dhcp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    FIRST_RETRY_MS = 500, /* RFC 2131, 4.1 says 4 s, for networks of 1997; here the server is most often the VMM */
    LAST_RETRY_MS = 8000,
    REQUEST_ATTEMPTS = 4,
    RENEW_RETRY_MS = 60000, /* RFC 2131, 4.4.5: at least 60 s between attempts to renew */
};

static uint32_t next_random(struct dhcp_client *client)
{
    client->random ^= client->random << 13;
    client->random ^= client->random >> 17;
    client->random ^= client->random << 5;
    return client->random;
}

static bool bind_socket(int socket, const char *interface)
{
    const int on = 1;
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(DHCP_CLIENT_PORT)};
    return setsockopt(socket, SOL_SOCKET, SO_BINDTODEVICE, interface, (socklen_t)strlen(interface) + 1) == 0 &&
           setsockopt(socket, SOL_SOCKET, SO_BROADCAST, &on, sizeof on) == 0 &&
           setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
           bind(socket, (struct sockaddr *)&any, sizeof any) == 0;
}

static void close_socket(struct dhcp_client *client)
{
    if (client->socket >= 0)
        close(client->socket);
    client->socket = -1;
}

static bool open_socket(struct dhcp_client *client)
{
    if (client->socket >= 0)
        return true;
    client->socket = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (client->socket >= 0 && bind_socket(client->socket, client->interface))
        return true;
    int error = errno;
    close_socket(client);
    errno = error;
    return false;
}

/* The message of the current state (RFC 2131, table 4 says which fields it has). */
static struct dhcp_request current_message(const struct dhcp_client *client, int64_t now)
{
    int64_t seconds = (now - client->began) / 1000;
    bool holds_address = client->state == DHCP_RENEWING || client->state == DHCP_REBINDING;
    bool chose_offer = client->state == DHCP_REQUESTING;
    return (struct dhcp_request){
        .message = client->state == DHCP_SELECTING ? DHCP_DISCOVER : DHCP_REQUEST,
        .transaction = client->transaction,
        .mac = client->mac,
        .seconds = (uint16_t)(seconds < UINT16_MAX ? seconds : UINT16_MAX),
        .client_address = holds_address ? client->lease.address : 0,
        .requested_address = chose_offer ? client->lease.address : 0,
        .server = chose_offer ? client->lease.server : 0,
        .hostname = client->hostname,
    };
}

/* An error is no reason to give up (the link may come up later): the message is sent again anyway. */
static int send_message(struct dhcp_client *client, int64_t now)
{
    struct dhcp_request request = current_message(client, now);
    uint8_t packet[DHCP_PACKET_SIZE];
    size_t size = dhcp_encode(&request, packet);
    bool unicast = client->state == DHCP_RENEWING;
    struct sockaddr_in to = {
        .sin_family = AF_INET,
        .sin_port = htons(DHCP_SERVER_PORT),
        .sin_addr.s_addr = htonl(unicast ? client->lease.server : INADDR_BROADCAST),
    };
    if (!open_socket(client) ||
        sendto(client->socket, packet, size, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof to) < 0)
        return errno;
    return 0;
}

static void enter(struct dhcp_client *client, enum dhcp_state state, int64_t now)
{
    client->state = state;
    client->attempts = 0;
    client->retry_delay = FIRST_RETRY_MS;
    client->deadline = now;
}

static void begin_exchange(struct dhcp_client *client, enum dhcp_state state, int64_t now)
{
    enter(client, state, now);
    client->transaction = next_random(client);
    client->began = client->requested = now;
}

void dhcp_init(struct dhcp_client *client, const char *interface, const uint8_t mac[MAC_SIZE], const char *hostname,
               uint32_t seed, int64_t now)
{
    memset(client, 0, sizeof *client);
    client->interface = interface;
    client->mac = mac;
    client->hostname = hostname;
    client->socket = -1;
    client->random = seed | 1; /* xorshift never leaves 0 */
    begin_exchange(client, DHCP_SELECTING, now);
}

/* When to send again: exponential back-off with some randomness (RFC 2131, 4.1), or half of the time that is left to
 * the next state (4.4.5). */
static void schedule_retry(struct dhcp_client *client, int64_t now)
{
    if (client->state == DHCP_RENEWING || client->state == DHCP_REBINDING) {
        int64_t next_state = client->state == DHCP_RENEWING ? client->rebind_at : client->expires_at;
        int64_t half = (next_state - now) / 2;
        int64_t retry = now + (half > RENEW_RETRY_MS ? half : RENEW_RETRY_MS);
        client->deadline = retry < next_state ? retry : next_state;
        return;
    }
    client->deadline = now + client->retry_delay + (int64_t)next_random(client) % (client->retry_delay / 8);
    client->retry_delay = client->retry_delay * 2 < LAST_RETRY_MS ? client->retry_delay * 2 : LAST_RETRY_MS;
}

static int64_t after_seconds(int64_t start, uint32_t seconds)
{
    return start + (int64_t)seconds * 1000;
}

static void bound(struct dhcp_client *client, const struct dhcp_reply *reply)
{
    uint32_t server = client->lease.server;
    client->lease = *reply;
    if (client->lease.server == 0)
        client->lease.server = server;
    client->state = DHCP_BOUND;
    client->deadline = DHCP_NEVER;
    close_socket(client);
    if (reply->lease_seconds == DHCP_FOREVER)
        return;
    client->renew_at = after_seconds(client->requested, reply->renew_seconds);
    client->rebind_at = after_seconds(client->requested, reply->rebind_seconds);
    client->expires_at = after_seconds(client->requested, reply->lease_seconds);
    client->deadline = client->renew_at;
}

static enum dhcp_event take_reply(struct dhcp_client *client, const struct dhcp_reply *reply, int64_t now)
{
    if (client->state == DHCP_SELECTING) {
        if (reply->message != DHCP_OFFER || reply->server == 0)
            return DHCP_NOTHING;
        client->lease = *reply;
        client->requested = now;
        enter(client, DHCP_REQUESTING, now);
        return DHCP_NOTHING;
    }
    if (reply->message == DHCP_ACK) {
        bound(client, reply);
        return DHCP_LEASED;
    }
    if (reply->message == DHCP_NAK) {
        bool had_address = client->state != DHCP_REQUESTING;
        begin_exchange(client, DHCP_SELECTING, now);
        client->deadline = now + FIRST_RETRY_MS; /* no endless quick loop with a server that offers and refuses */
        return had_address ? DHCP_LOST : DHCP_NOTHING;
    }
    return DHCP_NOTHING; /* another server's offer */
}

static enum dhcp_event receive(struct dhcp_client *client, int64_t now)
{
    uint8_t packet[1500];
    ssize_t size;
    while (client->socket >= 0 && (size = recv(client->socket, packet, sizeof packet, MSG_DONTWAIT)) >= 0) {
        struct dhcp_reply reply;
        if (!dhcp_parse(packet, (size_t)size, client->transaction, client->mac, &reply))
            continue;
        enum dhcp_event event = take_reply(client, &reply, now);
        if (event != DHCP_NOTHING || client->deadline <= now)
            return event; /* there is something to do before the next packet */
    }
    return DHCP_NOTHING;
}

/* Moves on from a state whose time is over. */
static enum dhcp_event expire(struct dhcp_client *client, int64_t now)
{
    if (client->state == DHCP_REQUESTING && client->attempts == REQUEST_ATTEMPTS) {
        begin_exchange(client, DHCP_SELECTING, now);
    } else if (client->state == DHCP_BOUND) {
        begin_exchange(client, DHCP_RENEWING, now);
    } else if (client->state == DHCP_RENEWING && now >= client->rebind_at) {
        enter(client, DHCP_REBINDING, now);
    } else if (client->state == DHCP_REBINDING && now >= client->expires_at) {
        begin_exchange(client, DHCP_SELECTING, now);
        return DHCP_LOST;
    }
    return DHCP_NOTHING;
}

enum dhcp_event dhcp_serve(struct dhcp_client *client, int64_t now, int *error)
{
    *error = 0;
    enum dhcp_event event = receive(client, now);
    if (event == DHCP_NOTHING && now >= client->deadline) {
        event = expire(client, now);
        if (event != DHCP_NOTHING)
            return event; /* the caller takes the address away before the next message is sent */
        *error = send_message(client, now);
        client->attempts++;
        schedule_retry(client, now);
    }
    return event;
}
