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

/* The fields of `ip=`, in the order in which they are there; the last ones may be missing. */
enum ip_field {
    IP_CLIENT,
    IP_SERVER,
    IP_GATEWAY,
    IP_NETMASK,
    IP_HOSTNAME,
    IP_DEVICE,
    IP_MODE,
    IP_DNS,
    IP_DNS_2,
    IP_NTP,
    IP_FIELDS
};

/* An address, or nothing. */
static bool read_optional_address(const char *text, uint32_t *address)
{
    return *text == '\0' || ipv4_parse(text, address);
}

static bool is_one_of(const char *text, const char *const *names)
{
    for (; *names != NULL; names++)
        if (strcmp(text, *names) == 0)
            return true;
    return false;
}

static const char *set_mode(struct config *config, const char *mode)
{
    static const char *const automatic[] = {"", "on", "any", "dhcp", "both", NULL};
    static const char *const off[] = {"off", "none", NULL};
    if (is_one_of(mode, automatic))
        config->network = NETWORK_DHCP;
    else if (is_one_of(mode, off))
        config->network = NETWORK_NONE;
    else
        return "neither an address nor dhcp, on, any, off or none";
    return NULL;
}

static const char *set_nameservers(struct config *config, char *const *fields)
{
    if (config->nameserver_count != 0) /* the image's own */
        return NULL;
    for (int i = IP_DNS; i <= IP_DNS_2; i++) {
        const char *wrong = *fields[i] != '\0' ? read_nameserver(config, fields[i]) : NULL;
        if (wrong != NULL)
            return wrong;
    }
    return NULL;
}

const char *config_take_address(struct config *config, char *text)
{
    static char nothing[] = "";
    char *fields[IP_FIELDS] = {text};
    uint32_t address = 0, gateway = 0, netmask = 0;
    if (config->network == NETWORK_NONE)
        return NULL;
    for (int i = 1; i < IP_FIELDS; i++) {
        char *end = fields[i - 1] == nothing ? NULL : strchr(fields[i - 1], ':');
        fields[i] = end != NULL ? end + 1 : nothing;
        if (end != NULL)
            *end = '\0';
    }
    if (fields[1] == nothing && !ipv4_parse(text, &address)) /* `ip=dhcp` */
        return set_mode(config, text);
    if (!read_optional_address(fields[IP_CLIENT], &address) || !read_optional_address(fields[IP_GATEWAY], &gateway) ||
        !read_optional_address(fields[IP_NETMASK], &netmask))
        return "an address in it is not an IPv4 address";
    const char *wrong = set_nameservers(config, fields);
    if (wrong != NULL)
        return wrong;
    if (*fields[IP_HOSTNAME] != '\0' && config->hostname == NULL)
        wrong = read_hostname(config, fields[IP_HOSTNAME]);
    if (wrong != NULL)
        return wrong;
    if (address == 0)
        return set_mode(config, fields[IP_MODE]);
    if (netmask == 0)
        netmask = ipv4_classful_netmask(address);
    if (!ipv4_is_host(address) || !ipv4_is_netmask(netmask) || (gateway != 0 && !ipv4_is_host(gateway)))
        return "not the address of a host, with its netmask and gateway";
    config->network = NETWORK_STATIC;
    config->address = address;
    config->gateway = gateway;
    config->netmask = netmask;
    return NULL;
}

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
