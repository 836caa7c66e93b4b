/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

#include "common/err.h"

/*
 * A guest's tap and the bridge that it is a port of, as the kernel has them: needs no libvirt. Calls of the
 * kernel that do not wait; any thread.
 *
 * A tap that is down passes nothing either way, and its bridge forgets what it has learned from it. The
 * guest does not notice: its link stays up, QEMU drops what it sends.
 */
#define TAP_NAME_LEN 16

/* Up or down. Returns 1 where that changed something, 0 where it was so, -ENODEV where there is no such tap.
 */
int tap_set(const char *tap, bool up, struct err *err);
bool tap_is_up(const char *tap);

/* Every port of the bridge that is a guest's of ours. */
int tap_each(const char *bridge, void (*on)(void *arg, const char *tap), void *arg, struct err *err);
/* The ports of the bridge that are no taps: how many there are, and how many have a carrier. */
int tap_uplinks(const char *bridge, unsigned *ret_ports, unsigned *ret_carriers, struct err *err);

/*
 * Tells the network that the guest is here: an ARP announcement in the guest's name from the bridge, so that
 * switches send its frames to this host, and an entry of the bridge's own table, which does not learn from
 * what it sends itself.
 */
int tap_announce(const char *bridge, const char *tap, const char *mac, const char *address, struct err *err);
