/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/machine.h"
#include "migrate/watch.h"

/*
 * When a client that was fenced may be let go again, and by whom. The fence itself never ends by time; what
 * ends it is proof that the process behind it is dead, and then the wait for what it may have left under
 * way:
 *
 *   0        proof: its host says so, asked by another one
 *   1 h      LIFT_GRACE_MS: its entry is lifted
 *
 * A dead process' kernel goes on sending what its sockets hold, for minutes where the network is cut; and a
 * daemon of the storage may stand still with a request that it has not looked at, but not for so long
 * without being taken out of the cluster (Ceph: 15 minutes), after which it throws away what is older. Were
 * the entry gone by then, such a request would be a write of the old owner on the new one's disk.
 */
#define LIFT_GRACE_MS (3600 * 1000LL)
#define LIFT_EVERY_MS (600 * 1000LL) /* how often a host looks at what it may lift */

/*
 * The one host that lifts what was fenced on `client_host` of an instance that `owner` owns: the owner, or,
 * where it was fenced itself, the next living host on the ring, so that none ever lifts its own. 0: nobody
 * can now.
 */
unsigned lift_by(const struct ring_host *hosts, size_t n_hosts, unsigned owner, unsigned client_host);

/*
 * Is that client dead? ran_on: where it ran, as noted when it was let run. answer: where its host's hostd
 * runs now; here: whether that QEMU is there, as the kernel shows it.
 */
bool lift_proved(const struct machine *ran_on, const struct machine *answer, bool here);

/* Is it time to look again? last_ms: when it was looked last. */
bool lift_round_due(int64_t last_ms, int64_t now_ms);

/* proved_ms: when the proof was had, by the same clock of this process. */
bool lift_due(int64_t proved_ms, int64_t now_ms);
