/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "migrate/failover.h"
#include "migrate/instance.h"
#include "migrate/watch.h"

/*
 * A dead host's work: who takes it over, what of it is there to do, and what is written into the records. hostd
 * reads them, and writes them by compare-and-swap. Pure: a time, also as text, comes from the caller.
 *
 * An edit changes doc in place. It returns 1 to write it, 0 where nothing is to be changed, -ENOMEM. It may be
 * called several times, each time with the newest record.
 */

/* --- a look at a neighbour --- */

struct takeover_look {
        const struct watch *watch;
        const struct homecoming *home;
        unsigned number;                           /* the neighbour's */
        int64_t own_write_ms, disarmed_ms, now_ms; /* as watch_dead() wants them */
        bool maintenance;                          /* its record says so */
        bool fence_holds; /* this host has seen that its storage refuses an old owner */
};
enum takeover_act {
        TAKEOVER_WATCH, /* it lives, or nobody can tell */
        TAKEOVER_TAKE,  /* it is dead: this host tries to win its record */
        TAKEOVER_LET_BE /* it is silent, and nobody takes it over: a person should hear of it */
};
enum takeover_act takeover_look(const struct takeover_look *l);

/* --- the host's record: who wins it --- */

struct takeover_claim {
        unsigned me;                      /* the host that takes it over */
        uint64_t my_epoch;                /* that host's own */
        const struct watch *watch;        /* what it has seen of the dead one */
        int64_t own_write_ms, now_ms;     /* as watch_dead() wants them */
        int64_t detect_ms;                /* since the last heartbeat that it saw */
        const char *last_beat, *now_text; /* the same two moments, as times for people */
        bool won;                         /* out: the record says so now, if it is written */
        uint64_t epoch;                   /* out: of the record before */
};
/* By what the record says now, and not by the list that the watcher goes by: that may be of before the host's
 * end, where the end was in order, or of before somebody else has won it. */
int takeover_edit_host(json_t *doc, struct takeover_claim *c, struct err *err);
/* All that the host at that epoch had is done. 0: it is back, or dead again, and that is another round's work. */
int takeover_edit_done(json_t *doc, uint64_t epoch);

/* The host whose work it is to take `dead` over: `me`, since it won the record, or is the heir of who did? */
bool takeover_mine(const struct ring_host *hosts, size_t n_hosts, const struct ring_host *dead, unsigned me);

/* --- what of it is there to do --- */

struct takeover_instance {
        enum wanted wanted;
        bool told_off;      /* its status says that nothing of it runs */
        unsigned owner;     /* of the name */
        unsigned placement; /* the host that may claim it at the name's epoch; 0: none */
        bool placement_up;  /* and that host is up */
};
enum takeover_share {
        TAKEOVER_NONE,  /* not the dead host's, or nothing is to be done for it */
        TAKEOVER_PLACE, /* another host gets it */
        TAKEOVER_AWAIT  /* one has got it already, and has the time of a failover's target for its claim */
};
enum takeover_share takeover_share(const struct takeover_instance *in, unsigned dead);
/* Nobody else will do it: a wish, or a placement, that came after the takeover had ended. */
bool takeover_stranded(const struct takeover_instance *in, unsigned dead);

/* --- the instances' records --- */

#define TAKEOVER_AGAIN_MS 5000 /* for what found no place: until it does, or the dead host is back */

struct takeover_placing {
        unsigned dead, me;
        int64_t detect_ms, plan_ms; /* detected after its last heartbeat; planned after that */
        const char *last_beat;      /* a time for people */
        const struct failover_item *item;
};
/* item->target may claim it. */
int takeover_edit_place(json_t *doc, const struct takeover_placing *p, struct err *err);
/* item->reason is why it does not run: written where the dead host's word stands, which has nobody else to say it. */
int takeover_edit_failed(json_t *doc, const struct takeover_placing *p);
