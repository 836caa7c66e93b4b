/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/machine.h"

/*
 * Who a host is. Disks carry a host's number, so a number must mean one machine: boot, namespaces and board
 * (common/machine.h). The host record says which machine has the number now, and which run of hostd (its
 * nonce). Rule 3 of OWNERSHIP.md, amendment 1.
 *
 * A start, times by its own clock:
 *
 *   0       the record names this very machine: it beats at once, since an upgrade is no death
 *   0       nobody has ever joined with that number, or it is another name's: joins, or is refused
 *   else    it watches that number's heartbeat, and does not beat itself:
 *   ...       the counter moved twice: the other machine lives; refused (once may be a write that was under
 * way)
 *   ...       IDENTITY_WATCH_MS without a change: the other machine is dead; joins in its place
 */
#define IDENTITY_WATCH_MS 3000

/* The same kernel start, seen from the same namespaces. An unknown boot or view equals nothing. */
bool identity_same(const struct machine *a, const struct machine *b);

enum identity_action {
        IDENTITY_BEAT,         /* beat, then join */
        IDENTITY_JOIN,         /* join, then beat */
        IDENTITY_WAIT,         /* look at the heartbeat again */
        IDENTITY_REFUSE_NAME,  /* the number belongs to a host of another name */
        IDENTITY_REFUSE_ALIVE, /* a living machine has this name and number */
        IDENTITY_ACTION_MAX
};
const char *identity_action_name(enum identity_action a);

struct identity_view {
        const struct machine *me;
        const char *name;
        /* the record of the number */
        struct machine machine; /* zeroed where nobody has joined yet */
        const char *record_name;
        bool joined; /* somebody has joined with it, ever */
        /* its heartbeat, since this start began to look */
        bool alive;
        int64_t still_ms; /* for how long it was seen standing still, without a gap */
};
enum identity_action identity_decide(const struct identity_view *v);

/* A hostd that runs looks at its own record. */
enum identity_verdict {
        IDENTITY_MINE,       /* it is as this hostd left it */
        IDENTITY_TAKEN,      /* taken over: every guest is looked at again, then it joins as new */
        IDENTITY_SUPERSEDED, /* a newer hostd of this machine has joined: this one exits, guests run on */
        IDENTITY_REPLACED,   /* another machine has joined with this number: trusts itself no more */
        IDENTITY_VERDICT_MAX
};
const char *identity_verdict_name(enum identity_verdict v);
/* The record: its machine, nonce and epoch. */
enum identity_verdict identity_check(const struct machine *me, const char *nonce, uint64_t epoch,
                                     const struct machine *machine, const char *record_nonce,
                                     uint64_t record_epoch);
