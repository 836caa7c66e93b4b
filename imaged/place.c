/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/place.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "imaged/hosts.h"
#include "imaged/index.h"
#include "imaged/records.h"
#include "migrate/planner.h"

/* A list of instances serves for PLACE_LIST_MS. A placement counts until lists must show its record: they
 * lag by a second at most, and so long as they serve. */
#define PLACED_MS 4000

struct placed {
        char id[UUID_LEN + 1];
        char group[PLACE_GROUP_LEN + 1];
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

int places_recent(struct places *ps, char (**ret)[UUID_LEN + 1], size_t *ret_n)
{
        size_t n = 0;

        pthread_mutex_lock(&ps->lock);
        for (struct placed *p = ps->list; p; p = p->next)
                n++;
        *ret = calloc(n + 1, sizeof(**ret));
        *ret_n = *ret ? n : 0;
        n = 0;
        for (struct placed *p = ps->list; *ret && p; p = p->next)
                memcpy((*ret)[n++], p->id, sizeof(p->id));
        pthread_mutex_unlock(&ps->lock);
        return *ret ? 0 : -ENOMEM;
}

/* --- how much of each host is used --- */

struct usage {
        struct places *places; /* locked; NULL: records only */
        struct planner_host *hosts;
        unsigned *instances;
        size_t n;
        const char *except; /* an instance that does not count: it is being placed */
        const char *group;  /* of that one; "" or NULL: none */
        unsigned *avoid;    /* the hosts that have another of its group */
        size_t n_avoid;
        char in_the_way[200]; /* those others, for people */
};

static int usage_avoid(struct usage *u, unsigned host, const char *name)
{
        unsigned *more = reallocarray(u->avoid, u->n_avoid + 1, sizeof(*more));
        size_t len = strlen(u->in_the_way);

        if (!more)
                return -ENOMEM;
        u->avoid = more;
        u->avoid[u->n_avoid++] = host;
        for (size_t i = 0; i < u->n; i++) {
                if (u->hosts[i].number == host)
                        snprintf(u->in_the_way + len, sizeof(u->in_the_way) - len, "%s%s on %s",
                                 len ? ", " : "", name, u->hosts[i].name);
        }
        return 0;
}

static bool same_group(const struct usage *u, const char *group)
{
        return u->group && u->group[0] && streq(u->group, group);
}

static void usage_add(struct usage *u, unsigned host, unsigned cpus, uint64_t memory, bool counted)
{
        for (size_t i = 0; i < u->n; i++) {
                if (u->hosts[i].number != host)
                        continue;
                planner_use(&u->hosts[i], cpus, memory);
                if (counted)
                        u->instances[i]++;
        }
}

static int usage_one(void *arg, const struct indexed *e)
{
        struct usage *u = arg;
        int r = 0;

        if (e->host == 0 || streq(e->id, u->except))
                return 0;
        for (struct placed *p = u->places ? u->places->list : NULL; p; p = p->next)
                p->listed = p->listed || (p->host == e->host && streq(p->id, e->id));
        usage_add(u, e->host, e->cpus, e->memory, true);
        usage_add(u, e->move_to, e->cpus, e->memory, false);
        if (same_group(u, e->group))
                r = usage_avoid(u, e->host, e->name ? e->name : e->id);
        if (r == 0 && e->move_to && same_group(u, e->group))
                r = usage_avoid(u, e->move_to, e->name ? e->name : e->id);
        return r;
}

static void usage_done(struct usage *u)
{
        hosts_view_free(u->hosts, u->n);
        free(u->instances);
        free(u->avoid);
}

static int usage_new(struct imaged *im, struct usage *u, struct err *err)
{
        int r = hosts_view(im->hosts, &u->hosts, &u->n, err);

        if (r < 0)
                return r;
        u->instances = calloc(u->n + 1, sizeof(*u->instances));
        if (!u->instances)
                return err_set(err, -ENOMEM, "out of memory");
        /* A group's rule is hard, so what other imageds placed a moment ago counts too. */
        return index_each(im->index, u->group && u->group[0] ? 0 : PLACE_LIST_MS, usage_one, u, err);
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
        memcpy(x->group, p->group, sizeof(x->group));
        ps->list = x;
}

/*
 * Whether it was stopped or removed since it was placed, so that no list will show it there. Only where it
 * would keep another of its group away: that must not be for nothing. One that has no record yet is being
 * made.
 */
static bool placed_left(struct imaged *im, const struct placed *x)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        int r = records_load(im->store, RECORD_INSTANCE, x->id, &record, NULL, NULL);

        if (r == -ENOENT)
                return clock_ms() >= x->until_ms - PLACED_MS + PLACE_LIST_MS;
        return r == 0 && index_seat(record) == 0;
}

/* Those that no list shows yet. */
static int placed_count(struct imaged *im, struct places *ps, struct usage *u)
{
        int r = 0;

        for (struct placed **p = &ps->list; *p;) {
                struct placed *x = *p;

                if (x->until_ms < clock_ms() || streq(x->id, u->except) ||
                    (!x->listed && same_group(u, x->group) && placed_left(im, x))) {
                        *p = x->next;
                        free(x);
                        continue;
                }
                if (!x->listed)
                        usage_add(u, x->host, x->cpus, x->memory, true);
                if (!x->listed && r == 0 && same_group(u, x->group))
                        r = usage_avoid(u, x->host, "one that is being made");
                x->listed = false;
                p = &x->next;
        }
        return r;
}

void placing_from(const json_t *record, struct placing *ret)
{
        _cleanup_(freep) char *group = index_group(record);

        *ret = (struct placing){.id = json_get_str(record, "id", ""),
                                .cpus = (unsigned)json_get_int(record, "cpus", 1),
                                .memory = (uint64_t)json_get_int(record, "memory", 0)};
        snprintf(ret->group, sizeof(ret->group), "%s", group ? group : "");
}

/* Index of the host, or negative. */
static int usage_pick(const struct usage *u, const struct placing *p, struct err *err)
{
        const struct planner_need need = {.cpus = p->cpus,
                                          .memory = p->memory,
                                          .only = p->only,
                                          .not_on = p->not_on,
                                          .avoid = u->avoid,
                                          .n_avoid = u->n_avoid};
        const char *group = strchr(p->group, '/');
        struct err e = {0};
        char why[128];
        int r;

        for (size_t i = 0; p->preferred && i < u->n; i++) {
                if (u->hosts[i].number == p->preferred &&
                    planner_fits(&u->hosts[i], &need, why, sizeof(why)))
                        return (int)i;
        }
        r = planner_pick(u->hosts, u->n, &need, &e);
        if (r >= 0)
                return r;
        if (u->n_avoid == 0)
                return err_set(err, r, "%s", err_text(&e));
        return err_set(err, r, "%s; in group %s are %s", err_text(&e), group ? group + 1 : "",
                       u->in_the_way);
}

int place_pick(struct imaged *im, const struct placing *p, unsigned *ret, struct err *err)
{
        struct usage u = {.places = im->places, .except = p->id, .group = p->group};
        int r;

        pthread_mutex_lock(&im->places->lock);
        r = usage_new(im, &u, err);
        if (r == 0)
                r = placed_count(im, im->places, &u);
        if (r == 0)
                r = usage_pick(&u, p, err);
        if (r >= 0) {
                *ret = u.hosts[r].number;
                placed_add(im->places, p, *ret);
                r = 0;
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
