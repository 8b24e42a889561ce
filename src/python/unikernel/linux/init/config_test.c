/* Tests of the configuration parser, of IPv4 text and of numbers. Links config.c, ipv4.c, text.c, words.c. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "ipv4.h"
#include "text.h"

static struct config config;
static char record_with_problem[256];
static unsigned problems;

static void note_problem(const char *record, const char *problem)
{
    (void)problem;
    problems++;
    snprintf(record_with_problem, sizeof record_with_problem, "%s", record);
}

/* Parses a copy that ends exactly where the records end, so that a sanitizer sees reads behind them. */
static bool parse_bytes(const char *records, size_t size)
{
    static char *text;
    free(text);
    text = malloc(size + (size == 0));
    memcpy(text, records, size);
    memset(&config, 0, sizeof config);
    problems = 0;
    return config_parse(text, size, &config, note_problem);
}

#define PARSE(records) parse_bytes(records, sizeof(records)) /* with the literal's own NUL as the last one */

static void test_everything(void)
{
    CHECK(PARSE("exec=/bin/app\0arg=app\0arg=\0arg=a=b c\0env=K=V\0env=E=\0workdir=/srv\0hostname=box\0"
                "network=static\0address=10.0.2.15/24\0gateway=10.0.2.2\0nameserver=1.2.3.4\0nameserver=9.9.9.9\0"
                "user=1000:100"));
    CHECK(problems == 0);
    CHECK(strcmp(config.executable, "/bin/app") == 0);
    CHECK(config.arguments.count == 3 && config.arguments.words[3] == NULL);
    CHECK(strcmp(config.arguments.words[1], "") == 0 && strcmp(config.arguments.words[2], "a=b c") == 0);
    CHECK(config.environment.count == 2 && strcmp(config.environment.words[1], "E=") == 0);
    CHECK(strcmp(config.workdir, "/srv") == 0 && strcmp(config.hostname, "box") == 0);
    CHECK(config.network == NETWORK_STATIC && config.address == 0x0a00020f && config.netmask == 0xffffff00);
    CHECK(config.gateway == 0x0a000202);
    CHECK(config.nameserver_count == 2 && config.nameservers[0] == 0x01020304);
    CHECK(config.has_user && config.user == 1000 && config.group == 100);
}

static void test_defaults(void)
{
    CHECK(PARSE("exec=/a"));
    CHECK(strcmp(config.workdir, "/") == 0 && config.hostname == NULL && config.network == NETWORK_NONE);
    CHECK(!config.has_user && config.arguments.count == 0 && config.environment.count == 0);
}

/* What the image says, and what `ip=` then makes of it. */
static const char *take_address(const char *parameter)
{
    static char text[256];
    PARSE("exec=/a\0network=dhcp\0nameserver=9.9.9.9");
    snprintf(text, sizeof text, "%s", parameter);
    return config_take_address(&config, text);
}

static void test_address_of_the_command_line(void)
{
    CHECK(take_address("10.1.2.3::10.1.2.1:255.255.255.0:urunc:eth0:off") == NULL);
    CHECK(config.network == NETWORK_STATIC && config.address == 0x0a010203 && config.gateway == 0x0a010201);
    CHECK(config.netmask == 0xffffff00 && strcmp(config.hostname, "urunc") == 0);
    CHECK(config.nameserver_count == 1 && config.nameservers[0] == 0x09090909);
    CHECK(take_address("10.1.2.3") == NULL && config.network == NETWORK_STATIC && config.netmask == 0xff000000);
    CHECK(config.gateway == 0 && config.hostname == NULL);
    CHECK(take_address("10.1.2.3::::::off:8.8.8.8:8.8.4.4:1.1.1.1:") == NULL && config.nameserver_count == 1);
    CHECK(take_address("dhcp") == NULL && config.network == NETWORK_DHCP);
    CHECK(take_address(":::::eth0:dhcp") == NULL && config.network == NETWORK_DHCP);
    CHECK(take_address("off") == NULL && config.network == NETWORK_NONE);
    CHECK(take_address("") == NULL && config.network == NETWORK_DHCP);
}

static void test_name_servers_of_the_command_line(void)
{
    char text[] = "10.1.2.3::10.1.2.1:255.255.255.0:::off:8.8.8.8:8.8.4.4";
    PARSE("exec=/a\0network=dhcp\0hostname=box");
    CHECK(config_take_address(&config, text) == NULL);
    CHECK(config.nameserver_count == 2 && config.nameservers[1] == 0x08080404 && strcmp(config.hostname, "box") == 0);
}

static void test_image_without_a_network_stays_so(void)
{
    char text[] = "10.1.2.3::10.1.2.1:255.255.255.0:urunc:eth0:off";
    PARSE("exec=/a");
    CHECK(config_take_address(&config, text) == NULL && config.network == NETWORK_NONE && config.address == 0);
}

static void test_wrong_addresses_of_the_command_line(void)
{
    static const char *const wrong[] = {
        "bootp", "10.1.2", "10.1.2.3::x", "10.1.2.3:::255.0.255.0", "127.0.0.1:::255.0.0.0", "10.1.2.3::224.0.0.1:255.0.0.0",
        "::::::never"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK(take_address(wrong[i]) != NULL);
    CHECK(config.network == NETWORK_DHCP);
}

static void test_later_variable_wins(void)
{
    CHECK(PARSE("exec=/a\0env=A=1\0env=AB=2\0env=A=3"));
    CHECK(config.environment.count == 2 && strcmp(config.environment.words[0], "A=3") == 0);
}

static void test_unknown_key_is_no_error(void)
{
    CHECK(PARSE("exec=/a\0colour=blue"));
    CHECK(problems == 1 && strcmp(record_with_problem, "colour=blue") == 0);
    CHECK(PARSE("exec=/a\0") && problems == 1); /* an empty record */
}

static void test_incomplete(void)
{
    CHECK(!parse_bytes("", 0));
    CHECK(!PARSE("arg=a"));
    CHECK(!parse_bytes("exec=/a", 7));
    CHECK(!PARSE("exec=/a\0network=static"));
}

static void test_wrong_values(void)
{
    static const char *const records[] = {
        "exec=app", "exec=", "workdir=srv", "hostname=", "network=", "network=auto", "address=10.0.2.15",
        "address=10.0.2.15/33", "address=10.0.2.15/0", "address=127.0.0.1/8", "address=1.2.3/24", "address=1.2.3.4/24 ",
        "gateway=", "gateway=1.2.3.256", "nameserver=dns", "user=", "user=root", "user=1", "user=1:", "user=1:2:3",
        "user=4294967295:1", "user=-1:1", "env=A", "env==x",
        "hostname=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    for (size_t i = 0; i < sizeof records / sizeof *records; i++) {
        char text[128] = "exec=/a";
        size_t size = strlen(records[i]) + 1;
        memcpy(text + 8, records[i], size);
        CHECK(!parse_bytes(text, 8 + size));
        CHECK(problems == 1 && strcmp(record_with_problem, records[i]) == 0);
    }
    CHECK(!PARSE("exec=/a\0nameserver=1.1.1.1\0nameserver=1.1.1.2\0nameserver=1.1.1.3\0nameserver=1.1.1.4"));
}

static void test_too_many_arguments(void)
{
    enum { COUNT = WORDS_MAX + 1, SIZE = 6 };
    static char text[8 + COUNT * SIZE];
    memcpy(text, "exec=/a", 8);
    for (size_t i = 0; i < COUNT; i++)
        memcpy(text + 8 + i * SIZE, "arg=x", SIZE);
    CHECK(parse_bytes(text, sizeof text - SIZE));
    CHECK(config.arguments.count == WORDS_MAX && config.arguments.words[WORDS_MAX] == NULL);
    CHECK(!parse_bytes(text, sizeof text));
}

static void test_ipv4(void)
{
    char text[IPV4_TEXT_SIZE];
    uint32_t address, netmask;
    CHECK(ipv4_parse("255.255.255.255", &address) && address == UINT32_MAX);
    CHECK(strcmp(ipv4_to_text(UINT32_MAX, text), "255.255.255.255") == 0);
    CHECK(strcmp(ipv4_to_text(0x0a000203, text), "10.0.2.3") == 0);
    CHECK(!ipv4_parse("1.2.3.4.5", &address) && !ipv4_parse("1..2.3", &address) && !ipv4_parse("", &address));
    CHECK(ipv4_parse_with_prefix("10.1.2.3/32", &address, &netmask) && netmask == UINT32_MAX);
    CHECK(ipv4_is_netmask(0xfffff000) && ipv4_is_netmask(UINT32_MAX));
    CHECK(!ipv4_is_netmask(0) && !ipv4_is_netmask(0xff00ff00) && !ipv4_is_netmask(0x000000ff));
    CHECK(ipv4_is_host(0x0a000001) && !ipv4_is_host(0x7f000001) && !ipv4_is_host(0xe0000001) && !ipv4_is_host(1));
    CHECK(ipv4_classful_netmask(0x0a000001) == 0xff000000 && ipv4_classful_netmask(0xac100001) == 0xffff0000);
    CHECK(ipv4_classful_netmask(0xc0a80001) == 0xffffff00);
}

static void test_numbers(void)
{
    char text[NUMBER_TEXT_SIZE];
    const char *cursor = "4294967295x";
    uint32_t number;
    CHECK(strcmp(number_to_text(0, text), "0") == 0);
    CHECK(strcmp(number_to_text(UINT64_MAX, text), "18446744073709551615") == 0);
    CHECK(number_read(&cursor, UINT32_MAX, &number) && number == UINT32_MAX && *cursor == 'x');
    cursor = "99999999999999999999999999";
    CHECK(!number_read(&cursor, UINT32_MAX, &number));
    cursor = "-1";
    CHECK(!number_read(&cursor, UINT32_MAX, &number));
}

int main(void)
{
    test_everything();
    test_defaults();
    test_address_of_the_command_line();
    test_name_servers_of_the_command_line();
    test_image_without_a_network_stays_so();
    test_wrong_addresses_of_the_command_line();
    test_later_variable_wins();
    test_unknown_key_is_no_error();
    test_incomplete();
    test_wrong_values();
    test_too_many_arguments();
    test_ipv4();
    test_numbers();
    return CHECK_RESULT();
}
