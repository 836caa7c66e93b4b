/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "migrate/instance.h"
#include "migrate/watch.h"

/*
 * When a host cuts its guests off the network: it has lost the storage for so long that others may have
 * started its guests, and the storage is not away for everybody. Times in ms of this host's monotonic clock,
 * counted from the begin of its last heartbeat that reached the storage.
 *
 *   0       our last write
 *   1000    ISOLATION_ASK_MS: we ask the peers when they last wrote, every ISOLATION_EVERY_MS
 *   2000    WATCH_DEAD_MS: others may act
 *   2000    a peer has written at 2000 or later, which it does every WATCH_BEAT_MS: we shut as soon as we
 *   ..2750  hear it, so at 2750 at the latest, plus the time of one question
 *   2500    no peer has answered any question for ISOLATION_SILENT_MS: we shut, too
 *
 * Where the storage is away for everybody, no peer has written so long after us, and nobody shuts anything.
 * When it comes back, one writes before the others; it has then been looking for too short a time to take
 * anybody for dead. So a peer counts once it has written for ISOLATION_STEADY_MS without a gap of more than
 * ISOLATION_GAP_MS.
 * Whether a guest was taken over can be seen only on the storage: so only a look at the name opens again.
 */
#define ISOLATION_ASK_MS 1000
#define ISOLATION_EVERY_MS 250
#define ISOLATION_WAIT_MS 500 /* for one peer's answer */
#define ISOLATION_SILENT_MS 1500
#define ISOLATION_PEERS 8        /* asked at most, those first that would take this host over */
#define ISOLATION_GAP_MS 1600    /* a write that is given up after 1500 is none */
#define ISOLATION_STEADY_MS 1250 /* and a question, before it may act: WATCH_DEAD_MS after its return */
/* The bound: a host whose hostd lives has shut its guests off so long after its last write, or the kernel
 * did not let it run. */
#define ISOLATION_BOUND_MS 4000

struct isolation_peer {
        bool up;           /* the last list of hosts said so: then its silence means something */
        int64_t silent_ms; /* since its last answer: from the first question to the end of the last one */
        int64_t wrote_ms;  /* its newest write to the storage that we know of, by our clock; 0: none */
        int64_t steady_ms; /* and the first one after its last gap; 0: there was none */
};
/* A host's own writes: the first one after the last gap. write_ms comes after last_ms. */
int64_t isolation_steady(int64_t steady_ms, int64_t last_ms, int64_t write_ms);

/* Whether it is time to ask the peers. */
bool isolation_asks(int64_t own_write_ms, int64_t now_ms);
/* Whether the guests are to be cut off. */
bool isolation_shut(const struct isolation_peer *peers, size_t n, int64_t own_write_ms, int64_t now_ms);
/* Whom to ask: indexes into hosts, at most n_ret. Hosts that are up come first, and of those the nearest
 * before `me` on the ring, who watch it. */
size_t isolation_peers(const struct ring_host *hosts, size_t n_hosts, unsigned me, size_t *ret,
                       size_t n_ret);

/* A look at the name was made: may its guest be reached from the network? */
bool isolation_opens(const struct instance_view *v);
/*
 * While libvirt does not answer, only the process is known: must it end? True where the name is another's,
 * or the record is gone. False where it may be an arrival. v->qemu and v->qemu_epoch are not looked at.
 */
bool isolation_disowned(const struct instance_view *v);

/*
 * The uplink: the ports of the guests' bridge that are no guest's. A bridge without any is isolated by
 * design, which is no fault.
 *
 *   0       no uplink port has a carrier
 *   5000    UPLINK_DEAD_MS: the host says so in its record; it gets no guest any more
 *   10000   UPLINK_HAND_MS: it hands its guests on, to hosts that do not say the same. Where a switch has
 *           died, all hosts have said so by now, and nobody moves.
 */
#define UPLINK_DEAD_MS 5000
#define UPLINK_HAND_MS 10000
enum uplink { UPLINK_GOOD, UPLINK_DEAD, UPLINK_HAND_ON };
struct uplink_watch {
        int64_t dead_since_ms; /* 0: it works */
};
/* A look: how many uplink ports there are, and how many of them have a carrier. */
enum uplink uplink_look(struct uplink_watch *w, unsigned ports, unsigned carriers, int64_t now_ms);

/* Whether a guest is to leave for its network's sake, if another host fits. */
bool uplink_leaves(const struct instance_view *v, enum uplink uplink);
enum uplink_way {
        UPLINK_LIVE,    /* live migration */
        UPLINK_RESTART, /* stop here, start there */
};
/* reached: this host can talk to the other. tried: it was to leave alive already, at this epoch. */
enum uplink_way uplink_way(bool reached, bool tried);
