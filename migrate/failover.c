/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/failover.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"

const char *failover_state_name(enum failover_state s)
{
        static const char *const names[FAILOVER_STATE_MAX] = {
            [FAILOVER_WAITING] = "waiting",
            [FAILOVER_PLACED] = "placed",
            [FAILOVER_DONE] = "done",
            [FAILOVER_FAILED] = "failed",
        };

        return (unsigned)s < FAILOVER_STATE_MAX ? names[s] : "?";
}

static int item_compare(const void *a, const void *b)
{
        const struct failover_item *x = a, *y = b;

        if (x->priority != y->priority)
                return x->priority < y->priority ? 1 : -1;
        return strcmp(x->instance, y->instance);
}

void failover_init(struct failover *f, unsigned dead, struct failover_item *items, size_t n_items)
{
        f->dead = dead;
        f->items = items;
        f->n_items = n_items;
        if (n_items)
                qsort(items, n_items, sizeof(*items), item_compare);
}

static bool was_refused(const struct failover_item *item, unsigned host)
{
        for (unsigned i = 0; i < item->tries && i < FAILOVER_TRIES; i++)
                if (item->refused[i] == host)
                        return true;
        return false;
}

/* The hosts that are left for this item, with what is already under way counted in. */
static size_t hosts_for(const struct failover *f, const struct failover_item *item,
                        const struct planner_host *hosts, size_t n_hosts, struct planner_host *ret)
{
        size_t n = 0;

        for (size_t i = 0; i < n_hosts; i++) {
                if (hosts[i].number == f->dead || was_refused(item, hosts[i].number))
                        continue;
                ret[n] = hosts[i];
                for (size_t k = 0; k < f->n_items; k++) {
                        const struct failover_item *other = &f->items[k];

                        if (other->state != FAILOVER_PLACED || other->target != hosts[i].number)
                                continue;
                        ret[n].memory_used += other->memory;
                        ret[n].cpus_used += other->cpus;
                }
                n++;
        }
        return n;
}

static void place(struct failover *f, struct failover_item *item, const struct planner_host *hosts,
                  size_t n_hosts, int64_t now_ms)
{
        _cleanup_(freep) struct planner_host *left = calloc(n_hosts + 1, sizeof(*left));
        struct planner_need need = {.cpus = item->cpus, .memory = item->memory};
        struct err e = {0};
        size_t n;
        int best;

        if (!left)
                return; /* stays waiting: tried again at the next step */
        n = hosts_for(f, item, hosts, n_hosts, left);
        best = planner_pick(left, n, &need, &e);
        if (best < 0) {
                item->state = FAILOVER_FAILED;
                snprintf(item->reason, sizeof(item->reason), "%.190s", err_text(&e));
                return;
        }
        item->state = FAILOVER_PLACED;
        item->target = left[best].number;
        item->deadline_ms = now_ms + FAILOVER_PATIENCE_MS;
}

struct failover_item *failover_next(struct failover *f, const struct planner_host *hosts, size_t n_hosts,
                                    int64_t now_ms)
{
        size_t under_way = 0;

        for (size_t i = 0; i < f->n_items; i++)
                under_way += f->items[i].state == FAILOVER_PLACED;
        for (size_t i = 0; i < f->n_items && under_way < FAILOVER_AT_ONCE; i++) {
                struct failover_item *item = &f->items[i];

                if (item->state != FAILOVER_WAITING)
                        continue;
                place(f, item, hosts, n_hosts, now_ms);
                return item->state == FAILOVER_WAITING ? NULL : item;
        }
        return NULL;
}

void failover_seen(struct failover *f, struct failover_item *item, uint64_t epoch, int64_t now_ms)
{
        if (item->state != FAILOVER_PLACED)
                return;
        if (epoch != item->epoch)
                item->state = FAILOVER_DONE;
        else if (now_ms >= item->deadline_ms)
                failover_refused(f, item, "the host did not claim the disk in time");
}

void failover_refused(struct failover *f, struct failover_item *item, const char *reason)
{
        (void)f;
        if (item->state != FAILOVER_PLACED)
                return;
        item->refused[item->tries++] = item->target;
        item->state = item->tries >= FAILOVER_TRIES ? FAILOVER_FAILED : FAILOVER_WAITING;
        snprintf(item->reason, sizeof(item->reason), "host %u: %s", item->target, reason);
}

bool failover_ended(const struct failover *f)
{
        for (size_t i = 0; i < f->n_items; i++)
                if (f->items[i].state == FAILOVER_WAITING || f->items[i].state == FAILOVER_PLACED)
                        return false;
        return true;
}
