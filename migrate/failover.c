/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/failover.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"

#define PAUSE_MAX_MS 60000

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
        f->seats = NULL;
        f->n_seats = 0;
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

static bool same_group(const char *a, const char *b)
{
        return a && b && a[0] && strcmp(a, b) == 0;
}

static bool on_host(const struct failover_item *item, unsigned host)
{
        return (item->state == FAILOVER_PLACED || item->state == FAILOVER_DONE) && item->target == host;
}

/* The hosts that item's group keeps it from, into ret, which has room for all. */
static size_t group_hosts(const struct failover *f, const struct failover_item *item, unsigned *ret)
{
        size_t n = 0;

        for (size_t i = 0; i < f->n_seats; i++)
                if (same_group(f->seats[i].group, item->group))
                        ret[n++] = f->seats[i].host;
        for (size_t i = 0; i < f->n_items; i++)
                if (&f->items[i] != item && same_group(f->items[i].group, item->group) &&
                    on_host(&f->items[i], f->items[i].target))
                        ret[n++] = f->items[i].target;
        return n;
}

/* The hosts that are left for this item, with what was placed already counted in. */
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

                        if (!on_host(other, hosts[i].number))
                                continue;
                        planner_use(&ret[n], other->cpus, other->memory);
                }
                n++;
        }
        return n;
}

void failover_place(struct failover *f, struct failover_item *item, const struct planner_host *hosts,
                    size_t n_hosts, int64_t now_ms)
{
        _cleanup_(freep) struct planner_host *left = calloc(n_hosts + 1, sizeof(*left));
        _cleanup_(freep) unsigned *avoid = calloc(f->n_seats + f->n_items + 1, sizeof(*avoid));
        struct planner_need need = {.cpus = item->cpus, .memory = item->memory, .avoid = avoid};
        struct err e = {0};
        size_t n;
        int best;

        if (!left || !avoid)
                return; /* stays waiting: tried again at the next step */
        need.n_avoid = group_hosts(f, item, avoid);
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
                failover_place(f, item, hosts, n_hosts, now_ms);
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

void failover_gone(struct failover *f, struct failover_item *item)
{
        (void)f;
        item->state = FAILOVER_DONE;
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

static bool chain_has(const struct failover_chain *c, unsigned host)
{
        for (size_t i = 0; i < FAILOVER_TRIES; i++)
                if (c->tried[i] == host)
                        return true;
        return false;
}

/* The oldest makes room: who failed three hosts ago may have mended. */
void failover_tried(struct failover_chain *c, unsigned host)
{
        size_t n = 0;

        if (chain_has(c, host))
                return;
        while (n < FAILOVER_TRIES && c->tried[n])
                n++;
        if (n == FAILOVER_TRIES)
                memmove(c->tried, c->tried + 1, --n * sizeof(c->tried[0]));
        c->tried[n] = host;
}

unsigned failover_hand_on(struct failover *f, struct failover_chain *chain, unsigned me,
                          const struct planner_host *hosts, size_t n_hosts, struct err *err)
{
        struct failover_item *item = &f->items[0];

        chain->tries++;
        failover_tried(chain, me);
        for (int round = 0; round < 2; round++) {
                item->tries = 0;
                for (size_t i = 0; i < FAILOVER_TRIES && chain->tried[i]; i++)
                        item->refused[item->tries++] = chain->tried[i];
                item->state = FAILOVER_WAITING;
                failover_place(f, item, hosts, n_hosts, 0);
                if (item->state == FAILOVER_PLACED)
                        return item->target;
                if (chain->tries < FAILOVER_TRIES && round == 0)
                        break; /* those that failed a moment ago are not asked again at once */
                memset(chain->tried, 0, sizeof(chain->tried));
                chain->tried[0] = me;
        }
        err_set(err, -ENOSPC, "%s", item->reason);
        return me;
}

int64_t failover_pause_ms(unsigned tries)
{
        int64_t pause = 1000;

        if (tries < FAILOVER_TRIES)
                return 0;
        for (unsigned i = FAILOVER_TRIES; i < tries && pause < PAUSE_MAX_MS; i++)
                pause *= 2;
        return MIN_OF(pause, PAUSE_MAX_MS);
}
