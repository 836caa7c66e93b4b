/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/index.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "imaged/records.h"

#define BUCKETS 16384

struct index {
        struct store *store;

        pthread_mutex_t lock; /* over what follows */
        struct indexed *buckets[BUCKETS];
        unsigned round;
        int64_t listed_ms; /* 0: never */
};

int index_new(struct store *store, struct index **ret, struct err *err)
{
        struct index *x = calloc(1, sizeof(*x));

        if (!x)
                return err_set(err, -ENOMEM, "out of memory");
        x->store = store;
        pthread_mutex_init(&x->lock, NULL);
        *ret = x;
        return 0;
}

static struct indexed *indexed_free(struct indexed *e)
{
        free(e->name);
        free(e->group);
        free(e);
        return NULL;
}

struct index *index_free(struct index *x)
{
        if (!x)
                return NULL;
        for (size_t i = 0; i < BUCKETS; i++) {
                while (x->buckets[i]) {
                        struct indexed *e = x->buckets[i];

                        x->buckets[i] = e->next;
                        indexed_free(e);
                }
        }
        pthread_mutex_destroy(&x->lock);
        free(x);
        return NULL;
}

static struct indexed **bucket(struct index *x, const char *id)
{
        uint32_t hash = 2166136261u; /* FNV-1a */

        for (; *id; id++)
                hash = (hash ^ (unsigned char)*id) * 16777619u;
        return &x->buckets[hash % BUCKETS];
}

static struct indexed *find(struct index *x, const char *id)
{
        struct indexed *e = *bucket(x, id);

        while (e && !streq(e->id, id))
                e = e->next;
        return e;
}

unsigned index_host(const json_t *record)
{
        const json_t *placement = json_object_get(record, "placement");
        const json_t *status = json_object_get(record, "status"),
                     *creating = json_object_get(record, "creating");
        json_int_t host = json_get_int(status, "host", 0);

        if (json_is_object(creating))
                host = json_get_int(creating, "host", 0);
        else if (json_is_object(placement) &&
                 json_get_int(placement, "epoch", 0) >= json_get_int(status, "epoch", 0))
                host = json_get_int(placement, "host", 0);
        return host > 0 ? (unsigned)host : 0;
}

char *index_group(const json_t *record)
{
        const char *group = json_get_str(record, "group", "");

        return group[0] ? str_printf("%s/%s", json_get_str(record, "owner", ""), group) : NULL;
}

static bool one_of(const char *word, const char *const *words)
{
        while (*words && !streq(word, *words))
                words++;
        return *words != NULL;
}

unsigned index_seat(const json_t *record)
{
        static const char *const busy[] = {"starting", "running",    "stopping", "migrating",
                                           "paused",   "restarting", NULL};
        const char *state = json_get_str(json_object_get(record, "status"), "state", "");

        return streq(json_get_str(record, "wanted", NULL), "running") ||
                       json_is_object(json_object_get(record, "creating")) || one_of(state, busy)
                   ? index_host(record)
                   : 0;
}

static void fill(struct indexed *e, const json_t *record)
{
        static const char *const idle[] = {"pending", "stopped", "failed", NULL};
        const char *state = json_get_str(json_object_get(record, "status"), "state", "");
        bool running = streq(json_get_str(record, "wanted", NULL), "running");
        bool creating = json_is_object(json_object_get(record, "creating"));

        e->cpus = (unsigned)json_get_int(record, "cpus", 0);
        e->memory = (uint64_t)json_get_int(record, "memory", 0);
        e->priority = (int)json_get_int(record, "priority", 0);
        e->wanted = running;
        free(e->name);
        free(e->group);
        e->name = strdup(json_get_str(record, "name", ""));
        e->group = index_group(record);
        e->host = index_seat(record);
        e->move_to =
            streq(state, "migrating") ? (unsigned)json_get_int(json_object_get(record, "move"), "to", 0) : 0;
        e->attention = creating || streq(json_get_str(record, "wanted", NULL), "deleted") ||
                       (running && one_of(state, idle));
        snprintf(e->image, sizeof(e->image), "%s",
                 json_get_str(record, "image", json_get_str(record, "iso", "")));
}

/* With the lock. */
static int list_one(void *arg, const char *id, uint64_t version, const char *text)
{
        struct index *x = arg;
        struct indexed *e = find(x, id), **b = bucket(x, id);
        _cleanup_(json_decrefpp) json_t *record = NULL;
        struct err err = {0};

        if (strlen(id) > UUID_LEN)
                return 0;
        if (!e) {
                e = calloc(1, sizeof(*e));
                if (!e)
                        return -ENOMEM;
                memcpy(e->id, id, strlen(id));
                e->next = *b;
                *b = e;
        }
        e->round = x->round;
        if (e->version == version)
                return 0;
        if (json_parse(text, id, &record, &err) < 0)
                log_warn("instance record: %s", err_text(&err));
        fill(e, record);
        e->version = version;
        return 0;
}

static void drop_gone(struct index *x)
{
        for (size_t i = 0; i < BUCKETS; i++) {
                for (struct indexed **p = &x->buckets[i]; *p;) {
                        struct indexed *e = *p;

                        if (e->round == x->round) {
                                p = &e->next;
                        } else {
                                *p = e->next;
                                indexed_free(e);
                        }
                }
        }
}

static int refresh(struct index *x, int64_t max_age_ms, struct err *err)
{
        int64_t begin = clock_ms();
        int r;

        if (x->listed_ms && begin - x->listed_ms < max_age_ms)
                return 0;
        x->round++;
        r = record_list(x->store, RECORD_INSTANCE, list_one, x, err);
        if (r < 0)
                return err_wrap(err, records_code(r), "list of instances");
        drop_gone(x);
        x->listed_ms = begin;
        return 0;
}

int index_each(struct index *x, int64_t max_age_ms, int (*cb)(void *arg, const struct indexed *e), void *arg,
               struct err *err)
{
        int r;

        pthread_mutex_lock(&x->lock);
        r = refresh(x, max_age_ms, err);
        for (size_t i = 0; r == 0 && i < BUCKETS; i++) {
                for (struct indexed *e = x->buckets[i]; r == 0 && e; e = e->next)
                        r = cb(arg, e);
        }
        pthread_mutex_unlock(&x->lock);
        return r;
}

bool index_has(struct index *x, const char *id)
{
        struct indexed *e;
        bool has;

        pthread_mutex_lock(&x->lock);
        e = find(x, id);
        has = e && e->round == x->round;
        pthread_mutex_unlock(&x->lock);
        return has;
}
