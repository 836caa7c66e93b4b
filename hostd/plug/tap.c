/* SPDX-License-Identifier: Apache-2.0 */
#include "hostd/plug/tap.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/if_ether.h>
#include <netpacket/packet.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/util.h"

static int flags_of(const char *tap, int *ret_fd, struct ifreq *ret, struct err *err)
{
        _cleanup_(closep) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        if (fd < 0)
                return err_set(err, -errno, "tap %s: socket: %s", tap, strerror(errno));
        memset(ret, 0, sizeof(*ret));
        snprintf(ret->ifr_name, sizeof(ret->ifr_name), "%s", tap);
        if (ioctl(fd, SIOCGIFFLAGS, ret) < 0)
                return err_set(err, -errno, "tap %s: %s", tap, strerror(errno));
        *ret_fd = take_fd(&fd);
        return 0;
}

bool tap_is_up(const char *tap)
{
        _cleanup_(closep) int fd = -1;
        struct ifreq req;

        return flags_of(tap, &fd, &req, NULL) == 0 && req.ifr_flags & IFF_UP;
}

int tap_set(const char *tap, bool up, struct err *err)
{
        _cleanup_(closep) int fd = -1;
        struct ifreq req;
        int r = flags_of(tap, &fd, &req, err);

        if (r < 0)
                return r;
        if (!(req.ifr_flags & IFF_UP) == !up)
                return 0;
        req.ifr_flags ^= IFF_UP;
        if (ioctl(fd, SIOCSIFFLAGS, &req) < 0)
                return err_set(err, -errno, "tap %s: cannot be set %s: %s", tap, up ? "up" : "down",
                               strerror(errno));
        return 1;
}

/* The names that plug_tap() gives, and no others: other programs' guests may be on the same bridge. */
static bool is_ours(const char *name)
{
        if (strncmp(name, "wh", 2) != 0 || strlen(name) != 14)
                return false;
        for (const char *p = name + 2; *p; p++)
                if (!isxdigit((unsigned char)*p))
                        return false;
        return true;
}

static int ports_open(const char *bridge, DIR **ret, struct err *err)
{
        char path[64];

        snprintf(path, sizeof(path), "/sys/class/net/%s/brif", bridge);
        *ret = opendir(path);
        return *ret ? 0 : err_set(err, -errno, "bridge %s: %s: %s", bridge, path, strerror(errno));
}

int tap_each(const char *bridge, void (*on)(void *arg, const char *tap), void *arg, struct err *err)
{
        const struct dirent *e;
        DIR *dir;
        int r = ports_open(bridge, &dir, err);

        if (r < 0)
                return r;
        while ((e = readdir(dir)))
                if (is_ours(e->d_name))
                        on(arg, e->d_name);
        closedir(dir);
        return 0;
}

/* A port that is down has no carrier either: the kernel does not let it be read then. */
static bool has_carrier(const char *port)
{
        _cleanup_(freep) char *text = NULL;
        char path[64 + IF_NAMESIZE];

        snprintf(path, sizeof(path), "/sys/class/net/%.15s/carrier", port);
        return file_read(path, 16, &text, NULL, NULL) == 0 && text[0] == '1';
}

int tap_uplinks(const char *bridge, unsigned *ret_ports, unsigned *ret_carriers, struct err *err)
{
        unsigned ports = 0, carriers = 0;
        const struct dirent *e;
        DIR *dir;
        int r = ports_open(bridge, &dir, err);

        if (r < 0)
                return r;
        while ((e = readdir(dir))) {
                char path[64 + IF_NAMESIZE];

                snprintf(path, sizeof(path), "/sys/class/net/%.15s/tun_flags", e->d_name);
                if (e->d_name[0] == '.' || access(path, F_OK) == 0)
                        continue;
                ports++;
                carriers += has_carrier(e->d_name);
        }
        closedir(dir);
        *ret_ports = ports;
        *ret_carriers = carriers;
        return 0;
}

static int mac_parse(const char *text, uint8_t ret[ETH_ALEN], struct err *err)
{
        char after;

        if (sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx%c", &ret[0], &ret[1], &ret[2], &ret[3], &ret[4],
                   &ret[5], &after) != ETH_ALEN)
                return err_set(err, -EINVAL, "\"%.40s\" is not a MAC address", text);
        return 0;
}

/* `bridge fdb replace MAC dev TAP master dynamic`: as if the tap had sent a frame. */
static int learn(const char *tap, const uint8_t mac[ETH_ALEN], struct err *err)
{
        struct {
                struct nlmsghdr head;
                struct ndmsg entry;
                struct rtattr attr;
                uint8_t mac[ETH_ALEN + 2];
        } msg = {.head = {.nlmsg_len = sizeof(msg) - 2,
                          .nlmsg_type = RTM_NEWNEIGH,
                          .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE},
                 .entry = {.ndm_family = AF_BRIDGE,
                           .ndm_state = NUD_REACHABLE,
                           .ndm_flags = NTF_MASTER,
                           .ndm_ifindex = (int)if_nametoindex(tap)},
                 .attr = {.rta_type = NDA_LLADDR, .rta_len = RTA_LENGTH(ETH_ALEN)}};
        struct {
                struct nlmsghdr head;
                struct nlmsgerr error;
                char rest[256];
        } answer;
        _cleanup_(closep) int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
        ssize_t n;

        memcpy(msg.mac, mac, ETH_ALEN);
        if (fd < 0 || send(fd, &msg, msg.head.nlmsg_len, 0) < 0)
                return err_set(err, -errno, "tap %s: bridge table: %s", tap, strerror(errno));
        n = recv(fd, &answer, sizeof(answer), 0); /* the kernel has answered when send() returns */
        if (n < (ssize_t)NLMSG_LENGTH(sizeof(answer.error)) || answer.head.nlmsg_type != NLMSG_ERROR)
                return err_set(err, -EPROTO, "tap %s: bridge table: no answer", tap);
        if (answer.error.error < 0)
                return err_set(err, answer.error.error, "tap %s: bridge table: %s", tap,
                               strerror(-answer.error.error));
        return 0;
}

/* An ARP announcement [RFC 5227, 2.3]: a request whose sender and target are the guest's address. */
static int announce(const char *bridge, const uint8_t mac[ETH_ALEN], struct in_addr address, struct err *err)
{
        struct {
                struct ether_header ether;
                struct ether_arp arp;
        } frame = {.ether = {.ether_type = htons(ETHERTYPE_ARP)},
                   .arp = {.ea_hdr = {.ar_hrd = htons(ARPHRD_ETHER),
                                      .ar_pro = htons(ETHERTYPE_IP),
                                      .ar_hln = ETH_ALEN,
                                      .ar_pln = sizeof(address),
                                      .ar_op = htons(ARPOP_REQUEST)}}};
        struct sockaddr_ll to = {
            .sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(bridge), .sll_halen = ETH_ALEN};
        _cleanup_(closep) int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

        memset(frame.ether.ether_dhost, 0xff, ETH_ALEN);
        memcpy(frame.ether.ether_shost, mac, ETH_ALEN);
        memcpy(frame.arp.arp_sha, mac, ETH_ALEN);
        memcpy(frame.arp.arp_spa, &address, sizeof(address));
        memcpy(frame.arp.arp_tpa, &address, sizeof(address));
        memset(to.sll_addr, 0xff, ETH_ALEN);
        if (fd < 0 ||
            sendto(fd, &frame, sizeof(frame), MSG_DONTWAIT, (struct sockaddr *)&to, sizeof(to)) < 0)
                return err_set(err, -errno, "bridge %s: ARP announcement: %s", bridge, strerror(errno));
        return 0;
}

int tap_announce(const char *bridge, const char *tap, const char *mac, const char *address, struct err *err)
{
        uint8_t bytes[ETH_ALEN];
        struct in_addr in;
        int r = mac_parse(mac, bytes, err);

        if (r < 0)
                return r;
        if (inet_pton(AF_INET, address, &in) != 1)
                return err_set(err, -EINVAL, "\"%.40s\" is not an IPv4 address", address);
        r = learn(tap, bytes, err);
        return r < 0 ? r : announce(bridge, bytes, in, err);
}
