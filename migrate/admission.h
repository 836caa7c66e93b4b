/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "migrate/instance.h"
#include "migrate/planner.h"

/*
 * Decides what a host takes on: rule 12 of docs/ownership.md. The host keeps room for each guest that runs,
 * starts or arrives here, or that is its own and should run. Pure: the caller holds one lock from its count to
 * the promise.
 */
#define ADMISSION_ARRIVAL_MS 15000 /* from a yes until the record has to name this host as the destination */

struct admission_view {
        const char *host;       /* this host's name */
        const char *group;      /* the instance's, "owner/group"; empty: none */
        const char *group_here; /* id of another of that group that starts or runs here; NULL: none */
        bool promised;          /* room is kept for it already */
        bool ends;              /* hostd does: guests leave the count, and run on */
        bool acts;  /* what it decided by an older look, it still does, and that may end whatever arrives */
        bool known; /* every guest that this hostd's first scan has found was looked at: it may run here */
        struct planner_host free; /* this host, with all that it has promised to others counted as used */
        unsigned cpus;
        uint64_t memory;                 /* bytes, without QEMU's own */
        bool arrival;                    /* it is about to arrive by a migration, and takes a turn */
        unsigned arriving, arriving_max; /* others that arrive now, and how many may */
};
/* 0, or the reason against it: -EEXIST another of its group is here, -EAGAIN ask again, -ENOSPC no room, -EUSERS
 * it waits for its turn: too many arrive already, or this host is still at an earlier QEMU of it. */
int admission_check(const struct admission_view *v, struct err *err);

/* May that action, which may take long, end a QEMU of the instance here? */
bool admission_acts(enum instance_action action);

/* By what a look has found: does the instance arrive, and is the room that it was promised still to be kept?
 * until_ms: when a promise to an arrival ends. No record, nothing of either. */
bool admission_arrives(const struct instance_view *v, int64_t until_ms);
bool admission_keeps(const struct instance_view *v, int64_t until_ms);
/* Is room due to it without a count? What runs here has it; what arrives was promised it by the hostd before this one,
 * which has not looked at it yet (first_look). A later one took too long: it is counted again. */
bool admission_due(const struct instance_view *v, bool first_look);
