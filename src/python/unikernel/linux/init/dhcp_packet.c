/* DHCP messages to and from bytes; see dhcp_packet.h. */
#include "dhcp_packet.h"

#include <string.h>

#include "ipv4.h"

/* Offsets of the fixed part (RFC 2131, figure 1). */
enum {
    AT_OP = 0,
    AT_HARDWARE_TYPE = 1,
    AT_HARDWARE_LENGTH = 2,
    AT_TRANSACTION = 4,
    AT_SECONDS = 8,
    AT_FLAGS = 10,
    AT_CLIENT_ADDRESS = 12,
    AT_YOUR_ADDRESS = 16,
    AT_HARDWARE_ADDRESS = 28,
    AT_SERVER_NAME = 44,
    AT_FILE = 108,
    AT_COOKIE = 236,
    AT_OPTIONS = 240,
    MINIMUM_SIZE = 300, /* of a BOOTP message: relays drop what is shorter (RFC 1542, 2.1) */
};

enum { BOOT_REQUEST = 1, BOOT_REPLY = 2, HARDWARE_ETHERNET = 1, BROADCAST_FLAG = 0x8000 };

#define COOKIE UINT32_C(0x63825363)

/* Option codes (RFC 2132). */
enum {
    OPTION_PAD = 0,
    OPTION_NETMASK = 1,
    OPTION_ROUTER = 3,
    OPTION_NAMESERVER = 6,
    OPTION_HOSTNAME = 12,
    OPTION_DOMAIN = 15,
    OPTION_MTU = 26,
    OPTION_REQUESTED_ADDRESS = 50,
    OPTION_LEASE_TIME = 51,
    OPTION_OVERLOAD = 52,
    OPTION_MESSAGE = 53,
    OPTION_SERVER = 54,
    OPTION_WANTED = 55,
    OPTION_MAXIMUM_SIZE = 57,
    OPTION_RENEW_TIME = 58,
    OPTION_REBIND_TIME = 59,
    OPTION_END = 255,
};

static void put16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
    put16(at, (uint16_t)(value >> 16));
    put16(at + 2, (uint16_t)value);
}

static uint16_t get16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)get16(at) << 16 | get16(at + 2);
}

static uint8_t *put_option(uint8_t *at, uint8_t code, const void *value, size_t size)
{
    at[0] = code;
    at[1] = (uint8_t)size;
    memcpy(at + 2, value, size);
    return at + 2 + size;
}

static uint8_t *put_address_option(uint8_t *at, uint8_t code, uint32_t address)
{
    uint8_t bytes[4];
    if (address == 0)
        return at;
    put32(bytes, address);
    return put_option(at, code, bytes, sizeof bytes);
}

static uint8_t *put_options(uint8_t *at, const struct dhcp_request *request)
{
    static const uint8_t wanted[] = {OPTION_NETMASK,    OPTION_ROUTER,     OPTION_NAMESERVER,
                                     OPTION_HOSTNAME,   OPTION_DOMAIN,     OPTION_MTU,
                                     OPTION_LEASE_TIME, OPTION_RENEW_TIME, OPTION_REBIND_TIME};
    uint8_t message = (uint8_t)request->message;
    uint8_t maximum_size[2];
    put16(maximum_size, DHCP_PACKET_SIZE);
    at = put_option(at, OPTION_MESSAGE, &message, 1);
    at = put_address_option(at, OPTION_REQUESTED_ADDRESS, request->requested_address);
    at = put_address_option(at, OPTION_SERVER, request->server);
    at = put_option(at, OPTION_MAXIMUM_SIZE, maximum_size, sizeof maximum_size);
    at = put_option(at, OPTION_WANTED, wanted, sizeof wanted);
    if (request->hostname != NULL && strlen(request->hostname) <= 64)
        at = put_option(at, OPTION_HOSTNAME, request->hostname, strlen(request->hostname));
    *at++ = OPTION_END;
    return at;
}

size_t dhcp_encode(const struct dhcp_request *request, uint8_t packet[DHCP_PACKET_SIZE])
{
    memset(packet, 0, DHCP_PACKET_SIZE);
    packet[AT_OP] = BOOT_REQUEST;
    packet[AT_HARDWARE_TYPE] = HARDWARE_ETHERNET;
    packet[AT_HARDWARE_LENGTH] = MAC_SIZE;
    put32(packet + AT_TRANSACTION, request->transaction);
    put16(packet + AT_SECONDS, request->seconds);
    put16(packet + AT_FLAGS, request->client_address == 0 ? BROADCAST_FLAG : 0);
    put32(packet + AT_CLIENT_ADDRESS, request->client_address);
    memcpy(packet + AT_HARDWARE_ADDRESS, request->mac, MAC_SIZE);
    put32(packet + AT_COOKIE, COOKIE);
    size_t size = (size_t)(put_options(packet + AT_OPTIONS, request) - packet);
    return size < MINIMUM_SIZE ? MINIMUM_SIZE : size;
}

static bool is_name_character(uint8_t c, bool spaces)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_' ||
           c == '.' || (c == ' ' && spaces);
}

/* A name goes into files and system calls: one with any strange byte is dropped as a whole. */
static void get_name(char name[DHCP_NAME_SIZE], const uint8_t *value, size_t size, bool spaces)
{
    while (size > 0 && value[size - 1] == '\0') /* some servers count a terminating NUL (RFC 2132, 2.) */
        size--;
    for (size_t i = 0; i < size; i++)
        if (!is_name_character(value[i], spaces))
            size = 0;
    memcpy(name, value, size); /* size is at most 255 */
    name[size] = '\0';
}

static void get_nameservers(struct dhcp_reply *reply, const uint8_t *value, size_t size)
{
    reply->nameserver_count = 0;
    for (size_t at = 0; at + 4 <= size && reply->nameserver_count < NAMESERVERS_MAX; at += 4)
        reply->nameservers[reply->nameserver_count++] = get32(value + at);
}

static void get_number_option(struct dhcp_reply *reply, uint8_t code, uint32_t value)
{
    switch (code) {
    case OPTION_NETMASK:
        reply->netmask = ipv4_is_netmask(value) ? value : 0;
        break;
    case OPTION_ROUTER:
        reply->gateway = ipv4_is_host(value) ? value : 0;
        break;
    case OPTION_SERVER:
        reply->server = value;
        break;
    case OPTION_LEASE_TIME:
        reply->lease_seconds = value;
        break;
    case OPTION_RENEW_TIME:
        reply->renew_seconds = value;
        break;
    case OPTION_REBIND_TIME:
        reply->rebind_seconds = value;
        break;
    default:
        break;
    }
}

/* Takes one option; those with a size that their meaning does not allow are as good as absent. */
static void get_option(struct dhcp_reply *reply, uint8_t *overload, uint8_t code, const uint8_t *value, size_t size)
{
    if (code == OPTION_MESSAGE && size == 1)
        reply->message = (enum dhcp_message)value[0];
    else if (code == OPTION_OVERLOAD && size == 1)
        *overload = value[0];
    else if (code == OPTION_HOSTNAME)
        get_name(reply->hostname, value, size, false);
    else if (code == OPTION_DOMAIN)
        get_name(reply->domain, value, size, true);
    else if (code == OPTION_NAMESERVER)
        get_nameservers(reply, value, size);
    else if (code == OPTION_MTU && size == 2)
        reply->mtu = get16(value);
    else if (size == 4 || (code == OPTION_ROUTER && size > 4))
        get_number_option(reply, code, get32(value));
}

/* False: an option reaches over the end. A missing end option is tolerated. */
static bool get_options(struct dhcp_reply *reply, uint8_t *overload, const uint8_t *options, size_t size)
{
    size_t at = 0;
    while (at < size && options[at] != OPTION_END) {
        if (options[at] == OPTION_PAD) {
            at++;
            continue;
        }
        if (size - at < 2 || size - at - 2 < options[at + 1])
            return false;
        get_option(reply, overload, options[at], options + at + 2, options[at + 1]);
        at += 2 + (size_t)options[at + 1];
    }
    return true;
}

/* The option field, then the fields that it says hold further options (RFC 2131, 4.1). */
static bool get_all_options(struct dhcp_reply *reply, const uint8_t *packet, size_t size)
{
    uint8_t overload = 0, ignored = 0;
    if (!get_options(reply, &overload, packet + AT_OPTIONS, size - AT_OPTIONS))
        return false;
    if (overload & 1 && !get_options(reply, &ignored, packet + AT_FILE, AT_COOKIE - AT_FILE))
        return false;
    return !(overload & 2) || get_options(reply, &ignored, packet + AT_SERVER_NAME, AT_FILE - AT_SERVER_NAME);
}

/* The defaults of RFC 2131, 4.4.5, also where the server's times make no sense. */
static void complete_times(struct dhcp_reply *reply)
{
    if (reply->lease_seconds == 0)
        reply->lease_seconds = DHCP_FOREVER;
    if (reply->rebind_seconds == 0 || reply->rebind_seconds >= reply->lease_seconds)
        reply->rebind_seconds = (uint32_t)((uint64_t)reply->lease_seconds * 7 / 8);
    if (reply->renew_seconds == 0 || reply->renew_seconds > reply->rebind_seconds)
        reply->renew_seconds = reply->lease_seconds / 2 < reply->rebind_seconds ? reply->lease_seconds / 2
                                                                               : reply->rebind_seconds;
}

static bool is_answer(const uint8_t *packet, size_t size, uint32_t transaction, const uint8_t mac[MAC_SIZE])
{
    return size >= AT_OPTIONS && packet[AT_OP] == BOOT_REPLY && get32(packet + AT_COOKIE) == COOKIE &&
           get32(packet + AT_TRANSACTION) == transaction &&
           memcmp(packet + AT_HARDWARE_ADDRESS, mac, MAC_SIZE) == 0;
}

bool dhcp_parse(const uint8_t *packet, size_t size, uint32_t transaction, const uint8_t mac[MAC_SIZE],
                struct dhcp_reply *reply)
{
    memset(reply, 0, sizeof *reply);
    if (!is_answer(packet, size, transaction, mac) || !get_all_options(reply, packet, size))
        return false;
    if (reply->message == DHCP_NAK)
        return true;
    reply->address = get32(packet + AT_YOUR_ADDRESS);
    if (!ipv4_is_host(reply->address) || (reply->message != DHCP_OFFER && reply->message != DHCP_ACK))
        return false;
    if (reply->netmask == 0)
        reply->netmask = ipv4_classful_netmask(reply->address);
    complete_times(reply);
    return true;
}
