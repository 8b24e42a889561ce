/* The network; see network.h. The old ioctls (netdevice(7)) do: four calls where netlink would need as many. */
#include "network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "console.h"
#include "filesystem.h"
#include "ipv4.h"
#include "monotonic.h"

enum {
    INTERFACE_WAIT_MS = 1000, /* for a driver that finds its device late */
    INTERFACE_POLL_MS = 10,
    INTERFACE_INDEX_MAX = 32,
    DHCP_WAIT_MS = 30000,
    MTU_MIN = 576, /* less breaks IPv4 in practice (RFC 791: every host can receive 576 bytes) */
};

/* What the interface is set to; zeros: to nothing. */
struct addressing {
    uint32_t address, netmask, gateway;
};

static const struct config *configuration;
static int control = -1; /* any socket takes the ioctls */
static char interface[IFNAMSIZ];
static uint8_t mac[MAC_SIZE];
static struct addressing current;
static struct dhcp_client dhcp = {.socket = -1, .deadline = DHCP_NEVER};

static void set_socket_address(struct sockaddr *target, uint32_t address)
{
    struct sockaddr_in internet = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
    memcpy(target, &internet, sizeof internet);
}

static struct ifreq request_for(const char *name)
{
    struct ifreq request;
    memset(&request, 0, sizeof request);
    memcpy(request.ifr_name, name, strlen(name) + 1);
    return request;
}

static bool bring_up(const char *name)
{
    struct ifreq request = request_for(name);
    request.ifr_flags = IFF_UP | IFF_MULTICAST; /* the others are the kernel's own or off by default */
    return ioctl(control, SIOCSIFFLAGS, &request) == 0;
}

static struct ifreq request_with_address(uint32_t address)
{
    struct ifreq request = request_for(interface);
    set_socket_address(&request.ifr_addr, address);
    return request;
}

static bool set_address(uint32_t address)
{
    struct ifreq request = request_with_address(address);
    return ioctl(control, SIOCSIFADDR, &request) == 0;
}

static bool set_netmask(uint32_t netmask)
{
    struct ifreq request = request_with_address(netmask);
    return ioctl(control, SIOCSIFNETMASK, &request) == 0;
}

/* Adds the default route, or with `host` the route to the gateway itself. */
static bool add_route(uint32_t gateway, bool host)
{
    struct rtentry route;
    memset(&route, 0, sizeof route);
    route.rt_dev = interface;
    route.rt_flags = RTF_UP | (host ? RTF_HOST : RTF_GATEWAY);
    set_socket_address(&route.rt_dst, host ? gateway : 0);
    set_socket_address(&route.rt_genmask, host ? UINT32_MAX : 0);
    set_socket_address(&route.rt_gateway, host ? 0 : gateway);
    return ioctl(control, SIOCADDRT, &route) == 0 || errno == EEXIST;
}

/* Some clouds give out /32 addresses with a gateway that is not in that network. */
static bool add_default_route(const struct addressing *wanted)
{
    bool off_link = ((wanted->gateway ^ wanted->address) & wanted->netmask) != 0;
    return (!off_link || add_route(wanted->gateway, true)) && add_route(wanted->gateway, false);
}

/* Sets address and netmask, from which the kernel derives the broadcast address (devinet_ioctl()), and the route. The
 * interface comes up in between (with DHCP it is up already): routes for each step cost time only when it is up. */
static bool set_addressing(const struct addressing *wanted)
{
    const char *failed = NULL;
    if (!set_address(wanted->address))
        failed = "set the address of ";
    else if (!set_netmask(wanted->netmask))
        failed = "set the netmask of ";
    else if (!bring_up(interface))
        failed = "bring up ";
    else if (wanted->gateway != 0 && !add_default_route(wanted))
        failed = "set the default route over ";
    if (failed != NULL) {
        console_report("cannot ", failed, interface, ": ", strerror(errno), NULL);
        return false;
    }
    current = *wanted;
    return true;
}

/* With the last address, the kernel removes the routes of the interface (fib_disable_ip()). */
static void drop_addressing(void)
{
    if (current.address != 0)
        set_address(0);
    memset(&current, 0, sizeof current);
}

static void set_mtu(uint16_t mtu)
{
    struct ifreq request = request_for(interface);
    request.ifr_mtu = mtu;
    if (mtu >= MTU_MIN && ioctl(control, SIOCSIFMTU, &request) != 0)
        console_report_error("cannot set the MTU that DHCP gave", errno);
}

/* Looks at the interface with an index; true if it is Ethernet-like. */
static bool try_interface(int index)
{
    struct ifreq request;
    memset(&request, 0, sizeof request);
    request.ifr_ifindex = index;
    if (ioctl(control, SIOCGIFNAME, &request) != 0 || ioctl(control, SIOCGIFHWADDR, &request) != 0)
        return false;
    memcpy(interface, request.ifr_name, IFNAMSIZ);
    memcpy(mac, request.ifr_hwaddr.sa_data, MAC_SIZE);
    return request.ifr_hwaddr.sa_family == ARPHRD_ETHER;
}

static bool find_interface(void)
{
    for (int waited = 0; waited <= INTERFACE_WAIT_MS; waited += INTERFACE_POLL_MS) {
        for (int index = 2; index <= INTERFACE_INDEX_MAX; index++) /* 1 is always the loopback */
            if (try_interface(index))
                return true;
        poll(NULL, 0, INTERFACE_POLL_MS);
    }
    console_report("no network interface was found; does the machine have a network card?", NULL);
    return false;
}

static size_t append_line(char *text, size_t length, const char *key, const char *value)
{
    const char *const pieces[] = {key, " ", value, "\n"};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        memcpy(text + length, pieces[i], strlen(pieces[i]));
        length += strlen(pieces[i]);
    }
    return length;
}

static void write_resolv_conf(const uint32_t *nameservers, size_t count, const char *domain)
{
    char text[DHCP_NAME_SIZE + 64 + NAMESERVERS_MAX * 32];
    char address[IPV4_TEXT_SIZE];
    size_t length = 0;
    if (count == 0)
        return;
    if (*domain != '\0')
        length = append_line(text, length, "search", domain);
    for (size_t i = 0; i < count; i++)
        length = append_line(text, length, "nameserver", ipv4_to_text(nameservers[i], address));
    /* The same as in the base layer (rootfs/base.py): a dead name server must not hold a service up for half a minute. */
    length = append_line(text, length, "options", "timeout:1 attempts:2");
    file_replace("/etc", "/etc/resolv.conf", text, length);
}

/* Applies what a lease changes; at a renewal, mostly nothing. */
static bool apply_lease(const struct dhcp_reply *lease)
{
    struct addressing wanted = {lease->address, lease->netmask, lease->gateway};
    if (memcmp(&wanted, &current, sizeof wanted) == 0)
        return true;
    drop_addressing();
    if (!set_addressing(&wanted))
        return false;
    if (lease->mtu != 0)
        set_mtu(lease->mtu);
    if (configuration->hostname == NULL && *lease->hostname != '\0')
        sethostname(lease->hostname, strlen(lease->hostname));
    if (configuration->nameserver_count == 0)
        write_resolv_conf(lease->nameservers, lease->nameserver_count, lease->domain);
    return true;
}

/* Differs between machines (by the MAC address) and boots, and never waits for entropy: AT_RANDOM (getauxval(3)) is
 * what the kernel gives every program; the first half of it guards the stack and stays unused. */
static uint32_t random_seed(void)
{
    uint32_t seed = 0, machine;
    const char *random = (const char *)getauxval(AT_RANDOM);
    if (random != NULL)
        memcpy(&seed, random + 12, sizeof seed);
    memcpy(&machine, mac + 2, sizeof machine);
    return seed ^ machine;
}

/* Sleeps until the client has something to do, `until` at the latest. */
static void wait_for_dhcp(int64_t now, int64_t until)
{
    struct pollfd socket = {.fd = dhcp.socket, .events = POLLIN};
    int64_t deadline = dhcp.deadline < until ? dhcp.deadline : until;
    if (deadline > now)
        poll(&socket, 1, (int)(deadline - now));
}

static bool start_static(void)
{
    struct addressing wanted = {configuration->address, configuration->netmask, configuration->gateway};
    return set_addressing(&wanted);
}

static bool start_dhcp(void)
{
    int error = 0;
    if (!bring_up(interface)) {
        console_report("cannot bring up ", interface, ": ", strerror(errno), NULL);
        return false;
    }
    int64_t now = monotonic_now(), until = now + DHCP_WAIT_MS;
    dhcp_init(&dhcp, interface, mac, configuration->hostname, random_seed(), now);
    for (; now < until; now = monotonic_now()) {
        if (dhcp_serve(&dhcp, now, &error) == DHCP_LEASED)
            return apply_lease(&dhcp.lease);
        wait_for_dhcp(now, until);
    }
    console_report("no DHCP server answered on ", interface, " within 30 seconds", error != 0 ? ": " : "",
                   error != 0 ? strerror(error) : "", NULL);
    return false;
}

bool network_start(const struct config *config)
{
    configuration = config;
    control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (control < 0 && (errno == ENOSYS || errno == EAFNOSUPPORT) && config->network == NETWORK_NONE)
        return true; /* the kernel was compiled without */
    /* Bringing the loopback up gives it 127.0.0.1/8 (kernel: inetdev_event()). */
    if (control < 0 || !bring_up("lo")) {
        console_report_error("cannot bring the loopback interface up", errno);
        return config->network == NETWORK_NONE; /* the application may do without */
    }
    if (config->network == NETWORK_NONE)
        return true;
    write_resolv_conf(config->nameservers, config->nameserver_count, "");
    if (!find_interface())
        return false;
    return config->network == NETWORK_STATIC ? start_static() : start_dhcp();
}

int network_socket(void)
{
    return dhcp.socket;
}

int64_t network_deadline(void)
{
    return dhcp.deadline;
}

void network_serve(void)
{
    char address[IPV4_TEXT_SIZE];
    const uint32_t before = current.address;
    int error; /* of a message that could not be sent: the client tries again by itself */
    if (dhcp.socket < 0 && dhcp.deadline == DHCP_NEVER)
        return;
    switch (dhcp_serve(&dhcp, monotonic_now(), &error)) {
    case DHCP_LEASED:
        if (apply_lease(&dhcp.lease) && current.address != before)
            console_report("the network address is now ", ipv4_to_text(current.address, address), NULL);
        break;
    case DHCP_LOST:
        drop_addressing();
        console_report("the DHCP lease of ", ipv4_to_text(before, address), " has ended; asking for a new one", NULL);
        break;
    case DHCP_NOTHING:
        break;
    }
}
