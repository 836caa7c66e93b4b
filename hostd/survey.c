/* SPDX-License-Identifier: Apache-2.0 */
#include "hostd/survey.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/util.h"
#include "hostd/record.h"
#include "migrate/failover.h"

/* Room for one more element; grows by doubling. */
static void *grow(void *array, size_t n, size_t size)
{
        if (n & (n - 1)) /* not a power of two: there is room */
                return array;
        return realloc(array, (n ? n * 2 : 1) * size);
}

static int add_host(void *arg, const char *id, uint64_t version, const char *text)
{
        struct survey *s = arg;
        _cleanup_(json_decrefpp) json_t *doc = NULL;
        const json_t *taken;
        struct survey_host *hosts, h = {0};
        int state;

        (void)version;
        if (json_parse(text, id, &doc, NULL) < 0)
                return 0; /* a damaged record of one host must not stop the others */
        state = host_state_parse(json_get_str(doc, "state", ""));
        h.ring.number = (unsigned)json_get_int(doc, "number", 0);
        if (state < 0 || h.ring.number == 0)
                return 0;
        taken = json_object_get(doc, "taken");
        h.ring.state = (enum host_state)state;
        h.ring.epoch = (uint64_t)json_get_int(doc, "epoch", 0);
        h.ring.taken_by = (unsigned)json_get_int(taken, "by", 0);
        h.ring.taken_done = json_get_bool(taken, "done", false);
        if (h.ring.state == HOST_STOPPED)
                h.disarmed_ms = json_get_int(doc, "disarmed_ms", 0);
        h.ring.maintenance = json_get_bool(doc, "maintenance", false);
        h.drained = json_get_bool(doc, "drained", false);
        h.cut_off = json_get_bool(doc, "uplink_dead", false);
        snprintf(h.cannot_start, sizeof(h.cannot_start), "%.63s", json_get_str(doc, "cannot_start", ""));
        h.cpus = (unsigned)json_get_int(doc, "cpus", 0);
        h.memory = (uint64_t)json_get_int(doc, "memory", 0);
        snprintf(h.name, sizeof(h.name), "%.64s", json_get_str(doc, "name", id));
        snprintf(h.api, sizeof(h.api), "%.127s", json_get_str(doc, "api", ""));
        snprintf(h.nonce, sizeof(h.nonce), "%.36s", json_get_str(doc, "nonce", ""));
        hosts = grow(s->hosts, s->n_hosts, sizeof(*hosts));
        if (!hosts)
                return -ENOMEM;
        s->hosts = hosts;
        hosts[s->n_hosts++] = h;
        return 0;
}

static int add_lease(void *arg, const char *instance, const struct lease *lease)
{
        struct survey *s = arg;
        struct survey_instance *list = grow(s->instances, s->n_instances, sizeof(*list));

        if (!list)
                return -ENOMEM;
        s->instances = list;
        list[s->n_instances] = (struct survey_instance){.lease = *lease};
        snprintf(list[s->n_instances++].id, sizeof(list[0].id), "%.36s", instance);
        return 0;
}

static int by_id(const void *a, const void *b)
{
        return strcmp(((const struct survey_instance *)a)->id, ((const struct survey_instance *)b)->id);
}

static int add_record(void *arg, const char *id, uint64_t version, const char *text)
{
        struct survey *s = arg;
        struct survey_instance key = {0}, *found;
        struct instance i;
        json_t *doc;

        (void)version;
        snprintf(key.id, sizeof(key.id), "%.36s", id);
        found = s->n_instances ? bsearch(&key, s->instances, s->n_instances, sizeof(key), by_id) : NULL;
        if (!found || json_parse(text, id, &doc, NULL) < 0 || instance_from_json(doc, &i, NULL) < 0)
                return 0;
        found->wanted = i.wanted;
        found->told_off = instance_told_off(&i, &found->lease);
        found->priority = i.priority;
        found->cpus = i.cpus;
        found->memory = i.memory;
        memcpy(found->group, i.group, sizeof(found->group));
        found->placement = i.placement_epoch == found->lease.epoch ? i.placement_host : 0;
        instance_done(&i);
        return 0;
}

struct takeover_instance survey_seen(const struct survey *s, const struct survey_instance *in)
{
        struct takeover_instance seen = {.wanted = in->wanted,
                                         .told_off = in->told_off,
                                         .owner = in->lease.host,
                                         .placement = in->placement};

        for (size_t i = 0; i < s->n_hosts; i++)
                if (s->hosts[i].ring.number == in->placement)
                        seen.placement_up = s->hosts[i].ring.state == HOST_UP;
        return seen;
}

int survey_hosts(struct store *s, struct survey *ret, struct err *err)
{
        struct survey v = {0};
        int r = record_list(s, RECORD_HOST, add_host, &v, err);

        if (r < 0)
                survey_done(&v);
        else
                *ret = v;
        return r;
}

int survey_all(struct store *s, struct survey *ret, struct err *err)
{
        struct survey v = {0};
        size_t kept = 0;
        int r;

        r = record_list(s, RECORD_HOST, add_host, &v, err);
        if (r == 0)
                r = lease_list(s, add_lease, &v, err);
        if (r == 0) {
                if (v.n_instances)
                        qsort(v.instances, v.n_instances, sizeof(*v.instances), by_id);
                r = record_list(s, RECORD_INSTANCE, add_record, &v, err);
        }
        if (r < 0) {
                survey_done(&v);
                return r;
        }
        for (size_t i = 0; i < v.n_instances; i++) /* disks without a record are imaged's to collect */
                if (v.instances[i].cpus > 0)
                        v.instances[kept++] = v.instances[i];
        v.n_instances = kept;
        *ret = v;
        return 0;
}

void survey_done(struct survey *s)
{
        free(s->hosts);
        free(s->instances);
        memset(s, 0, sizeof(*s));
}

int survey_plan(const struct survey *s, struct planner_host **ret, size_t *ret_n)
{
        struct planner_host *plan = calloc(s->n_hosts + 1, sizeof(*plan));

        if (!plan)
                return -ENOMEM;
        for (size_t i = 0; i < s->n_hosts; i++) {
                const struct survey_host *h = &s->hosts[i];
                struct planner_host *p = &plan[i];

                *p = (struct planner_host){.number = h->ring.number,
                                           .name = h->name,
                                           .alive = h->ring.state == HOST_UP,
                                           .drained = h->drained,
                                           .cut_off = h->cut_off,
                                           .cannot_start = h->cannot_start,
                                           .cpus = h->cpus,
                                           .memory = h->memory};
                for (size_t k = 0; k < s->n_instances; k++) {
                        const struct survey_instance *in = &s->instances[k];
                        unsigned on = in->placement ? in->placement : in->lease.host;

                        if (in->wanted != WANTED_RUNNING || on != p->number)
                                continue;
                        planner_use(p, in->cpus, in->memory);
                }
        }
        *ret = plan;
        *ret_n = s->n_hosts;
        return 0;
}

int survey_seats(const struct survey *s, const char *but, unsigned not_on, struct failover_seat **ret,
                 size_t *ret_n)
{
        struct failover_seat *seats = calloc(s->n_instances + 1, sizeof(*seats));
        size_t n = 0;

        if (!seats)
                return -ENOMEM;
        for (size_t i = 0; i < s->n_instances; i++) {
                const struct survey_instance *in = &s->instances[i];
                unsigned on = in->placement ? in->placement : in->lease.host;

                if (in->group[0] && in->wanted == WANTED_RUNNING && on && on != not_on &&
                    !(but && streq(in->id, but)))
                        seats[n++] = (struct failover_seat){.group = in->group, .host = on};
        }
        *ret = seats;
        *ret_n = n;
        return 0;
}

int survey_ring(const struct survey *s, struct ring_host **ret)
{
        struct ring_host *ring = calloc(s->n_hosts + 1, sizeof(*ring));

        if (!ring)
                return -ENOMEM;
        for (size_t i = 0; i < s->n_hosts; i++)
                ring[i] = s->hosts[i].ring;
        *ret = ring;
        return 0;
}
