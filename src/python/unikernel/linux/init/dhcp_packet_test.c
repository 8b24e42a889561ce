/* Tests of DHCP messages, also malformed ones. Links dhcp_packet.c, ipv4.c, text.c. With `--fuzz SECONDS` it mutates
 * packets at random for that long; build it with -fsanitize=address,undefined for that. */
#include "dhcp_packet.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "check.h"

enum { TRANSACTION = 0x12345678, OPTIONS = 240 };

static const uint8_t mac[MAC_SIZE] = {0x52, 0x54, 0, 0x12, 0x34, 0x56};
static uint8_t packet[1500];
static size_t size;
static struct dhcp_reply reply;

static void begin_packet(void)
{
    static const uint8_t head[] = {2, 1, 6, 0, 0x12, 0x34, 0x56, 0x78};
    static const uint8_t address[] = {10, 0, 2, 15}, cookie[] = {0x63, 0x82, 0x53, 0x63};
    memset(packet, 0, sizeof packet);
    memcpy(packet, head, sizeof head);
    memcpy(packet + 16, address, 4);
    memcpy(packet + 28, mac, MAC_SIZE);
    memcpy(packet + 236, cookie, 4);
    size = OPTIONS;
}

static void add_bytes(const void *bytes, size_t count)
{
    memcpy(packet + size, bytes, count);
    size += count;
}

#define ADD(bytes) add_bytes(bytes, sizeof(bytes) - 1)

/* Parses a copy of exactly the packet's size, so that a sanitizer sees reads behind it. */
static bool parse(void)
{
    uint8_t *copy = malloc(size + (size == 0));
    memcpy(copy, packet, size);
    bool good = dhcp_parse(copy, size, TRANSACTION, mac, &reply);
    free(copy);
    return good;
}

static void make_ack(void)
{
    begin_packet();
    ADD("\x35\1\5" "\x36\4\x0a\0\2\2" "\1\4\xff\xff\xff\0");
    ADD("\3\10\x0a\0\2\2\x0a\0\2\3" "\6\10\x0a\0\2\3\x08\x08\x08\x08");
    ADD("\0\0" "\x0c\4box\0" "\x0f\12a.org b.eu" "\x1a\2\5\x78" "\x33\4\0\0\x0e\x10");
    ADD("\x3a\4\0\0\0\x64" "\x3b\4\0\0\3\xe8");
    ADD("\xff");
}

static void test_ack(void)
{
    make_ack();
    CHECK(parse() && reply.message == DHCP_ACK && reply.address == 0x0a00020f && reply.server == 0x0a000202);
    CHECK(reply.netmask == 0xffffff00 && reply.gateway == 0x0a000202);
    CHECK(reply.nameserver_count == 2 && reply.nameservers[1] == 0x08080808);
    CHECK(strcmp(reply.hostname, "box") == 0 && strcmp(reply.domain, "a.org b.eu") == 0 && reply.mtu == 1400);
    CHECK(reply.lease_seconds == 3600 && reply.renew_seconds == 100 && reply.rebind_seconds == 1000);
}

static void test_defaults(void)
{
    begin_packet();
    ADD("\x35\1\2" "\x33\4\0\0\x0e\x10"); /* no end option either */
    CHECK(parse() && reply.message == DHCP_OFFER && reply.netmask == 0xff000000 && reply.gateway == 0);
    CHECK(reply.renew_seconds == 1800 && reply.rebind_seconds == 3150);
    begin_packet();
    ADD("\x35\1\5\xff");
    CHECK(parse() && reply.lease_seconds == DHCP_FOREVER);
}

static void test_senseless_times(void)
{
    begin_packet();
    ADD("\x35\1\5" "\x33\4\0\0\0\x64" "\x3a\4\0\0\1\0" "\x3b\4\0\0\1\0");
    CHECK(parse() && reply.rebind_seconds == 87 && reply.renew_seconds == 50);
    begin_packet();
    ADD("\x35\1\5" "\x33\4\0\0\0\1");
    CHECK(parse() && reply.renew_seconds == 0 && reply.rebind_seconds == 0);
}

static void test_overload(void)
{
    begin_packet();
    ADD("\x35\1\5" "\x34\1\3\xff");
    memcpy(packet + 108, "\3\4\x0a\0\2\2\xff", 7);
    memcpy(packet + 44, "\1\4\xff\xff\0\0\xff", 7);
    CHECK(parse() && reply.gateway == 0x0a000202 && reply.netmask == 0xffff0000);
    packet[44 + 1] = 200; /* reaches over the end of the field */
    CHECK(!parse());
}

static void test_nak(void)
{
    begin_packet();
    memset(packet + 16, 0, 4);
    ADD("\x35\1\6\xff");
    CHECK(parse() && reply.message == DHCP_NAK);
}

static void test_not_ours(void)
{
    static const size_t offsets[] = {0, 4, 7, 28, 33, 236, 239};
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
        make_ack();
        packet[offsets[i]] ^= 1;
        CHECK(!parse());
    }
    begin_packet();
    ADD("\xff"); /* BOOTP without a message type */
    CHECK(!parse());
    begin_packet();
    ADD("\x35\1\1\xff"); /* another client's DISCOVER */
    CHECK(!parse());
}

static void test_bad_addresses(void)
{
    static const uint8_t first[] = {0, 127, 224, 255};
    for (size_t i = 0; i < sizeof first; i++) {
        make_ack();
        packet[16] = first[i];
        CHECK(!parse());
    }
    begin_packet();
    ADD("\x35\1\5" "\1\4\xff\0\xff\0" "\3\4\xff\xff\xff\xff");
    CHECK(parse() && reply.netmask == 0xff000000 && reply.gateway == 0);
}

static void test_bad_names(void)
{
    begin_packet();
    ADD("\x35\1\5" "\x0c\5a\nb c" "\x0f\7a\nnames\xff");
    CHECK(parse() && strcmp(reply.hostname, "") == 0 && strcmp(reply.domain, "") == 0);
    begin_packet();
    ADD("\x35\1\5" "\x0c\xff");
    memset(packet + size, 'a', 255);
    size += 255;
    CHECK(parse() && strlen(reply.hostname) == 255);
    begin_packet();
    ADD("\x35\1\5" "\x0c\0" "\x0f\2\0\0" "\6\3\1\2\3" "\3\2\1\2" "\x1a\1\1" "\x33\0" "\xff");
    CHECK(parse() && reply.hostname[0] == '\0' && reply.nameserver_count == 0 && reply.gateway == 0);
    CHECK(reply.mtu == 0 && reply.lease_seconds == DHCP_FOREVER);
}

static void test_truncated(void)
{
    make_ack();
    for (size_t whole = size--; size < whole; size--) {
        memset(&reply, 0xaa, sizeof reply);
        if (parse()) /* it may end between two options */
            CHECK(reply.message == DHCP_ACK && reply.address == 0x0a00020f);
        else
            CHECK(size < whole - 1);
    }
    size = OPTIONS;
    CHECK(!parse());
}

static bool find_option(const uint8_t *message, size_t length, uint8_t code, const uint8_t **value, size_t *count)
{
    for (size_t at = OPTIONS; at + 1 < length && message[at] != 255; at += 2 + (size_t)message[at + 1]) {
        if (message[at] == code) {
            *value = message + at + 2;
            *count = message[at + 1];
            return true;
        }
    }
    return false;
}

static void test_encode(void)
{
    uint8_t message[DHCP_PACKET_SIZE];
    const uint8_t *value;
    size_t count;
    struct dhcp_request request = {.message = DHCP_DISCOVER, .transaction = TRANSACTION, .mac = mac, .seconds = 258};
    CHECK(dhcp_encode(&request, message) == 300);
    CHECK(memcmp(message, "\1\1\6\0\x12\x34\x56\x78\1\2\x80\0\0\0\0\0", 16) == 0);
    CHECK(memcmp(message + 28, mac, MAC_SIZE) == 0 && memcmp(message + 236, "\x63\x82\x53\x63", 4) == 0);
    CHECK(find_option(message, 300, 53, &value, &count) && count == 1 && *value == DHCP_DISCOVER);
    CHECK(find_option(message, 300, 55, &value, &count) && count == 9);
    CHECK(!find_option(message, 300, 50, &value, &count) && !find_option(message, 300, 54, &value, &count));
    request = (struct dhcp_request){.message = DHCP_REQUEST, .mac = mac, .requested_address = 0x0a00020f,
                                    .server = 0x0a000202, .hostname = "box"};
    dhcp_encode(&request, message);
    CHECK(find_option(message, 300, 50, &value, &count) && memcmp(value, "\x0a\0\2\x0f", 4) == 0);
    CHECK(find_option(message, 300, 54, &value, &count) && memcmp(value, "\x0a\0\2\2", 4) == 0);
    CHECK(find_option(message, 300, 12, &value, &count) && count == 3 && memcmp(value, "box", 3) == 0);
    request = (struct dhcp_request){.message = DHCP_REQUEST, .mac = mac, .client_address = 0x0a00020f};
    dhcp_encode(&request, message);
    CHECK(message[10] == 0 && memcmp(message + 12, "\x0a\0\2\x0f", 4) == 0); /* no broadcast flag: reachable */
}

/* What must hold of every reply that was accepted, however it came about. */
static void check_sane(void)
{
    CHECK(reply.nameserver_count <= NAMESERVERS_MAX);
    CHECK(memchr(reply.hostname, 0, sizeof reply.hostname) && memchr(reply.domain, 0, sizeof reply.domain));
    CHECK(!strpbrk(reply.hostname, " \n") && !strchr(reply.domain, '\n'));
    if (reply.message != DHCP_NAK)
        CHECK(reply.renew_seconds <= reply.rebind_seconds && reply.rebind_seconds <= reply.lease_seconds);
}

static void fuzz(long seconds)
{
    time_t end = time(NULL) + seconds;
    unsigned long rounds = 0, accepted = 0;
    srand(1);
    for (; failed_checks == 0 && (rounds % 1024 != 0 || time(NULL) < end); rounds++) {
        make_ack();
        if (rand() % 2)
            add_bytes("\x34\1\3", 3);
        size += (size_t)(rand() % 300);
        for (int changes = rand() % 12; changes > 0; changes--) {
            size_t at = (size_t)rand() % size;
            packet[rand() % 4 ? OPTIONS + at % (size - OPTIONS) : at] = (uint8_t)(rand() % 3 ? rand() : rand() % 60);
        }
        if (rand() % 4 == 0)
            size = (size_t)rand() % (size + 1);
        if (parse()) {
            accepted++;
            check_sane();
        }
    }
    printf("%lu packets, %lu accepted\n", rounds, accepted);
}

int main(int argc, char **argv)
{
    test_ack();
    test_defaults();
    test_senseless_times();
    test_overload();
    test_nak();
    test_not_ours();
    test_bad_addresses();
    test_bad_names();
    test_truncated();
    test_encode();
    if (argc == 3 && strcmp(argv[1], "--fuzz") == 0)
        fuzz(strtol(argv[2], NULL, 10));
    return CHECK_RESULT();
}
