/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Who watches whom, and when a host counts as dead. Times in ms of the watcher's own monotonic clock.
 *
 *   0       last change of the neighbour's counter that we saw
 *   500     it should have changed (WATCH_BEAT_MS)
 *   1750    we look more often (WATCH_CLOSELY_MS)
 *   2000    WATCH_DEAD_MS: dead, if our own last write to the storage worked within WATCH_OWN_MS
 *           and we had been looking all along (no gap of more than WATCH_GAP_MS between two answers)
 *
 * Each neighbour is watched on its own: a slow answer about one delays no verdict on another.
 *
 * A wrong guess costs a restart, never a disk: the fence decides, not this clock.
 */
#define WATCH_BEAT_MS 500
#define WATCH_DEAD_MS 2000
#define WATCH_OWN_MS 1500
#define WATCH_GAP_MS 1500
#define WATCH_LOOK_MS 250       /* between two looks at a counter */
#define WATCH_CLOSELY_MS 50     /* where it has been standing still for most of WATCH_DEAD_MS */
#define WATCH_DISARMED_MS 60000 /* after an orderly stop: time for an upgrade before neighbours act */
#define WATCH_NEIGHBOURS 2      /* each host watches the next two on the ring of living hosts */

enum host_state {
        HOST_UP,
        HOST_STOPPED, /* orderly: nobody fails it over until its disarmed time has passed */
        HOST_DEAD,    /* taken over */
        HOST_STATE_MAX
};
const char *host_state_name(enum host_state s);
int host_state_parse(const char *name); /* the enum or -1 */

/* One host as its record says. */
struct ring_host {
        unsigned number;
        enum host_state state;
        uint64_t epoch;
        unsigned taken_by; /* HOST_DEAD: the host that does its failover */
        bool taken_done;   /* and has ended it */
        bool maintenance;  /* failover is disarmed for it */
};

/* The hosts that `me` watches: the next WATCH_NEIGHBOURS on the ring of those that are not dead, by number,
 * wrapping. Numbers into ret, at most n_ret; returns how many. */
size_t ring_neighbours(const struct ring_host *hosts, size_t n_hosts, unsigned me, unsigned *ret,
                       size_t n_ret);
/* Who finishes the failovers that `winner` had begun, `winner` being dead: the host that took `winner`. 0:
 * nobody yet. */
unsigned ring_heir(const struct ring_host *hosts, size_t n_hosts, unsigned winner);

/* What one watcher knows of one neighbour. Zero-initialised at first sight. */
struct watch {
        uint64_t epoch;
        bool seen;      /* counter holds a value */
        unsigned moves; /* changes of the counter that we have seen */
        uint64_t counter;
        int64_t changed_ms; /* when we had the answer that showed the present counter first */
        int64_t asked_ms;   /* when we asked for the last one that showed it */
        int64_t looked_ms;  /* when that answer came */
        int64_t steady_ms;  /* since when we have been looking without a gap */
};
/*
 * A look: counter, or readable false where the storage did not answer (no verdict then: the look did not
 * happen). The counter was read at some time between asked_ms and now_ms, so a slow answer proves no more
 * than its question's time. Another epoch begins anew.
 */
void watch_look(struct watch *w, uint64_t epoch, bool readable, uint64_t counter, int64_t asked_ms,
                int64_t now_ms);
/*
 * Is it dead? own_write_ms: when our own heartbeat last reached the storage. disarmed_ms: extra patience for
 * a host whose record says HOST_STOPPED (0 for others).
 */
bool watch_dead(const struct watch *w, int64_t own_write_ms, int64_t disarmed_ms, int64_t now_ms);
/* Could we tell by now if it were dead? False also for the first WATCH_DEAD_MS of looking. */
bool watch_able(const struct watch *w, int64_t own_write_ms, int64_t now_ms);
/* Have we seen it alive? One change may be a write that was on its way when its host died. */
bool watch_alive(const struct watch *w);
/* When to look again, in ms: sooner where the counter has been standing still for most of WATCH_DEAD_MS. */
int watch_pause_ms(const struct watch *w);

/*
 * Blindness: a neighbour whose death we could not tell, or a list of hosts that cannot be read. Failover for
 * it is off then, as far as this host goes, so a person has to hear of it.
 *
 *   0        the last time that all was well
 *   10000    WATCH_BLIND_MS: blind, which is told once
 *   then     the first time that all is well again: told once
 */
#define WATCH_BLIND_MS 10000
struct sight {
        int64_t able_ms; /* when all was well; set it when the watching begins */
        bool blind;
};
enum sight_change { SIGHT_SAME, SIGHT_LOST, SIGHT_BACK };
enum sight_change sight_look(struct sight *s, bool able, int64_t now_ms);

/*
 * After a total loss of power the first host that is up finds every other counter standing still. It would
 * take over everybody's guests, though those hosts are starting, too. So a host whose machine was started
 * again waits for the hosts that it has not seen alive since then:
 *
 *   0        it joined after a start of its machine; its record says so ("returning")
 *   120000   WATCH_RETURN_MS: it waits no longer
 *
 * The wait ends at once when it meets a living host that is not returning itself: then not everything lost
 * power. A host that was seen alive, or has joined since, and stands still is dead after WATCH_DEAD_MS, wait
 * or not.
 */
#define WATCH_RETURN_MS 120000
struct homecoming {
        bool returning; /* our machine was started anew, or for the first time, before we joined */
        int64_t joined_ms;
        bool met;                      /* a living host that is not returning */
        const struct ring_host *first; /* the hosts as we listed them first; NULL: not yet */
        size_t n_first;
};
/* Is the host of this watch one that shows that not everything lost power? up, returning: its record says so. */
bool homecoming_meets(const struct watch *w, bool up, bool returning);
/* Do we still wait for that host, which `w` watches, to come back? */
bool watch_waits(const struct watch *w, unsigned number, const struct homecoming *h, int64_t now_ms);
/* Is the time over, so that our record need not say "returning" any more? */
bool homecoming_over(const struct homecoming *h, int64_t now_ms);
