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
 *   2000    WATCH_DEAD_MS: dead, if our own last write to the storage worked within WATCH_OWN_MS
 *           and we had been looking all along (no gap of more than WATCH_GAP_MS between two looks)
 *
 * A wrong guess costs a restart, never a disk: the fence decides, not this clock.
 */
#define WATCH_BEAT_MS 500
#define WATCH_DEAD_MS 2000
#define WATCH_OWN_MS 1500
#define WATCH_GAP_MS 1500
#define WATCH_NEIGHBOURS 2 /* each host watches the next two on the ring of living hosts */

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

/* What one watcher knows of one neighbour. Zero-initialised at first sight; reset (zeroed) when its epoch
 * changes. */
struct watch {
        uint64_t epoch;
        bool seen; /* counter holds a value */
        uint64_t counter;
        int64_t changed_ms; /* when we saw it change */
        int64_t looked_ms;  /* our last look */
};
/* A look: counter, or readable false where the storage did not answer (no verdict then: the look did not
 * happen). */
void watch_look(struct watch *w, uint64_t epoch, bool readable, uint64_t counter, int64_t now_ms);
/*
 * Is it dead? own_write_ms: when our own heartbeat last reached the storage. disarmed_ms: extra patience for
 * a host whose record says HOST_STOPPED (0 for others).
 */
bool watch_dead(const struct watch *w, int64_t own_write_ms, int64_t disarmed_ms, int64_t now_ms);
