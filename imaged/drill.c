/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/drill.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "imaged/hosts.h"
#include "imaged/index.h"
#include "imaged/place.h"
#include "imaged/records.h"

static int look_one(void *arg, const struct indexed *e)
{
        struct drill *d = arg;
        struct drill_instance *i;

        for (size_t k = 0; k < d->n_hosts; k++) {
                if (d->hosts[k].number != e->host && d->hosts[k].number != e->move_to)
                        continue;
                planner_use(&d->hosts[k], e->cpus, e->memory);
        }
        if (!e->wanted || e->host == 0)
                return 0;
        if (d->n_instances == d->room) {
                size_t room = d->room * 2 + 64;

                i = reallocarray(d->instances, room, sizeof(*i));
                if (!i)
                        return -ENOMEM;
                d->instances = i;
                d->room = room;
        }
        i = &d->instances[d->n_instances++];
        *i = (struct drill_instance){.name = strdup(e->name ? e->name : e->id),
                                     .group = e->group ? strdup(e->group) : NULL,
                                     .host = e->host,
                                     .priority = e->priority,
                                     .cpus = e->cpus,
                                     .memory = e->memory};
        memcpy(i->id, e->id, sizeof(i->id));
        return i->name && !i->group == !e->group ? 0 : -ENOMEM;
}

static int by_host(const void *a, const void *b)
{
        const struct drill_instance *x = a, *y = b;

        return (x->host > y->host) - (x->host < y->host);
}

void drill_sort(struct drill *d)
{
        if (d->n_instances)
                qsort(d->instances, d->n_instances, sizeof(*d->instances), by_host);
        for (size_t i = 0; i < d->n_instances; i++)
                d->n_grouped += d->instances[i].group != NULL;
}

const struct drill_instance *drill_of(const struct drill *d, unsigned host, size_t *ret_n)
{
        const struct drill_instance key = {.host = host}, *first, *end = d->instances + d->n_instances,
                                    *last;

        *ret_n = 0;
        first = d->n_instances ? bsearch(&key, d->instances, d->n_instances, sizeof(key), by_host) : NULL;
        if (!first)
                return NULL;
        while (first > d->instances && first[-1].host == host)
                first--;
        for (last = first; last < end && last->host == host; last++)
                ;
        *ret_n = (size_t)(last - first);
        return first;
}

/* An instance that the list lacks, or has as stopped. One that has gone is none. */
static int look_recent(struct imaged *im, const char *id, struct drill *d)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        _cleanup_(freep) char *group = NULL;
        struct indexed e = {0};

        for (size_t i = 0; i < d->n_instances; i++)
                if (streq(d->instances[i].id, id))
                        return 0;
        if (!uuid_valid(id) || records_load(im->store, RECORD_INSTANCE, id, &record, NULL, NULL) < 0)
                return 0;
        memcpy(e.id, id, sizeof(e.id));
        group = index_group(record);
        e.name = (char *)json_get_str(record, "name", "");
        e.group = group;
        e.host = index_seat(record);
        e.cpus = (unsigned)json_get_int(record, "cpus", 0);
        e.memory = (uint64_t)json_get_int(record, "memory", 0);
        e.priority = (int)json_get_int(record, "priority", 0);
        e.wanted = streq(json_get_str(record, "wanted", NULL), "running");
        return look_one(d, &e);
}

int drill_look(struct imaged *im, const char *after, struct drill *ret, struct err *err)
{
        _cleanup_(freep) char(*recent)[UUID_LEN + 1] = NULL;
        size_t n = 0;
        int r = hosts_view(im->hosts, &ret->hosts, &ret->n_hosts, err);

        if (r == 0)
                r = index_each(im->index, after ? PLACE_LIST_MS : 0, look_one, ret, err);
        if (r == 0 && after)
                r = places_recent(im->places, &recent, &n);
        for (size_t i = 0; r == 0 && i < n; i++)
                r = look_recent(im, recent[i], ret);
        if (r == 0 && after)
                r = look_recent(im, after, ret);
        if (r == 0)
                drill_sort(ret);
        return r == -ENOMEM ? err_set(err, r, "out of memory") : r;
}

void drill_done(struct drill *d)
{
        hosts_view_free(d->hosts, d->n_hosts);
        for (size_t i = 0; i < d->n_instances; i++) {
                free(d->instances[i].name);
                free(d->instances[i].group);
        }
        free(d->instances);
        *d = (struct drill){0};
}

static struct failover_item item_of(const struct drill_instance *i)
{
        struct failover_item item = {
            .priority = i->priority, .cpus = i->cpus, .memory = i->memory, .group = i->group, .epoch = 1};

        memcpy(item.instance, i->id, sizeof(item.instance));
        return item;
}

int drill_run(const struct drill *d, unsigned dead, struct failover_item **ret, size_t *ret_n,
              struct err *err)
{
        size_t n, n_seats = 0;
        const struct drill_instance *lost = drill_of(d, dead, &n);
        _cleanup_(freep) struct failover_item *items = calloc(n + 1, sizeof(*items));
        _cleanup_(freep) struct failover_seat *seats = calloc(d->n_grouped + 1, sizeof(*seats));
        struct failover f;

        if (!items || !seats)
                return err_set(err, -ENOMEM, "out of memory");
        for (size_t i = 0; i < n; i++)
                items[i] = item_of(&lost[i]);
        for (size_t i = 0; d->n_grouped && i < d->n_instances; i++) {
                const struct drill_instance *x = &d->instances[i];

                if (x->group && x->host != dead)
                        seats[n_seats++] = (struct failover_seat){.group = x->group, .host = x->host};
        }
        failover_init(&f, dead, items, n);
        f.seats = seats;
        f.n_seats = n_seats;
        while (!failover_ended(&f)) {
                struct failover_item *item = failover_next(&f, d->hosts, d->n_hosts, 0);

                if (!item)
                        return err_set(err, -ENOMEM, "out of memory");
                if (item->state == FAILOVER_PLACED) /* here every target claims at once */
                        failover_seen(&f, item, item->epoch + 1, 0);
        }
        *ret = take(items);
        *ret_n = n;
        return 0;
}
