/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/place.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "imaged/hosts.h"
#include "imaged/index.h"
#include "migrate/planner.h"

/* A list of instances serves for LIST_MS. A placement counts until lists must show its record: they lag by a
 * second at most, and so long as they serve. */
#define LIST_MS 1000
#define PLACED_MS 4000

struct placed {
        char id[UUID_LEN + 1];
        unsigned host, cpus;
        uint64_t memory;
        int64_t until_ms;
        bool listed;
        struct placed *next;
};

struct places {
        pthread_mutex_t lock; /* one placement at a time */
        struct placed *list;
};

int places_new(struct places **ret, struct err *err)
{
        struct places *ps = calloc(1, sizeof(*ps));

        if (!ps)
                return err_set(err, -ENOMEM, "out of memory");
        pthread_mutex_init(&ps->lock, NULL);
        *ret = ps;
        return 0;
}

struct places *places_free(struct places *ps)
{
        if (!ps)
                return NULL;
        while (ps->list) {
                struct placed *p = ps->list;

                ps->list = p->next;
                free(p);
        }
        pthread_mutex_destroy(&ps->lock);
        free(ps);
        return NULL;
}

/* --- how much of each host is used --- */

struct usage {
        struct places *places; /* locked; NULL: records only */
        struct planner_host *hosts;
        unsigned *instances;
        size_t n;
        const char *except; /* an instance that does not count: it is being placed */
};

static void usage_add(struct usage *u, unsigned host, unsigned cpus, uint64_t memory, bool counted)
{
        for (size_t i = 0; i < u->n; i++) {
                if (u->hosts[i].number != host)
                        continue;
                u->hosts[i].cpus_used += cpus;
                u->hosts[i].memory_used += memory;
                if (counted)
                        u->instances[i]++;
        }
}

static int usage_one(void *arg, const struct indexed *e)
{
        struct usage *u = arg;

        if (e->host == 0 || streq(e->id, u->except))
                return 0;
        for (struct placed *p = u->places ? u->places->list : NULL; p; p = p->next)
                p->listed = p->listed || (p->host == e->host && streq(p->id, e->id));
        usage_add(u, e->host, e->cpus, e->memory, true);
        usage_add(u, e->move_to, e->cpus, e->memory, false);
        return 0;
}

static void usage_done(struct usage *u)
{
        hosts_view_free(u->hosts, u->n);
        free(u->instances);
}

static int usage_new(struct imaged *im, struct usage *u, struct err *err)
{
        int r = hosts_view(im->hosts, &u->hosts, &u->n, err);

        if (r < 0)
                return r;
        u->instances = calloc(u->n + 1, sizeof(*u->instances));
        if (!u->instances)
                return err_set(err, -ENOMEM, "out of memory");
        return index_each(im->index, LIST_MS, usage_one, u, err);
}

static void placed_add(struct places *ps, const struct placing *p, unsigned host)
{
        struct placed *x = calloc(1, sizeof(*x));

        if (!x)
                return;
        *x = (struct placed){.host = host,
                             .cpus = p->cpus,
                             .memory = p->memory,
                             .until_ms = clock_ms() + PLACED_MS,
                             .next = ps->list};
        snprintf(x->id, sizeof(x->id), "%s", p->id);
        ps->list = x;
}

/* Those that no list shows yet. */
static void placed_count(struct places *ps, struct usage *u)
{
        for (struct placed **p = &ps->list; *p;) {
                struct placed *x = *p;

                if (x->until_ms < clock_ms() || streq(x->id, u->except)) {
                        *p = x->next;
                        free(x);
                        continue;
                }
                if (!x->listed)
                        usage_add(u, x->host, x->cpus, x->memory, true);
                x->listed = false;
                p = &x->next;
        }
}

int place_pick(struct imaged *im, const struct placing *p, unsigned *ret, struct err *err)
{
        struct planner_need need = {
            .cpus = p->cpus, .memory = p->memory, .only = p->only, .not_on = p->not_on};
        struct usage u = {.places = im->places, .except = p->id};
        char why[128];
        int r;

        pthread_mutex_lock(&im->places->lock);
        r = usage_new(im, &u, err);
        if (r == 0) {
                placed_count(im->places, &u);
                r = -ENOSPC;
                for (size_t i = 0; p->preferred && i < u.n; i++) {
                        if (u.hosts[i].number == p->preferred &&
                            planner_fits(&u.hosts[i], &need, why, sizeof(why)))
                                r = (int)i;
                }
                if (r < 0)
                        r = planner_pick(u.hosts, u.n, &need, err);
                if (r >= 0) {
                        *ret = u.hosts[r].number;
                        placed_add(im->places, p, *ret);
                        r = 0;
                }
        }
        usage_done(&u);
        pthread_mutex_unlock(&im->places->lock);
        return r;
}

int place_on_hosts(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        _cleanup_(json_decrefpp) json_t *reply = NULL;
        json_t *list = json_array();
        struct usage u = {0};
        int r = usage_new(im, &u, err);

        reply = json_pack("{s:o}", "hosts", list);
        for (size_t i = 0; r == 0 && i < u.n; i++) {
                json_t *view = hosts_record(im->hosts, u.hosts[i].number);

                if (!view)
                        continue;
                json_object_set_new(view, "alive", json_boolean(u.hosts[i].alive));
                json_object_set_new(view, "instances", json_integer(u.instances[i]));
                json_object_set_new(view, "memory_used", json_integer((json_int_t)u.hosts[i].memory_used));
                json_object_set_new(view, "cpus_used", json_integer(u.hosts[i].cpus_used));
                json_array_append_new(list, view);
        }
        usage_done(&u);
        return r < 0 ? r : http_reply_json(req, 200, reply);
}
