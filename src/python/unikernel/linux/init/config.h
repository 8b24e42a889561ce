/* The configuration of PID 1: NUL-terminated `key=value` records, written by the build. Pure: no system calls. */
#ifndef UNIKERNEL_CONFIG_H
#define UNIKERNEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "words.h"

enum { NAMESERVERS_MAX = 3 }; /* as many as the resolvers of C libraries read (resolv.conf(5), MAXNS) */

enum network_mode { NETWORK_NONE, NETWORK_DHCP, NETWORK_STATIC };

struct config {
    const char *executable;
    struct word_list arguments;
    struct word_list environment;
    const char *workdir;
    const char *hostname; /* NULL: not configured */
    enum network_mode network;
    uint32_t address, netmask; /* 0: not configured */
    uint32_t gateway;          /* 0: none */
    uint32_t nameservers[NAMESERVERS_MAX];
    size_t nameserver_count;
    bool has_user;
    uint32_t user, group;
    /* From the kernel command line only, each NULL when not there: the terminals of the application's output, and where
     * what is needed to explain a crash goes. */
    const char *standard_output, *standard_error, *crash;
};

/* Called for each problem with the record that has it and what is wrong with it. */
typedef void config_problem(const char *record, const char *problem);

/* Reads `size` bytes of records into `config` (which starts as all zeros and keeps pointers into `text`). False: the
 * program must not start with it; everything wrong, fatal or not, goes to `problem`. */
bool config_parse(char *text, size_t size, struct config *config, config_problem *problem);

/* Reads the value of the kernel parameter `ip=` (Documentation/admin-guide/nfs/nfsroot.rst), by which a container runtime
 * gives a unikernel its pod's address, over the network in `config`. An image without a network stays so. What is wrong
 * with it, or NULL; `config` keeps pointers into `text`, which is changed. */
const char *config_take_address(struct config *config, char *text);

#endif
