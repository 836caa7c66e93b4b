/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/watch.h"

#include <string.h>

static const char *const state_names[HOST_STATE_MAX] = {
    [HOST_UP] = "up",
    [HOST_STOPPED] = "stopped",
    [HOST_DEAD] = "dead",
};

const char *host_state_name(enum host_state s)
{
        return (unsigned)s < HOST_STATE_MAX ? state_names[s] : "?";
}

int host_state_parse(const char *name)
{
        for (int i = 0; i < HOST_STATE_MAX; i++)
                if (name && strcmp(name, state_names[i]) == 0)
                        return i;
        return -1;
}

size_t ring_neighbours(const struct ring_host *hosts, size_t n_hosts, unsigned me, unsigned *ret,
                       size_t n_ret)
{
        unsigned passed =
            0; /* distance on the ring up to which all are taken; unsigned wraps as the ring does */
        size_t n = 0;

        while (n < n_ret && n < WATCH_NEIGHBOURS) {
                unsigned nearest = 0;

                for (size_t i = 0; i < n_hosts; i++) {
                        unsigned distance = hosts[i].number - me;

                        if (hosts[i].state != HOST_DEAD && distance > passed &&
                            (!nearest || distance < nearest))
                                nearest = distance;
                }
                if (!nearest)
                        break;
                ret[n++] = me + nearest;
                passed = nearest;
        }
        return n;
}

unsigned ring_heir(const struct ring_host *hosts, size_t n_hosts, unsigned winner)
{
        /* The chain of winners is as long as there are hosts, at most. */
        for (size_t step = 0; step < n_hosts; step++) {
                const struct ring_host *w = NULL;

                for (size_t i = 0; i < n_hosts; i++)
                        if (hosts[i].number == winner)
                                w = &hosts[i];
                if (!w)
                        return 0;
                if (w->state != HOST_DEAD)
                        return winner;
                winner = w->taken_by;
        }
        return 0;
}

void watch_look(struct watch *w, uint64_t epoch, bool readable, uint64_t counter, int64_t now_ms)
{
        if (!readable)
                return;
        if (w->epoch != epoch) {
                memset(w, 0, sizeof(*w));
                w->epoch = epoch;
        }
        /* After a gap in our own looking we cannot tell when it stood still: begin again. */
        if (!w->seen || w->counter != counter || now_ms - w->looked_ms > WATCH_GAP_MS)
                w->changed_ms = now_ms;
        w->seen = true;
        w->counter = counter;
        w->looked_ms = now_ms;
}

bool watch_dead(const struct watch *w, int64_t own_write_ms, int64_t disarmed_ms, int64_t now_ms)
{
        if (!w->seen || now_ms - w->looked_ms > WATCH_GAP_MS)
                return false;
        if (now_ms - own_write_ms > WATCH_OWN_MS)
                return false;
        return w->looked_ms - w->changed_ms >= WATCH_DEAD_MS + disarmed_ms;
}
