/* SPDX-License-Identifier: Apache-2.0 */
#include "hostd/events.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/util.h"
#include "hostd/record.h"

#define EVENTS_KEPT 256 /* in the record */
#define EVENTS_QUEUED 1024

/* What happened, queued and written by a thread of its own: one change of this host's event record for all
 * that wait. */
struct events {
        struct context *ctx;
        pthread_t thread;
        pthread_mutex_t lock;
        pthread_cond_t more;
        json_t *queue; /* array; lock */
        bool quit;     /* lock */
};

static void *events_main(void *arg);

int events_new(struct context *ctx, struct events **ret, struct err *err)
{
        struct events *e = calloc(1, sizeof(*e));
        pthread_condattr_t attr;
        int r;

        if (!e)
                return err_set(err, -ENOMEM, "out of memory");
        e->ctx = ctx;
        e->queue = json_array();
        pthread_mutex_init(&e->lock, NULL);
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&e->more, &attr);
        pthread_condattr_destroy(&attr);
        r = -pthread_create(&e->thread, NULL, events_main, e);
        if (r < 0) {
                json_decref(e->queue);
                free(e);
                return err_set(err, r, "cannot start a thread: %s", strerror(-r));
        }
        *ret = e;
        return 0;
}

static int edit_events(json_t *doc, void *arg, struct err *err)
{
        json_t *fresh = arg, *list = json_object_get(doc, "events"), *item;
        int64_t serial = json_get_int(doc, "serial", 0);
        size_t k;

        if (!json_is_array(list)) {
                list = json_array();
                json_object_set_new(doc, "events", list);
        }
        json_array_foreach (fresh, k, item) {
                json_object_set_new(item, "serial", json_integer(++serial));
                json_array_append(list, item);
        }
        while (json_array_size(list) > EVENTS_KEPT)
                json_array_remove(list, 0);
        json_object_set_new(doc, "serial", json_integer(serial));
        return list ? 1 : err_set(err, -ENOMEM, "out of memory");
}

static int events_write(struct context *ctx, json_t *fresh, struct err *err)
{
        uint64_t version;
        char id[24];
        int r;

        snprintf(id, sizeof(id), "host-%u", ctx->number);
        r = record_change(ctx->store, RECORD_EVENT, id, edit_events, fresh, err);
        if (r != -ENOENT)
                return r;
        r = record_put(ctx->store, RECORD_EVENT, id, 0, "{\"events\":[],\"serial\":0}", &version, err);
        return r == 0 || r == -ESTALE ? record_change(ctx->store, RECORD_EVENT, id, edit_events, fresh, err)
                                      : r;
}

static void events_wait(struct events *e, bool failed)
{
        struct timespec until;

        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += 1;
        if (failed) /* once a second while the storage is away */
                pthread_cond_timedwait(&e->more, &e->lock, &until);
        while (json_array_size(e->queue) == 0 && !e->quit)
                pthread_cond_wait(&e->more, &e->lock);
}

static void *events_main(void *arg)
{
        struct events *e = arg;
        bool failed = false;

        pthread_mutex_lock(&e->lock);
        for (;;) {
                struct err why = {0};
                json_t *fresh;

                events_wait(e, failed && !e->quit);
                if (e->quit && (failed || json_array_size(e->queue) == 0))
                        break;
                fresh = json_copy(e->queue);
                pthread_mutex_unlock(&e->lock);
                failed = fresh && events_write(e->ctx, fresh, &why) < 0;
                if (failed)
                        log_debug("events not written yet: %s", err_text(&why));
                pthread_mutex_lock(&e->lock);
                for (size_t n = failed ? 0 : json_array_size(fresh); n > 0; n--)
                        json_array_remove(e->queue, 0);
                json_decref(fresh);
        }
        pthread_mutex_unlock(&e->lock);
        return NULL;
}

struct events *events_free(struct events *e)
{
        if (!e)
                return NULL;
        pthread_mutex_lock(&e->lock);
        e->quit = true;
        pthread_cond_broadcast(&e->more);
        pthread_mutex_unlock(&e->lock);
        pthread_join(e->thread, NULL);
        json_decref(e->queue);
        pthread_cond_destroy(&e->more);
        pthread_mutex_destroy(&e->lock);
        free(e);
        return NULL;
}

void event_add(struct context *ctx, const char *kind, const char *instance, const char *name,
               const char *fmt, ...)
{
        struct events *e = ctx->events;
        char text[512], stamp[CLOCK_STAMP_LEN + 1];
        json_t *event;
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        log_info("%s%s%s: %s", kind, instance ? " " : "", instance ? instance : "", text);
        event = json_pack("{s:s,s:s,s:s?,s:s?,s:s,s:s}", "at", clock_stamp(stamp), "kind", kind, "instance",
                          instance, "name", name, "host", ctx->config->name, "text", text);
        if (!event || !e) {
                json_decref(event);
                return;
        }
        pthread_mutex_lock(&e->lock);
        /* The front may be on its way to the storage: drop the newest rather than shift it. */
        if (json_array_size(e->queue) < EVENTS_QUEUED)
                json_array_append_new(e->queue,
                                      event); /* the writing thread's from now on, its count as well */
        else
                json_decref(event);
        pthread_cond_broadcast(&e->more);
        pthread_mutex_unlock(&e->lock);
}
