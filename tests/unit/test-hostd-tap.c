/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <arpa/inet.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/util.h"
#include "hostd/plug/plug.h"

/*
 * A network namespace with a bridge, a guest's tap (this test is its QEMU) and an uplink whose far end is
 * the LAN. Needs the right to make one: root, or a user who may make user namespaces.
 */
#define TAP "wh0123456789ab"
#define MAC "52:54:00:4d:02:07"

static const uint8_t mac_bytes[ETH_ALEN] = {0x52, 0x54, 0x00, 0x4d, 0x02, 0x07};
static int guest = -1, lan = -1;

static void sh(const char *command)
{
        if (system(command) != 0)
                fail_msg("%s", command);
}

static int tap_open(void)
{
        struct ifreq req = {.ifr_name = TAP, .ifr_flags = IFF_TAP | IFF_NO_PI};
        int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_return_code(ioctl(fd, TUNSETIFF, &req), errno);
        return fd;
}

static int lan_open(void)
{
        struct sockaddr_ll at = {.sll_family = AF_PACKET,
                                 .sll_protocol = htons(ETH_P_ALL),
                                 .sll_ifindex = (int)if_nametoindex("far")};
        int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));

        assert_return_code(bind(fd, (struct sockaddr *)&at, sizeof(at)), errno);
        return fd;
}

/* A frame with that mark behind its header, until there is none for a moment. */
static bool arrives(int fd, uint8_t mark)
{
        struct pollfd p = {.fd = fd, .events = POLLIN};
        uint8_t frame[2048];

        while (poll(&p, 1, 300) > 0)
                if (read(fd, frame, sizeof(frame)) > ETH_HLEN && frame[ETH_HLEN] == mark)
                        return true;
        return false;
}

static void send_frame(int fd, const uint8_t *to, const uint8_t *from, uint8_t mark)
{
        uint8_t frame[60] = {0};

        memcpy(frame, to, ETH_ALEN);
        memcpy(frame + ETH_ALEN, from, ETH_ALEN);
        frame[2 * ETH_ALEN] = 0x88;
        frame[2 * ETH_ALEN + 1] = 0xb5; /* for experiments */
        frame[ETH_HLEN] = mark;
        (void)!write(fd, frame, sizeof(frame));
}

static int set_up(void **state)
{
        if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 &&
            unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS) < 0) {
                fprintf(stderr, "skipped: no network namespace can be made here: %s\n", strerror(errno));
                exit(77);
        }
        sh("mount --make-rprivate / && mount -t sysfs sysfs /sys");
        sh("ip link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0 && ip link set br0 up");
        sh("ip link add near type veth peer name far && ip link set near master br0 up && ip link set far "
           "up");
        guest = tap_open();
        sh("ip link set " TAP " master br0 up");
        lan = lan_open();
        return 0;
}

static const uint8_t everybody[ETH_ALEN] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
static const uint8_t stranger[ETH_ALEN] = {0x02, 0, 0, 0, 0, 9};

static void a_tap_that_is_down_passes_nothing(void **state)
{
        struct err e = {0};

        send_frame(guest, everybody, mac_bytes, 1);
        assert_true(arrives(lan, 1));
        assert_int_equal(tap_set(TAP, false, &e), 1);
        assert_false(tap_is_up(TAP));
        assert_int_equal(tap_set(TAP, false, &e), 0);
        send_frame(guest, everybody, mac_bytes, 2);
        assert_false(arrives(lan, 2));
        send_frame(lan, mac_bytes, stranger, 3);
        assert_false(arrives(guest, 3));
        assert_int_equal(tap_set(TAP, true, &e), 1);
        assert_true(tap_is_up(TAP));
        send_frame(guest, everybody, mac_bytes, 4);
        assert_true(arrives(lan, 4));
        send_frame(lan, mac_bytes, stranger, 5);
        assert_true(arrives(guest, 5));
        assert_int_equal(tap_set("whabsent", false, &e), -ENODEV);
}

/* The guest lived elsewhere: the bridge has learned its MAC on the uplink, and would send nothing to the tap
 * that came that way. */
static void an_announcement_moves_the_bridges_entry(void **state)
{
        struct err e = {0};

        send_frame(lan, everybody, mac_bytes, 6);
        send_frame(lan, mac_bytes, stranger, 7);
        assert_false(arrives(guest, 7));
        assert_int_equal(tap_announce("br0", TAP, MAC, "10.77.2.7", &e), 0);
        send_frame(lan, mac_bytes, stranger, 8);
        assert_true(arrives(guest, 8));
}

static void an_announcement_is_an_arp_request_of_the_guest_for_itself(void **state)
{
        const uint8_t wanted[42] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0x00, 0x4d, 0x02,
                                    0x07, 8,    6,    0,    1,    8,    0,    6,    4,    0,    1,
                                    0x52, 0x54, 0x00, 0x4d, 2,    7,    10,   77,   2,    7,    0,
                                    0,    0,    0,    0,    0,    10,   77,   2,    7};
        uint8_t frame[64];
        struct pollfd p = {.fd = lan, .events = POLLIN};
        struct err e = {0};

        while (poll(&p, 1, 100) > 0)
                (void)!read(lan, frame, sizeof(frame));
        assert_int_equal(tap_announce("br0", TAP, MAC, "10.77.2.7", &e), 0);
        assert_int_equal(poll(&p, 1, 5000), 1);
        assert_true(read(lan, frame, sizeof(frame)) >= (ssize_t)sizeof(wanted));
        assert_memory_equal(frame, wanted, sizeof(wanted));
        assert_int_equal(tap_announce("br0", TAP, "52:54:00", "10.77.2.7", &e), -EINVAL);
        assert_int_equal(tap_announce("br0", TAP, MAC, "ten", &e), -EINVAL);
        assert_int_equal(tap_announce("br0", "whabsent", MAC, "10.77.2.7", &e) < 0, 1);
}

static void count(void *arg, const char *tap)
{
        if (streq(tap, TAP))
                ++*(int *)arg;
        else
                *(int *)arg = -1000;
}

static void only_our_taps_are_listed(void **state)
{
        struct err e = {0};
        int n = 0;

        sh("ip tuntap add mode tap name vnet0 && ip link set vnet0 master br0");
        sh("ip tuntap add mode tap name ab0123456789cd && ip link set ab0123456789cd master br0");
        sh("ip tuntap add mode tap name wh0123456789xy && ip link set wh0123456789xy master br0");
        sh("ip tuntap add mode tap name wheelhouse-tap0 && ip link set wheelhouse-tap0 master br0");
        assert_int_equal(tap_each("br0", count, &n, &e), 0);
        assert_int_equal(n, 1);
        assert_true(tap_each("br1", count, &n, &e) < 0);
}

static void the_uplink_is_a_port_that_is_no_tap(void **state)
{
        unsigned ports = 0, carriers = 0;
        struct err e = {0};

        assert_int_equal(tap_uplinks("br0", &ports, &carriers, &e), 0);
        assert_int_equal(ports, 1);
        assert_int_equal(carriers, 1);
        sh("ip link set far down"); /* the cable is pulled */
        assert_int_equal(tap_uplinks("br0", &ports, &carriers, &e), 0);
        assert_int_equal(ports, 1);
        assert_int_equal(carriers, 0);
        sh("ip link set far up && ip link set near down");
        assert_int_equal(tap_uplinks("br0", &ports, &carriers, &e), 0);
        assert_int_equal(carriers, 0);
        sh("ip link set near up");
        assert_int_equal(tap_uplinks("br0", &ports, &carriers, &e), 0);
        assert_int_equal(carriers, 1);
        sh("ip link set near nomaster");
        assert_int_equal(tap_uplinks("br0", &ports, &carriers, &e), 0);
        assert_int_equal(ports, 0);
        sh("ip link set near master br0");
}

static void a_tap_is_named_after_its_instance(void **state)
{
        char tap[TAP_NAME_LEN];

        plug_tap("01234567-89ab-4def-8000-000000000000", tap);
        assert_string_equal(tap, TAP);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(a_tap_is_named_after_its_instance),
            cmocka_unit_test(a_tap_that_is_down_passes_nothing),
            cmocka_unit_test(an_announcement_moves_the_bridges_entry),
            cmocka_unit_test(an_announcement_is_an_arp_request_of_the_guest_for_itself),
            cmocka_unit_test(only_our_taps_are_listed),
            cmocka_unit_test(the_uplink_is_a_port_that_is_no_tap),
        };

        return cmocka_run_group_tests(tests, set_up, NULL);
}
