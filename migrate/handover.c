/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/handover.h"

#include <string.h>

#include "common/util.h"

void handover_init(struct handover *h, unsigned me, struct failover_item *items,
                   struct handover_guest *guests, size_t n, int64_t now_ms, int64_t total_ms)
{
        *h = (struct handover){.guests = guests, .begun_ms = now_ms, .total_ms = total_ms};
        if (n)
                memset(guests, 0, n * sizeof(*guests));
        failover_init(&h->places, me, items, n);
}

/* Picks its target: a living host with room that has not refused it. */
static bool place(struct handover *h, size_t k, const struct planner_host *hosts, size_t n_hosts,
                  int64_t now_ms)
{
        struct failover_item *item = &h->places.items[k];

        if (item->state == FAILOVER_PLACED)
                return true;
        item->state = FAILOVER_WAITING;
        item->target = 0;
        if (!h->stay && item->tries < FAILOVER_TRIES)
                failover_place(&h->places, item, hosts, n_hosts, now_ms);
        return item->state == FAILOVER_PLACED;
}

static bool order(size_t k, struct handover_guest *g, enum handover_how how, size_t *ret)
{
        g->how = how;
        *ret = k;
        return true;
}

/* No longer live. Who could not receive it may still start it. */
static bool order_by_disk(struct handover *h, size_t k, enum handover_how how,
                          const struct planner_host *hosts, size_t n_hosts, int64_t now_ms, size_t *ret)
{
        if (!h->guests[k].disk)
                h->places.items[k].tries = 0;
        h->guests[k].disk = true;
        place(h, k, hosts, n_hosts, now_ms);
        return order(k, &h->guests[k], how, ret);
}

static size_t moving(const struct handover *h)
{
        size_t n = 0;

        for (size_t k = 0; k < h->places.n_items; k++)
                n += h->places.items[k].state == FAILOVER_PLACED && h->guests[k].how == HANDOVER_LIVE;
        return n;
}

bool handover_next(struct handover *h, const struct planner_host *hosts, size_t n_hosts, int64_t now_ms,
                   size_t *ret)
{
        int64_t left = h->begun_ms + h->total_ms - now_ms;
        int64_t stop = MIN_OF(HANDOVER_STOP_MS, h->total_ms / 3),
                end = MIN_OF(HANDOVER_END_MS, h->total_ms / 10);
        bool free_slot = moving(h) < HANDOVER_LIVE_AT_ONCE;

        for (size_t k = 0; k < h->places.n_items; k++) {
                const struct failover_item *item = &h->places.items[k];
                struct handover_guest *g = &h->guests[k];
                bool in_time = (int64_t)(item->memory / HANDOVER_BYTES_PER_MS) < left - stop;

                if (item->state == FAILOVER_DONE || g->how == HANDOVER_END)
                        continue;
                if (left <= end)
                        return order_by_disk(h, k, HANDOVER_END, hosts, n_hosts, now_ms, ret);
                if (g->how == HANDOVER_STOP)
                        continue;
                if (left <= stop || !g->movable || g->disk || (g->how == HANDOVER_WAITS && !in_time))
                        return order_by_disk(h, k, HANDOVER_STOP, hosts, n_hosts, now_ms, ret);
                if (g->how == HANDOVER_LIVE || !free_slot)
                        continue;
                if (place(h, k, hosts, n_hosts, now_ms))
                        return order(k, g, HANDOVER_LIVE, ret);
                return order_by_disk(h, k, HANDOVER_STOP, hosts, n_hosts, now_ms, ret);
        }
        return false;
}

void handover_failed(struct handover *h, size_t k, const char *reason)
{
        struct handover_guest *g = &h->guests[k];

        failover_refused(&h->places, &h->places.items[k], reason);
        if (g->how != HANDOVER_END)
                g->how = HANDOVER_WAITS;
}

void handover_done(struct handover *h, size_t k)
{
        failover_gone(&h->places, &h->places.items[k]);
}

bool handover_ended(const struct handover *h)
{
        for (size_t k = 0; k < h->places.n_items; k++)
                if (h->places.items[k].state != FAILOVER_DONE)
                        return false;
        return true;
}
