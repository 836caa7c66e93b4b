/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/collect.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "imaged/catalog.h"
#include "imaged/hosts.h"
#include "imaged/image.h"
#include "imaged/index.h"
#include "imaged/instance.h"
#include "imaged/network.h"
#include "imaged/quota.h"
#include "imaged/records.h"
#include "imaged/upload-record.h"
#include "imaged/upload.h"

/*
 * Times, for stale_ms = 60 s:
 *
 *   every 0.1 s   instances whose removal was asked of this imaged, for WATCH_MS
 *   every 0.5 s   results of background jobs
 *   every 5 s     sign of life of own uploads (stale / 12: several before others give up on them)
 *   every 15 s    look at records that are on the way somewhere (stale / 4)
 *   every 60 s    look at names, addresses and disks (stale)
 *   10 s          an instance waits so long for a host that is not alive before it is placed again (at most
 * stale)
 *   180 s         an upload of `wherry image add` waits so long for its client (stale * RESUME)
 */
#define TICK_MS 500
#define WATCH_TICK_MS 100
#define WATCH_MS 60000
#define WATCHED_MAX 64 /* the others are found by the look */
#define REPLACE_MS 10000
#define RESUME 3 /* times stale: as long as `wherry image add` tries to reach an imaged */

/* Something that is on the way, and since when it has not moved. */
struct mark {
        char key[96];
        uint64_t version;
        int64_t since_ms;
        bool seen;
        struct mark *next;
};

struct collector {
        struct imaged *im;
        pthread_t thread;
        bool thread_runs;
        struct mark *marks; /* the thread's */
        int64_t beat_ms, look_ms, sweep_ms;

        pthread_mutex_t lock; /* over what follows */
        pthread_cond_t stopped;
        bool stopping;
        struct {
                char id[UUID_LEN + 1];
                int64_t until_ms;
        } watched[WATCHED_MAX]; /* being removed by their hosts */
        size_t n_watched;
};

/* For how long this stands at this version. */
static int64_t mark_age(struct collector *c, const char *kind, const char *id, uint64_t version)
{
        char key[96];
        struct mark *m;

        snprintf(key, sizeof(key), "%s %s", kind, id);
        for (m = c->marks; m && !streq(m->key, key); m = m->next)
                ;
        if (!m) {
                m = calloc(1, sizeof(*m));
                if (!m)
                        return 0;
                memcpy(m->key, key, sizeof(key));
                m->next = c->marks;
                c->marks = m;
                m->since_ms = clock_ms();
        }
        if (m->version != version)
                m->since_ms = clock_ms();
        m->version = version;
        m->seen = true;
        return clock_ms() - m->since_ms;
}

/* Drops those of a kind that the look just done did not meet. */
static void marks_end(struct collector *c, const char *kind)
{
        size_t n = strlen(kind);

        for (struct mark **p = &c->marks; *p;) {
                struct mark *m = *p;

                if (strncmp(m->key, kind, n) != 0 || m->key[n] != ' ') {
                        p = &m->next;
                } else if (m->seen) {
                        m->seen = false;
                        p = &m->next;
                } else {
                        *p = m->next;
                        free(m);
                }
        }
}

static void report(const char *what, const char *id, int r, const struct err *err)
{
        if (r == 0)
                log_info("%s %s: a left-over was cleaned up", what, id);
        else if (r == -ESTALE || r == -ENOENT) /* it moved after all */
                log_debug("%s %s: %s", what, id, err_text(err));
        else
                log_warn("%s %s: left-over: %s", what, id, err_text(err));
}

static void look_image(struct collector *c, const char *id)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        int64_t waits = c->im->stale_ms;
        const char *status, *by;
        struct err err = {0};
        uint64_t version;
        int r;

        if (records_load(c->im->store, RECORD_IMAGE, id, &record, &version, NULL) < 0)
                return;
        status = json_get_str(record, "status", "");
        by = json_get_str(json_object_get(record, "import"), "by", NULL);
        if (import_resumable(record))
                waits *= RESUME;
        if (mark_age(c, "image", id, version) < waits)
                return;
        if (streq(status, "pending_delete") || streq(status, "deleted")) {
                r = image_delete_step(c->im, id, &err);
                if (r != 0)
                        report("image", id, r > 0 ? 0 : r, &err);
        } else if (by) {
                report("image", id, upload_collect(c->im, id, by, &err), &err);
        }
}

static bool waits_for_dead_host(struct collector *c, const json_t *record)
{
        const char *state = json_get_str(json_object_get(record, "status"), "state", "");
        unsigned host = (unsigned)json_get_int(json_object_get(record, "placement"), "host", 0);

        return streq(json_get_str(record, "wanted", NULL), "running") && host &&
               (streq(state, "pending") || streq(state, "stopped") || streq(state, "failed")) &&
               !hosts_alive(c->im->hosts, host);
}

static void look_instance(struct collector *c, const char *id, uint64_t version, const json_t *record)
{
        const char *by = json_get_str(json_object_get(record, "creating"), "by", NULL);
        struct err err = {0};
        int r;

        if (by && mark_age(c, "creating", id, version) >= c->im->stale_ms) {
                r = instance_undo(c->im, id, json_get_str(record, "name", ""), by, &err);
                report("instance", id, r, &err);
        } else if (streq(json_get_str(record, "wanted", NULL), "deleted")) {
                r = instance_delete_step(c->im, record, &err);
                if (r < 0 && r != -ESTALE && r != -ENOENT)
                        log_debug("instance %s: not deleted yet: %s", id, err_text(&err));
        } else if (waits_for_dead_host(c, record) &&
                   mark_age(c, "waiting", id, version) >= MIN_OF(REPLACE_MS, (int64_t)c->im->stale_ms)) {
                r = instance_replace(c->im, record, &err);
                if (r < 0)
                        log_warn("instance %s: waits for a host: %s", id, err_text(&err));
        }
}

struct attention {
        char (*ids)[UUID_LEN + 1];
        size_t n, room;
};

static int attention_add(struct attention *a, const char *id)
{
        if (a->n == a->room) {
                void *bigger = realloc(a->ids, (a->room * 2 + 64) * sizeof(*a->ids));

                if (!bigger)
                        return -ENOMEM;
                a->ids = bigger;
                a->room = a->room * 2 + 64;
        }
        memcpy(a->ids[a->n++], id, sizeof(*a->ids));
        return 0;
}

static int attention_one(void *arg, const struct indexed *e)
{
        return e->attention ? attention_add(arg, e->id) : 0;
}

static int image_attention(void *arg, const struct cataloged *e)
{
        return e->attention ? attention_add(arg, e->id) : 0;
}

static int look_images(struct collector *c, struct err *err)
{
        struct attention a = {0};
        int r = catalog_each(c->im->catalog, 1000, image_attention, &a, err);

        for (size_t i = 0; r == 0 && i < a.n; i++)
                look_image(c, a.ids[i]);
        free(a.ids);
        return r;
}

static int look_instances(struct collector *c, struct err *err)
{
        struct attention a = {0};
        int r = index_each(c->im->index, 0, attention_one, &a, err);

        for (size_t i = 0; r == 0 && i < a.n; i++) {
                _cleanup_(json_decrefpp) json_t *record = NULL;
                uint64_t version;

                if (records_load(c->im->store, RECORD_INSTANCE, a.ids[i], &record, &version, NULL) == 0)
                        look_instance(c, a.ids[i], version, record);
        }
        free(a.ids);
        return r;
}

static void look(struct collector *c)
{
        struct err err = {0};
        int r;

        r = look_images(c, &err);
        if (r == 0)
                r = look_instances(c, &err);
        if (r < 0) {
                log_warn("left-overs: %s", err_text(&err));
                return; /* the marks stay: nothing is known to have moved */
        }
        marks_end(c, "image");
        marks_end(c, "creating");
        marks_end(c, "waiting");
}

/* Disks that no record tells of, and no host owns. A record comes before its disks, so this is for good. */
static int sweep_disks(void *arg, const char *instance, const struct lease *lease)
{
        const struct disk_spec disks[INSTANCE_DISKS] = {{.name = "disk0"}, {.name = "seed"}};
        struct collector *c = arg;
        _cleanup_(freep) char *text = NULL;
        struct err err = {0};

        if (lease->host != 0 || index_has(c->im->index, instance) ||
            record_get(c->im->store, RECORD_INSTANCE, instance, &text, NULL, NULL) != -ENOENT)
                return 0;
        if (mark_age(c, "disks", instance, lease->epoch) < c->im->stale_ms)
                return 0;
        report("disks of", instance,
               lease_remove(c->im->store, instance, lease, disks, INSTANCE_DISKS, &err), &err);
        return 0;
}

static bool quota_stale(void *arg, const char *image)
{
        struct collector *c = arg;

        return mark_age(c, "quota", image, 0) >= c->im->stale_ms;
}

static void sweep(struct collector *c)
{
        struct err err = {0};
        int r;

        r = lease_list(c->im->store, sweep_disks, c, &err);
        if (r == 0)
                marks_end(c, "disks");
        if (r == 0)
                r = quota_sweep(c->im, quota_stale, c, &err);
        if (r == 0)
                marks_end(c, "quota");
        if (r == 0)
                r = name_sweep(c->im, &err);
        if (r == 0)
                r = network_sweep(c->im, NETWORK_DEFAULT, &err);
        if (r == 0)
                r = store_upkeep(c->im->store, &err);
        if (r < 0)
                log_warn("left-overs: %s", err_text(&err));
}

/* --- removals that are under way --- */

void collector_watch(struct collector *c, const char *instance)
{
        pthread_mutex_lock(&c->lock);
        if (c->n_watched < WATCHED_MAX) {
                snprintf(c->watched[c->n_watched].id, sizeof(c->watched[0].id), "%s", instance);
                c->watched[c->n_watched++].until_ms = clock_ms() + WATCH_MS;
                pthread_cond_broadcast(&c->stopped);
        }
        pthread_mutex_unlock(&c->lock);
}

/* Whether it is over. What the host says last is that its own part is done; before that nothing is given
 * back. */
static bool watch_look(struct collector *c, const char *id)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        struct err err = {0};
        int r = records_load(c->im->store, RECORD_INSTANCE, id, &record, NULL, NULL);

        if (r == 0 && !streq(json_get_str(json_object_get(record, "status"), "state", NULL), "deleted"))
                return false;
        if (r == 0)
                r = instance_delete_step(c->im, record, &err);
        if (r < 0 && r != -ENOENT && r != -ESTALE)
                log_debug("instance %s: not deleted yet: %s", id, err_text(&err));
        return r == 0 || r == -ENOENT;
}

static void watch_all(struct collector *c)
{
        for (size_t i = 0;;) {
                char id[UUID_LEN + 1];
                bool late = false, over;

                pthread_mutex_lock(&c->lock);
                if (i < c->n_watched) {
                        memcpy(id, c->watched[i].id, sizeof(id));
                        late = c->watched[i].until_ms < clock_ms();
                } else
                        id[0] = '\0';
                pthread_mutex_unlock(&c->lock);
                if (!id[0])
                        return;
                over = late || watch_look(c, id);
                pthread_mutex_lock(&c->lock);
                if (over) /* this thread alone takes away */
                        c->watched[i] = c->watched[--c->n_watched];
                else
                        i++;
                pthread_mutex_unlock(&c->lock);
        }
}

static bool collector_wait(struct collector *c)
{
        int64_t begin = clock_ms(), at;
        bool stopping;

        pthread_mutex_lock(&c->lock);
        while (at = begin + (c->n_watched ? WATCH_TICK_MS : TICK_MS), !c->stopping && clock_ms() < at) {
                struct timespec ts = {.tv_sec = at / 1000, .tv_nsec = at % 1000 * 1000000};

                pthread_cond_timedwait(&c->stopped, &c->lock, &ts);
        }
        stopping = c->stopping;
        pthread_mutex_unlock(&c->lock);
        return !stopping;
}

static void *collector_run(void *arg)
{
        struct collector *c = arg;

        while (collector_wait(c)) {
                int64_t now = clock_ms();

                jobs_collect(c->im->imports);
                jobs_collect(c->im->nudges);
                watch_all(c);
                if (now - c->beat_ms >= c->im->stale_ms / 12) {
                        upload_beat_all(c->im);
                        c->beat_ms = now;
                }
                if (now - c->look_ms >= c->im->stale_ms / 4) {
                        look(c);
                        c->look_ms = now;
                }
                if (now - c->sweep_ms >= c->im->stale_ms) {
                        sweep(c);
                        c->sweep_ms = now;
                }
        }
        return NULL;
}

int collector_new(struct imaged *im, struct collector **ret, struct err *err)
{
        struct collector *c = calloc(1, sizeof(*c));
        pthread_condattr_t attr;
        int r;

        if (!c)
                return err_set(err, -ENOMEM, "out of memory");
        c->im = im;
        c->beat_ms = c->look_ms = c->sweep_ms = clock_ms();
        pthread_mutex_init(&c->lock, NULL);
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&c->stopped, &attr);
        pthread_condattr_destroy(&attr);
        r = -pthread_create(&c->thread, NULL, collector_run, c);
        if (r < 0) {
                collector_free(c);
                return err_set(err, r, "thread: %s", strerror(-r));
        }
        c->thread_runs = true;
        *ret = c;
        return 0;
}

struct collector *collector_free(struct collector *c)
{
        if (!c)
                return NULL;
        pthread_mutex_lock(&c->lock);
        c->stopping = true;
        pthread_cond_broadcast(&c->stopped);
        pthread_mutex_unlock(&c->lock);
        if (c->thread_runs)
                pthread_join(c->thread, NULL);
        while (c->marks) {
                struct mark *m = c->marks;

                c->marks = m->next;
                free(m);
        }
        pthread_cond_destroy(&c->stopped);
        pthread_mutex_destroy(&c->lock);
        free(c);
        return NULL;
}
