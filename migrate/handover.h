/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "migrate/failover.h"

/*
 * A host that goes down in order hands its guests on, those of the highest priority first. A pure machine:
 * hostd feeds it what it sees and carries out what it returns. Times count from the beginning:
 *
 *   0                 live moves, HANDOVER_LIVE_AT_ONCE at the same time, of guests whose memory can be sent
 *                     in the time there is; a guest without a place elsewhere powers off here
 *   total - stop      HANDOVER_STOP_MS or a third: what is still here powers off, to start elsewhere
 *   total - end       HANDOVER_END_MS or a tenth: what has not powered off is ended
 *   total             the host goes on with its shutdown
 */
#define HANDOVER_LIVE_AT_ONCE 2
#define HANDOVER_STOP_MS 60000
#define HANDOVER_END_MS 5000
/* What a live move is taken to send: half of a link of 1 Gbit/s. A guest seldom has all its memory in use.
 */
#define HANDOVER_BYTES_PER_MS ((50ULL << 20) / 1000)

enum handover_how {
        HANDOVER_WAITS,
        HANDOVER_LIVE, /* moves to its target while it runs */
        HANDOVER_STOP, /* is asked to power off here; starts at its target, where it has one */
        HANDOVER_END,  /* is ended here; the same */
};

struct handover_guest {
        bool movable; /* its vCPUs run, and nothing else is being done with it */
        bool
            disk; /* it goes by its disk, no longer live: hosts that refused a live move are asked once more */
        enum handover_how how;
};

struct handover {
        struct failover places;        /* who goes where; places.items is in the order of the work */
        struct handover_guest *guests; /* guests[k] is of places.items[k]; owned by the caller */
        bool stay;                     /* nobody goes elsewhere: the host is in maintenance */
        int64_t begun_ms, total_ms;
};

/* Sorts the items; guests[] has room for as many, and the caller sets `movable` afterwards. */
void handover_init(struct handover *h, unsigned me, struct failover_item *items,
                   struct handover_guest *guests, size_t n, int64_t now_ms, int64_t total_ms);

/*
 * The next order to carry out: *ret is the index, guests[*ret].how the order, and items[*ret].target the
 * host that gets it, 0 for none: then it starts here again, once this host is back. False: nothing to do
 * now. hosts[] as failover_next() wants it.
 */
bool handover_next(struct handover *h, const struct planner_host *hosts, size_t n_hosts, int64_t now_ms,
                   size_t *ret);
/* Its live move has failed, or its target refuses to start it: another order follows. */
void handover_failed(struct handover *h, size_t k, const char *reason);
/* Another host has it, or it has powered off and nobody is to get it. */
void handover_done(struct handover *h, size_t k);
bool handover_ended(const struct handover *h);
