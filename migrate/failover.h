/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "migrate/planner.h"

/*
 * The work of the host that won a dead host's record: every instance that the dead one owned, or was meant
 * to start, goes to a living host with room, those of the highest priority first. A pure machine: hostd
 * feeds it what it sees and carries out what it returns. It names the target; the target's own claim
 * decides.
 */
#define FAILOVER_AT_ONCE 8        /* instances under way at the same time */
#define FAILOVER_PATIENCE_MS 8000 /* a target that has not claimed by then is given up */
#define FAILOVER_TRIES 3

enum failover_state {
        FAILOVER_WAITING,
        FAILOVER_PLACED, /* the record names the target; its claim is awaited */
        FAILOVER_DONE,   /* the name has moved on */
        FAILOVER_FAILED, /* tried FAILOVER_TRIES times, or nobody has room */
        FAILOVER_STATE_MAX
};
const char *failover_state_name(enum failover_state s);

struct failover_item {
        char instance[37];
        int priority;
        unsigned cpus;
        uint64_t memory; /* bytes */
        uint64_t epoch;  /* of the name when the work began: moved on means done */
        enum failover_state state;
        unsigned target; /* host number while placed */
        unsigned tries;
        int64_t deadline_ms;
        unsigned refused[FAILOVER_TRIES]; /* targets that did not do it */
        char reason[192];                 /* FAILED: why */
};

struct failover {
        unsigned dead;
        struct failover_item *items; /* owned by the caller */
        size_t n_items;
};

/* Sorts by priority (highest first), ties by id. */
void failover_init(struct failover *f, unsigned dead, struct failover_item *items, size_t n_items);

/*
 * The next placement to make, or NULL when there is nothing to do now. The item is then PLACED with its
 * target; hosts[] must count what was placed already. err is set with the reason when an item FAILED (it is
 * returned, once, in state FAILED).
 */
struct failover_item *failover_next(struct failover *f, const struct planner_host *hosts, size_t n_hosts,
                                    int64_t now_ms);
/* What was seen: the name of that instance is at `epoch`; moved on is DONE; too late is WAITING again,
 * elsewhere. */
void failover_seen(struct failover *f, struct failover_item *item, uint64_t epoch, int64_t now_ms);
/* The target's answer was no, or placing failed. */
void failover_refused(struct failover *f, struct failover_item *item, const char *reason);
bool failover_ended(const struct failover *f);
