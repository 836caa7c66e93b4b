/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/hosts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/http-client.h"
#include "common/jobs.h"
#include "common/json.h"
#include "common/log.h"
#include "imaged/records.h"
#include "migrate/planner.h"

/*
 * Times, by this process's clock. A host writes its counter every 500 ms; it is read every LOOK_MS. One that
 * did not move for ALIVE_MS counts as not alive here: it gets nothing new. (Taking over its guests is the
 * hosts' own decision.) A new imaged knows nothing: it looks every FIRST_LOOK_MS until all counters moved,
 * at most FIRST_MS.
 */
#define LOOK_MS 1000
#define ALIVE_MS 3000
#define FIRST_LOOK_MS 150
#define FIRST_MS 1200
#define NUDGE_MS 2000
#define READERS 8 /* a read that is stuck takes one of them away */

struct host {
        unsigned number;
        json_t *record;
        uint64_t beat;
        bool beat_seen;
        int64_t moved_ms; /* 0: not since this process began */
        bool listed;      /* by the listing that is under way */
        bool reading;     /* its counter is being read */
        struct host *next;
};

struct hosts {
        struct imaged *im;
        struct jobs *jobs;
        pthread_t thread;
        bool thread_runs;

        pthread_mutex_t lock; /* over what follows */
        pthread_cond_t stopped;
        struct host *list;
        bool listing, failed; /* a listing is under way; the last one failed */
        bool stopping;
};

static struct host *host_get(struct hosts *h, unsigned number)
{
        struct host *x = h->list;

        while (x && x->number != number)
                x = x->next;
        return x;
}

static bool host_alive(const struct host *x)
{
        return x->moved_ms != 0 && clock_ms() - x->moved_ms <= ALIVE_MS &&
               streq(json_get_str(x->record, "state", "up"), "up");
}

static void host_free(struct host *x)
{
        json_decref(x->record);
        free(x);
}

/* --- the look --- */

static int look_record(void *arg, const char *id, uint64_t version, json_t *record)
{
        struct hosts *h = arg;
        json_int_t number = json_get_int(record, "number", 0);
        struct host *x;

        if (number < 1 || number > 1000000)
                return 0;
        pthread_mutex_lock(&h->lock);
        x = host_get(h, (unsigned)number);
        if (!x) {
                x = calloc(1, sizeof(*x));
                if (x) {
                        x->number = (unsigned)number;
                        x->next = h->list;
                        h->list = x;
                }
        }
        if (x) {
                json_decref(x->record);
                x->record = json_deep_copy(record);
                x->listed = true;
        }
        pthread_mutex_unlock(&h->lock);
        return 0;
}

/* Those whose record went are forgotten. */
static void forget_unlisted(struct hosts *h)
{
        pthread_mutex_lock(&h->lock);
        for (struct host **p = &h->list; *p;) {
                struct host *x = *p;

                if (x->listed) {
                        x->listed = false;
                        p = &x->next;
                } else {
                        *p = x->next;
                        host_free(x);
                }
        }
        pthread_mutex_unlock(&h->lock);
}

static int list_hosts(struct hosts *h, struct err *err)
{
        int r = records_each(h->im->store, RECORD_HOST, look_record, h, err);

        if (r == 0)
                forget_unlisted(h);
        return r;
}

static void list_work(void *arg)
{
        struct hosts *h = arg;
        struct err err = {0};
        int r = list_hosts(h, &err);

        pthread_mutex_lock(&h->lock);
        if (r < 0 && !h->failed)
                log_warn("hosts: %s", err_text(&err));
        h->failed = r < 0;
        h->listing = false;
        pthread_mutex_unlock(&h->lock);
}

struct beat {
        struct hosts *h;
        unsigned number;
};

static void beat_work(void *arg)
{
        const struct beat *b = arg;
        uint64_t beat = 0;
        int r = beat_read(b->h->im->store, b->number, &beat, NULL);
        struct host *x;

        pthread_mutex_lock(&b->h->lock);
        x = host_get(b->h, b->number);
        if (x)
                x->reading = false;
        if (x && r == 0) { /* else nothing is known: what was known grows old */
                if (x->beat_seen && x->beat != beat)
                        x->moved_ms = clock_ms();
                x->beat = beat;
                x->beat_seen = true;
        }
        pthread_mutex_unlock(&b->h->lock);
}

/* With the lock. */
static void ask_beat(struct hosts *h, struct host *x)
{
        struct beat *b = x->reading ? NULL : malloc(sizeof(*b));

        if (!b)
                return;
        *b = (struct beat){.h = h, .number = x->number};
        x->reading = jobs_add(h->jobs, beat_work, free, b) == 0;
        if (!x->reading)
                free(b);
}

/* Asks for the list and for each heartbeat, and waits for none of them: a slow one makes no other late. */
static void hosts_look(struct hosts *h)
{
        jobs_collect(h->jobs);
        pthread_mutex_lock(&h->lock);
        if (!h->listing)
                h->listing = jobs_add(h->jobs, list_work, NULL, h) == 0;
        for (struct host *x = h->list; x; x = x->next)
                ask_beat(h, x);
        pthread_mutex_unlock(&h->lock);
}

static bool all_moved(struct hosts *h)
{
        bool all = true;

        pthread_mutex_lock(&h->lock);
        for (struct host *x = h->list; x; x = x->next)
                all = all && (x->moved_ms != 0 || !streq(json_get_str(x->record, "state", NULL), "up"));
        pthread_mutex_unlock(&h->lock);
        return all;
}

static bool hosts_wait(struct hosts *h, int ms)
{
        int64_t at = clock_ms() + ms;
        struct timespec ts = {.tv_sec = at / 1000, .tv_nsec = at % 1000 * 1000000};
        bool stopping;

        pthread_mutex_lock(&h->lock);
        while (!h->stopping && clock_ms() < at)
                pthread_cond_timedwait(&h->stopped, &h->lock, &ts);
        stopping = h->stopping;
        pthread_mutex_unlock(&h->lock);
        return !stopping;
}

static void *hosts_run(void *arg)
{
        struct hosts *h = arg;

        while (hosts_wait(h, LOOK_MS))
                hosts_look(h);
        return NULL;
}

int hosts_new(struct imaged *im, struct hosts **ret, struct err *err)
{
        struct hosts *h = calloc(1, sizeof(*h));
        int64_t end = clock_ms() + FIRST_MS;
        pthread_condattr_t attr;
        int r;

        if (!h)
                return err_set(err, -ENOMEM, "out of memory");
        h->im = im;
        pthread_mutex_init(&h->lock, NULL);
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&h->stopped, &attr);
        pthread_condattr_destroy(&attr);
        r = jobs_new(READERS, &h->jobs, err);
        if (r == 0)
                r = list_hosts(h, err);
        if (r == 0)
                do
                        hosts_look(h);
                while (!all_moved(h) && clock_ms() < end && hosts_wait(h, FIRST_LOOK_MS));
        if (r == 0) {
                r = -pthread_create(&h->thread, NULL, hosts_run, h);
                if (r < 0)
                        err_set(err, r, "thread: %s", strerror(-r));
        }
        if (r < 0) {
                hosts_free(h);
                return r;
        }
        h->thread_runs = true;
        *ret = h;
        return 0;
}

struct hosts *hosts_free(struct hosts *h)
{
        if (!h)
                return NULL;
        pthread_mutex_lock(&h->lock);
        h->stopping = true;
        pthread_cond_broadcast(&h->stopped);
        pthread_mutex_unlock(&h->lock);
        if (h->thread_runs)
                pthread_join(h->thread, NULL);
        jobs_free(h->jobs);
        while (h->list) {
                struct host *x = h->list;

                h->list = x->next;
                host_free(x);
        }
        pthread_cond_destroy(&h->stopped);
        pthread_mutex_destroy(&h->lock);
        free(h);
        return NULL;
}

/* --- questions --- */

bool hosts_alive(struct hosts *h, unsigned number)
{
        struct host *x;
        bool alive;

        pthread_mutex_lock(&h->lock);
        x = host_get(h, number);
        alive = x && host_alive(x);
        pthread_mutex_unlock(&h->lock);
        return alive;
}

char *hosts_api(struct hosts *h, unsigned number)
{
        const char *api = NULL;
        struct host *x;
        char *copy;

        pthread_mutex_lock(&h->lock);
        x = host_get(h, number);
        if (x)
                api = json_get_str(x->record, "api", NULL);
        copy = api ? strdup(api) : NULL;
        pthread_mutex_unlock(&h->lock);
        return copy;
}

int hosts_number(struct hosts *h, const char *name, unsigned *ret, struct err *err)
{
        char number[16];
        unsigned found = 0;

        pthread_mutex_lock(&h->lock);
        for (struct host *x = h->list; x; x = x->next) {
                snprintf(number, sizeof(number), "%u", x->number);
                if (streq(json_get_str(x->record, "name", NULL), name) || streq(number, name))
                        found = x->number;
        }
        pthread_mutex_unlock(&h->lock);
        if (!found)
                return err_set(err, -ENOENT, "no host has the number or the name %s", name);
        *ret = found;
        return 0;
}

int hosts_view(struct hosts *h, struct planner_host **ret, size_t *ret_n, struct err *err)
{
        struct planner_host *view;
        size_t n = 0, i = 0;

        pthread_mutex_lock(&h->lock);
        for (struct host *x = h->list; x; x = x->next)
                n++;
        view = calloc(n + 1, sizeof(*view));
        for (struct host *x = h->list; view && x; x = x->next, i++) {
                char *name = strdup(json_get_str(x->record, "name", "unnamed"));
                char *cannot = strdup(json_get_str(x->record, "cannot_start", ""));

                if (!name || !cannot) {
                        free(name);
                        free(cannot);
                        break;
                }
                view[i] = (struct planner_host){.number = x->number,
                                                .name = name,
                                                .alive = host_alive(x),
                                                .cannot_start = cannot,
                                                .drained = json_get_bool(x->record, "drained", false),
                                                .cut_off = json_get_bool(x->record, "uplink_dead", false),
                                                .cpus = (unsigned)json_get_int(x->record, "cpus", 0),
                                                .memory = (uint64_t)json_get_int(x->record, "memory", 0)};
        }
        pthread_mutex_unlock(&h->lock);
        if (!view || i < n) {
                hosts_view_free(view, i);
                return err_set(err, -ENOMEM, "out of memory");
        }
        *ret = view;
        *ret_n = n;
        return 0;
}

void hosts_view_free(struct planner_host *view, size_t n)
{
        for (size_t i = 0; view && i < n; i++) {
                free((char *)view[i].name);
                free((char *)view[i].cannot_start);
        }
        free(view);
}

json_t *hosts_record(struct hosts *h, unsigned number)
{
        struct host *x;
        json_t *copy;

        pthread_mutex_lock(&h->lock);
        x = host_get(h, number);
        copy = x ? json_deep_copy(x->record) : NULL;
        pthread_mutex_unlock(&h->lock);
        return copy;
}

void hosts_changed(struct hosts *h, unsigned number, const json_t *record)
{
        struct host *x;

        pthread_mutex_lock(&h->lock);
        x = host_get(h, number);
        if (x) {
                json_decref(x->record);
                x->record = json_deep_copy(record);
        }
        pthread_mutex_unlock(&h->lock);
}

/* --- nudge --- */

struct nudge {
        struct imaged *im;
        unsigned host;
        char instance[UUID_LEN + 1];
};

static void nudge_work(void *arg)
{
        struct nudge *n = arg;
        _cleanup_(freep) char *api = hosts_api(n->im->hosts, n->host);
        _cleanup_(json_decrefpp) json_t *body = json_pack("{s:s}", "instance", n->instance);
        struct http_client *client = NULL;
        struct err err = {0};
        int r;

        if (!api || n->im->stopping)
                return;
        r = http_client_new(api, n->im->hostd_token, NUDGE_MS, &client, &err);
        if (r == 0)
                r = http_call(client, "POST", "/v1/look", body, NULL, NULL, &err);
        if (r < 0)
                log_debug("instance %s: host %u was not told, and finds it by itself: %s", n->instance,
                          n->host, err_text(&err));
        http_client_free(client);
}

void hosts_nudge(struct hosts *h, unsigned number, const char *instance)
{
        struct nudge *n = number ? calloc(1, sizeof(*n)) : NULL;

        if (!n)
                return;
        n->im = h->im;
        n->host = number;
        snprintf(n->instance, sizeof(n->instance), "%s", instance);
        if (jobs_add(h->im->nudges, nudge_work, free, n) < 0)
                free(n);
}
