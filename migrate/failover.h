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
        uint64_t memory;   /* bytes */
        const char *group; /* borrowed; no two of one group on a host; NULL or empty: none */
        uint64_t epoch;    /* of the name when the work began: moved on means done */
        enum failover_state state;
        unsigned target; /* host number while placed, and when done */
        unsigned tries;
        int64_t deadline_ms;
        unsigned refused[FAILOVER_TRIES]; /* targets that did not do it */
        char reason[192];                 /* FAILED: why */
};

/* An instance with a group that this failover does not touch, and its host. */
struct failover_seat {
        const char *group; /* borrowed */
        unsigned host;
};

struct failover {
        unsigned dead;
        struct failover_item *items; /* owned by the caller */
        size_t n_items;
        const struct failover_seat *seats; /* owned by the caller; set after failover_init() */
        size_t n_seats;
};

/*
 * Sorts by priority (highest first), ties by id. An item may come as PLACED, with its target: it was placed
 * before, by a host that died since, or by a user.
 */
void failover_init(struct failover *f, unsigned dead, struct failover_item *items, size_t n_items);

/*
 * The next placement to make, or NULL when there is nothing to do now. The item is then PLACED with its
 * target. hosts[] is as it was when the work began: what this work has placed is counted on top. err is set
 * with the reason when an item FAILED (it is returned, once, in state FAILED).
 */
struct failover_item *failover_next(struct failover *f, const struct planner_host *hosts, size_t n_hosts,
                                    int64_t now_ms);
/* Picks the target of one that is WAITING: PLACED then, or FAILED; WAITING still where there is no memory.
 */
void failover_place(struct failover *f, struct failover_item *item, const struct planner_host *hosts,
                    size_t n_hosts, int64_t now_ms);
/* What was seen: the name of that instance is at `epoch`; moved on is DONE; too late is WAITING again,
 * elsewhere. */
void failover_seen(struct failover *f, struct failover_item *item, uint64_t epoch, int64_t now_ms);
/* Removed by its user meanwhile: nothing is left to do. */
void failover_gone(struct failover *f, struct failover_item *item);
/* The target's answer was no, or placing failed. */
void failover_refused(struct failover *f, struct failover_item *item, const char *reason);
bool failover_ended(const struct failover *f);

/*
 * A target that has claimed an instance and could not start it hands it on: the owner alone may, and it
 * knows why. So the work needs nobody else, and goes on with whoever began it dead.
 */
struct failover_chain {
        unsigned tries;                 /* starts that failed so far */
        unsigned tried[FAILOVER_TRIES]; /* hosts that no longer get it in this round; 0: unused */
};
/* That host gets it no more in this round. */
void failover_tried(struct failover_chain *chain, unsigned host);
/*
 * `me` could not start item->instance: counts it and picks the next host, `me` itself where no other fits.
 * After FAILOVER_TRIES it begins a new round. err: why no other fits, set only when `me` is returned.
 */
unsigned failover_hand_on(struct failover *f, struct failover_chain *chain, unsigned me,
                          const struct planner_host *hosts, size_t n_hosts, struct err *err);
/* How long the next host waits before it starts it: nothing for the first FAILOVER_TRIES, which were other
 * hosts; then 1 s, 2 s, 4 s ... at most 60 s. */
int64_t failover_pause_ms(unsigned tries);
