/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/events.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "imaged/records.h"

/*
 * Times. A writer keeps its last KEPT events. Those who wait for news share one look at the store every
 * LOOK_MS, for at most WAIT_MAX_S.
 */
#define KEPT 256
#define LAST 100
#define LOOK_MS 500
#define WAIT_MAX_S 30

struct events {
        struct store *store;
        char writer[64];

        pthread_mutex_t lock; /* over what follows */
        pthread_cond_t stopped;
        json_t *writers; /* {writer: record}, as of looked_ms */
        int64_t looked_ms;
        bool stopping;
};

int events_new(struct store *store, struct events **ret, struct err *err)
{
        struct events *ev = calloc(1, sizeof(*ev));
        pthread_condattr_t attr;
        char host[48] = "";

        if (!ev)
                return err_set(err, -ENOMEM, "out of memory");
        ev->store = store;
        pthread_mutex_init(&ev->lock, NULL);
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&ev->stopped, &attr);
        pthread_condattr_destroy(&attr);
        gethostname(host, sizeof(host) - 1);
        for (char *p = host; *p; p++) {
                if (!isalnum((unsigned char)*p) && *p != '-')
                        *p = '_';
        }
        snprintf(ev->writer, sizeof(ev->writer), "imaged-%s", host[0] ? host : "unnamed");
        *ret = ev;
        return 0;
}

struct events *events_free(struct events *ev)
{
        if (!ev)
                return NULL;
        json_decref(ev->writers);
        pthread_cond_destroy(&ev->stopped);
        pthread_mutex_destroy(&ev->lock);
        free(ev);
        return NULL;
}

void events_stop(struct events *ev)
{
        pthread_mutex_lock(&ev->lock);
        ev->stopping = true;
        pthread_cond_broadcast(&ev->stopped);
        pthread_mutex_unlock(&ev->lock);
}

static int change_append(json_t *record, void *arg, struct err *err)
{
        json_t *event = arg, *list = json_object_get(record, "events");
        json_int_t serial;

        if (!json_is_array(list)) {
                list = json_array();
                json_object_set_new(record, "events", list);
        }
        serial = json_get_int(json_array_get(list, json_array_size(list) - 1), "serial", 0) + 1;
        json_object_set_new(event, "serial", json_integer(serial));
        while (json_array_size(list) >= KEPT)
                json_array_remove(list, 0);
        return json_array_append_new(list, json_deep_copy(event)) < 0
                   ? err_set(err, -ENOMEM, "out of memory")
                   : 0;
}

void event_post(struct events *ev, const struct event *e)
{
        _cleanup_(json_decrefpp) json_t *event = NULL, *first = NULL;
        char at[CLOCK_STAMP_LEN + 1], where[32] = "";
        struct err err = {0};
        int r = -ENOMEM;

        if (e->host && !e->text)
                snprintf(where, sizeof(where), "for host %u", e->host);
        event = json_pack("{s:s,s:s,s:s?,s:s?,s:s,s:s}", "at", clock_stamp(at), "kind", e->kind, "instance",
                          e->instance, "name", e->name, "text", e->text ? e->text : where, "host", "imaged");
        for (int i = 0; event && i < 3; i++) {
                r = records_change(ev->store, RECORD_EVENT, ev->writer, change_append, event, NULL, &err);
                if (r != -ENOENT)
                        break;
                first =
                    json_pack("{s:[]}", "events"); /* this writer's first; another may be making it, too */
                records_save(ev->store, RECORD_EVENT, ev->writer, 0, first, NULL, NULL);
                json_decref(take(first));
        }
        if (r < 0)
                log_warn("event %s: not written: %s", e->kind, err_text(&err));
}

static int collect_writer(void *arg, const char *id, uint64_t version, json_t *record)
{
        return json_object_set(arg, id, record);
}

/* With the lock. */
static int look(struct events *ev, struct err *err)
{
        json_t *writers;
        int r;

        if (ev->writers && clock_ms() - ev->looked_ms < LOOK_MS)
                return 0;
        writers = json_object();
        r = records_each(ev->store, RECORD_EVENT, collect_writer, writers, err);
        if (r < 0) {
                json_decref(writers);
                return r;
        }
        json_decref(ev->writers);
        ev->writers = writers;
        ev->looked_ms = clock_ms();
        return 0;
}

/* A cursor is "WRITER:SERIAL,WRITER:SERIAL,...": the last serial that was seen of each. To callers it is
 * opaque. */
static int cursor_parse(const char *text, json_t *seen, struct err *err)
{
        for (const char *p = text; *p;) {
                size_t n = strcspn(p, ":,");
                char writer[65], *end;
                unsigned long long serial;

                if (p[n] != ':' || n == 0 || n >= sizeof(writer) || !isdigit((unsigned char)p[n + 1]))
                        return err_set(err, -EINVAL, "after: \"%s\" is no cursor of ours", text);
                memcpy(writer, p, n);
                writer[n] = '\0';
                serial = strtoull(p + n + 1, &end, 10);
                if ((*end != ',' && *end) || serial > INT64_MAX)
                        return err_set(err, -EINVAL, "after: \"%s\" is no cursor of ours", text);
                json_object_set_new(seen, writer, json_integer((json_int_t)serial));
                p = *end ? end + 1 : end;
        }
        return 0;
}

static char *cursor_text(const json_t *seen)
{
        char *text = strdup("");
        const char *writer;
        json_t *serial;

        json_object_foreach ((json_t *)seen, writer, serial) {
                char *longer = text ? str_printf("%s%s%s:%" JSON_INTEGER_FORMAT, text, *text ? "," : "",
                                                 writer, json_integer_value(serial))
                                    : NULL;

                free(text);
                text = longer;
        }
        return text;
}

static int by_time(const void *a, const void *b)
{
        const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
        int r = strcmp(json_get_str(x, "at", ""), json_get_str(y, "at", ""));

        if (r == 0)
                r = json_get_int(x, "serial", 0) < json_get_int(y, "serial", 0) ? -1 : 1;
        return r;
}

/* The events that `seen` has not, oldest first, at most the last `limit`, of one instance or (NULL) of all;
 * moves `seen` on. With the lock. */
static json_t *news(struct events *ev, json_t *seen, const char *instance, size_t limit)
{
        _cleanup_(freep) json_t **sorted = NULL;
        json_t *record, *event, *ret = json_array();
        const char *writer;
        size_t n = 0, room = 0, i;

        json_object_foreach (ev->writers, writer, record)
                room += json_array_size(json_object_get(record, "events"));
        sorted = calloc(room + 1, sizeof(*sorted));
        if (!sorted || !ret)
                return ret;
        json_object_foreach (ev->writers, writer, record) {
                json_int_t last = json_get_int(seen, writer, 0), newest = last;

                json_array_foreach (json_object_get(record, "events"), i, event) {
                        json_int_t serial = json_get_int(event, "serial", 0);

                        if (serial > last &&
                            (!instance || streq(json_get_str(event, "instance", NULL), instance)))
                                sorted[n++] = event;
                        newest = MAX_OF(newest, serial);
                }
                json_object_set_new(seen, writer, json_integer(newest));
        }
        qsort(sorted, n, sizeof(*sorted), by_time);
        for (i = n > limit ? n - limit : 0; i < n; i++)
                json_array_append_new(ret,
                                      json_deep_copy(sorted[i])); /* the reply is written without the lock */
        return ret;
}

static void wait_look(struct events *ev, int64_t until_ms)
{
        int64_t at = MIN_OF(until_ms, clock_ms() + LOOK_MS);
        struct timespec ts = {.tv_sec = at / 1000, .tv_nsec = at % 1000 * 1000000};

        pthread_cond_timedwait(&ev->stopped, &ev->lock, &ts);
}

int events_on_list(struct http_request *req, void *userdata, struct err *err)
{
        struct events *ev = ((struct imaged *)userdata)->events;
        const char *after = http_query(req, "after"), *wait = http_query(req, "wait"),
                   *instance = http_query(req, "instance");
        _cleanup_(json_decrefpp) json_t *seen = json_object(), *list = NULL, *reply = NULL;
        _cleanup_(freep) char *cursor = NULL;
        int64_t until;
        int r = 0;

        if (wait && (!*wait || strspn(wait, "0123456789") != strlen(wait)))
                return err_set(err, -EINVAL, "wait: \"%s\" is not a number of seconds", wait);
        until = clock_ms() + MIN_OF(wait ? atol(wait) : 0, WAIT_MAX_S) * 1000;
        if (after)
                r = cursor_parse(after, seen, err);
        if (r < 0)
                return r;
        pthread_mutex_lock(&ev->lock);
        for (;;) {
                r = look(ev, err);
                if (r < 0)
                        break;
                json_decref(list);
                list = news(ev, seen, instance, after || instance ? SIZE_MAX : LAST);
                if (json_array_size(list) > 0 || ev->stopping || clock_ms() >= until)
                        break;
                wait_look(ev, until);
        }
        pthread_mutex_unlock(&ev->lock);
        if (r < 0)
                return r;
        cursor = cursor_text(seen);
        reply = json_pack("{s:O,s:s}", "events", list, "cursor", cursor ? cursor : "");
        return http_reply_json(req, 200, reply);
}
