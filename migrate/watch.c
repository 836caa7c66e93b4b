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

void watch_look(struct watch *w, uint64_t epoch, bool readable, uint64_t counter, int64_t asked_ms,
                int64_t now_ms)
{
        bool gap;

        if (!readable)
                return;
        if (w->epoch != epoch) {
                memset(w, 0, sizeof(*w));
                w->epoch = epoch;
        }
        /* After a gap in our own looking we cannot tell when it stood still: begin again. */
        gap = !w->seen || now_ms - w->looked_ms > WATCH_GAP_MS;
        if (gap)
                w->steady_ms = now_ms;
        if (w->seen && w->counter != counter)
                w->moves++;
        if (gap || w->counter != counter)
                w->changed_ms = now_ms;
        w->seen = true;
        w->counter = counter;
        w->asked_ms = asked_ms;
        w->looked_ms = now_ms;
}

static bool looks(const struct watch *w, int64_t own_write_ms, int64_t now_ms)
{
        return w->seen && now_ms - w->looked_ms <= WATCH_GAP_MS && now_ms - own_write_ms <= WATCH_OWN_MS;
}

bool watch_dead(const struct watch *w, int64_t own_write_ms, int64_t disarmed_ms, int64_t now_ms)
{
        return looks(w, own_write_ms, now_ms) && w->asked_ms - w->changed_ms >= WATCH_DEAD_MS + disarmed_ms;
}

bool watch_able(const struct watch *w, int64_t own_write_ms, int64_t now_ms)
{
        return looks(w, own_write_ms, now_ms) && now_ms - w->steady_ms >= WATCH_DEAD_MS;
}

bool watch_alive(const struct watch *w)
{
        return w->moves >= 2;
}

int watch_pause_ms(const struct watch *w)
{
        int64_t still = w->asked_ms - w->changed_ms;

        /* A host that is dead for long, or nobody's to take over, is no reason to hurry. */
        return w->seen && still >= WATCH_DEAD_MS - WATCH_LOOK_MS && still < WATCH_DEAD_MS + WATCH_LOOK_MS
                   ? WATCH_CLOSELY_MS
                   : WATCH_LOOK_MS;
}

enum sight_change sight_look(struct sight *s, bool able, int64_t now_ms)
{
        bool blind;

        if (able)
                s->able_ms = now_ms;
        blind = now_ms - s->able_ms >= WATCH_BLIND_MS;
        if (blind == s->blind)
                return SIGHT_SAME;
        s->blind = blind;
        return blind ? SIGHT_LOST : SIGHT_BACK;
}

bool homecoming_over(const struct homecoming *h, int64_t now_ms)
{
        return now_ms - h->joined_ms >= WATCH_RETURN_MS;
}

bool homecoming_meets(const struct watch *w, bool up, bool returning)
{
        return watch_alive(w) && up && !returning;
}

/* Its record has a newer epoch than when we came: it came later. */
static bool came_later(const struct homecoming *h, unsigned number, uint64_t epoch)
{
        for (size_t i = 0; i < h->n_first; i++)
                if (h->first[i].number == number)
                        return epoch > h->first[i].epoch;
        return h->first != NULL;
}

bool watch_waits(const struct watch *w, unsigned number, const struct homecoming *h, int64_t now_ms)
{
        return h->returning && !h->met && !watch_alive(w) && !came_later(h, number, w->epoch) &&
               !homecoming_over(h, now_ms);
}
