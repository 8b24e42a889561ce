/* The parser of PID 1's configuration; see config.h. */
#include "config.h"

#include <string.h>

#include "ipv4.h"
#include "text.h"

/* What is wrong with a value, or NULL. */
typedef const char *value_reader(struct config *config, char *value);

static const char *read_executable(struct config *config, char *value)
{
    config->executable = value;
    return *value == '/' ? NULL : "not an absolute path";
}

static const char *read_argument(struct config *config, char *value)
{
    return words_add(&config->arguments, value) ? NULL : "too many arguments";
}

static const char *read_environment(struct config *config, char *value)
{
    if (*value == '=' || strchr(value, '=') == NULL)
        return "not NAME=value";
    return environment_set(&config->environment, value) ? NULL : "too many environment variables";
}

static const char *read_workdir(struct config *config, char *value)
{
    config->workdir = value;
    return *value == '/' ? NULL : "not an absolute path";
}

static const char *read_hostname(struct config *config, char *value)
{
    config->hostname = value;
    return *value != '\0' && strlen(value) <= 64 ? NULL : "not 1 to 64 characters"; /* 64: sethostname(2) */
}

static const char *read_network(struct config *config, char *value)
{
    static const char *const names[] = {
        [NETWORK_NONE] = "none", [NETWORK_DHCP] = "dhcp", [NETWORK_STATIC] = "static"};
    for (unsigned mode = 0; mode < sizeof names / sizeof *names; mode++) {
        if (strcmp(value, names[mode]) == 0) {
            config->network = (enum network_mode)mode;
            return NULL;
        }
    }
    return "not none, dhcp or static";
}

static const char *read_address(struct config *config, char *value)
{
    if (!ipv4_parse_with_prefix(value, &config->address, &config->netmask))
        return "not an IPv4 address with a prefix length, such as 10.0.2.15/24";
    return ipv4_is_host(config->address) && config->netmask != 0 ? NULL : "not the address of a host";
}

static const char *read_gateway(struct config *config, char *value)
{
    return ipv4_parse(value, &config->gateway) && ipv4_is_host(config->gateway) ? NULL : "not an IPv4 address";
}

static const char *read_nameserver(struct config *config, char *value)
{
    uint32_t address;
    if (!ipv4_parse(value, &address))
        return "not an IPv4 address";
    if (config->nameserver_count == NAMESERVERS_MAX)
        return "more than three name servers";
    config->nameservers[config->nameserver_count++] = address;
    return NULL;
}

static const char *read_user(struct config *config, char *value)
{
    const char *cursor = value;
    /* 2^32 - 1 is no id: setuid(2) and setgid(2) take it for -1. */
    config->has_user = number_read(&cursor, UINT32_MAX - 1, &config->user) && *cursor++ == ':' &&
                       number_read(&cursor, UINT32_MAX - 1, &config->group) && *cursor == '\0';
    return config->has_user ? NULL : "not UID:GID (numbers)";
}

static const struct {
    const char *key;
    value_reader *read;
} readers[] = {
    {"exec=", read_executable},   {"arg=", read_argument},     {"env=", read_environment},
    {"workdir=", read_workdir},   {"hostname=", read_hostname}, {"network=", read_network},
    {"address=", read_address},   {"gateway=", read_gateway},  {"nameserver=", read_nameserver},
    {"user=", read_user},
};

/* False: the record is known and wrong. */
static bool read_record(struct config *config, char *record, config_problem *problem)
{
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++) {
        char *value = text_after(record, readers[i].key);
        if (value == NULL)
            continue;
        const char *wrong = readers[i].read(config, value);
        if (wrong != NULL)
            problem(record, wrong);
        return wrong == NULL;
    }
    problem(record, "unknown key (ignored)"); /* a newer build may know keys that are not vital */
    return true;
}

/* What all records together must say. */
static bool check_complete(const struct config *config, config_problem *problem)
{
    if (config->executable == NULL) {
        problem("exec=", "missing: which program is to be started?");
        return false;
    }
    if (config->network == NETWORK_STATIC && config->address == 0) {
        problem("address=", "missing, and network=static needs it");
        return false;
    }
    return true;
}

bool config_parse(char *text, size_t size, struct config *config, config_problem *problem)
{
    bool good = true;
    config->workdir = "/";
    if (size > 0 && text[size - 1] != '\0') {
        problem("", "the last record does not end with NUL: the file is truncated");
        return false;
    }
    for (char *record = text; record < text + size; record += strlen(record) + 1)
        good = read_record(config, record, problem) && good;
    return good && check_complete(config, problem);
}
