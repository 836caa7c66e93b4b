/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/hostd-fixture.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/json.h"
#include "hostd/events.h"
#include "hostd/peers.h"
#include "hostd/tasks.h"

struct fixture fixture;

int64_t __wrap_clock_ms(void);
int64_t __wrap_clock_ns(void);
int __wrap_poll(struct pollfd *fds, nfds_t n, int ms);
int __wrap_peer_look(struct context *ctx, unsigned number, const char *instance, bool to_start,
                     struct err *err);
void __wrap_guests_wake(struct context *ctx, const char *instance);
void __wrap_event_add(struct context *ctx, const char *kind, const char *instance, const char *name,
                      const char *fmt, ...);
int __wrap_virt_kill_pid(struct virt *v, pid_t pid, const char *instance, struct err *err);
int __wrap_task_spawn(struct tasks *t, void (*run)(void *arg), void *arg);
int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*run)(void *), void *arg);
int __wrap_beat_write(struct store *s, unsigned host, uint64_t counter, struct err *err);
int __real_beat_write(struct store *s, unsigned host, uint64_t counter, struct err *err);
int __wrap_beat_read(struct store *s, unsigned host, uint64_t *ret, struct err *err);
int __real_beat_read(struct store *s, unsigned host, uint64_t *ret, struct err *err);

int64_t __wrap_clock_ms(void)
{
        return fixture.now_ms;
}

int64_t __wrap_clock_ns(void)
{
        return fixture.now_ms * 1000000;
}

int __wrap_poll(struct pollfd *fds, nfds_t n, int ms)
{
        fixture.now_ms += ms;
        if (++fixture.polls > 100000)
                fail_msg("this goes on for ever");
        if (fixture.on_poll)
                fixture.on_poll(&fixture, ms);
        return 0;
}

static void note(char text[512], const char *fmt, ...)
{
        size_t n = strlen(text);
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(text + n, 512 - n, fmt, ap);
        va_end(ap);
}

int __wrap_peer_look(struct context *ctx, unsigned number, const char *instance, bool to_start,
                     struct err *err)
{
        int r = number < 8 ? fixture.look_answer[number] : 0;

        note(fixture.looks, "%u:%c ", number, instance[0]);
        return r < 0 ? err_set(err, r, "host %u: error %d", number, -r) : r;
}

void __wrap_guests_wake(struct context *ctx, const char *instance)
{
        note(fixture.woken, "%c ", instance[0]);
}

void __wrap_event_add(struct context *ctx, const char *kind, const char *instance, const char *name,
                      const char *fmt, ...)
{
        note(fixture.events, "%s ", kind);
}

int __wrap_virt_kill_pid(struct virt *v, pid_t pid, const char *instance, struct err *err)
{
        fixture.killed = pid;
        fixture.kills++;
        return fixture.kill_answer < 0 ? err_set(err, fixture.kill_answer, "pid %d: it lives on", (int)pid)
                                       : 0;
}

int __wrap_task_spawn(struct tasks *t, void (*run)(void *arg), void *arg)
{
        fixture.spawned = run;
        fixture.spawned_arg = arg;
        if (!fixture.spawn_later)
                run(arg);
        return 0;
}

int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
        fixture.thread = run;
        fixture.thread_arg = arg;
        return 0;
}

int __wrap_beat_write(struct store *s, unsigned host, uint64_t counter, struct err *err)
{
        int r = fixture.beat ? fixture.beat(&fixture, counter) : 0;

        return r < 0 ? err_set(err, r, "heartbeat: error %d", -r) : __real_beat_write(s, host, counter, err);
}

int __wrap_beat_read(struct store *s, unsigned host, uint64_t *ret, struct err *err)
{
        return fixture.beat_of ? fixture.beat_of(&fixture, host, ret) : __real_beat_read(s, host, ret, err);
}

int fixture_begin(void **state)
{
        static char me[] = "me";
        struct fixture *f = &fixture;

        memset(f, 0, sizeof(*f));
        f->now_ms = 1000000;
        f->config.name = me;
        f->ctx.config = &f->config;
        f->ctx.self = &f->self;
        f->ctx.ring = &f->ring;
        f->ring.identity = &f->identity;
        f->ctx.number = 2;
        f->self.epoch = 1;
        f->self.fence = 1;
        f->self.own_write_ms = f->now_ms;
        f->self.virt_connected = true;
        pthread_mutex_init(&f->ring.lock, NULL);
        pthread_mutex_init(&f->ring.selftest_lock, NULL);
        assert_int_equal(guests_new(&f->ctx.guests), 0);
        assert_int_equal(store_open("mem:", NULL, &f->ctx.store, NULL), 0);
        assert_int_equal(store_prepare(f->ctx.store, NULL), 0);
        f->ctx.pulse = f->ctx.store;
        return 0;
}

int fixture_end(void **state)
{
        struct fixture *f = &fixture;

        for (size_t i = 0; i < f->ctx.guests->n; i++)
                guest_free(f->ctx.guests->list[i]);
        guests_free(f->ctx.guests);
        store_close(f->ctx.store);
        free(f->ring.takeovers);
        return 0;
}

const char *fixture_id(char digit)
{
        static char ids[16][UUID_LEN + 1];
        char *id = ids[digit % 16];

        snprintf(id, UUID_LEN + 1, "%c1111111-1111-4111-8111-111111111111", digit);
        return id;
}

void fixture_instance(char digit, const char *more)
{
        const struct disk_spec disk = {.name = "disk0", .size = 1 << 20};
        char *text = str_printf(
            "{\"id\":\"%s\",\"name\":\"vm%c\",\"owner\":\"ann\",\"wanted\":\"running\",\"cpus\":1,"
            "\"memory\":1048576,\"disk\":1048576%s}",
            fixture_id(digit), digit, more);

        assert_int_equal(
            record_put(fixture.ctx.store, RECORD_INSTANCE, fixture_id(digit), 0, text, NULL, NULL), 0);
        assert_int_equal(lease_create(fixture.ctx.store, fixture_id(digit), &disk, 1, NULL), 0);
        free(text);
}

void fixture_host(unsigned number, const char *state, uint64_t epoch, const char *more)
{
        char id[PEER_ID_LEN];
        char *text = str_printf("{\"number\":%u,\"name\":\"h%u\",\"state\":\"%s\",\"epoch\":%llu,\"cpus\":8,"
                                "\"memory\":%llu%s}",
                                number, number, state, (unsigned long long)epoch,
                                (unsigned long long)(64 - number) << 30, more);

        peer_id(number, id);
        assert_int_equal(record_put(fixture.ctx.store, RECORD_HOST, id, 0, text, NULL, NULL), 0);
        free(text);
}

struct lease fixture_claim(char digit, unsigned host)
{
        struct lease l;

        assert_int_equal(lease_find(fixture.ctx.store, fixture_id(digit), &l, NULL), 0);
        assert_int_equal(lease_claim(fixture.ctx.store, fixture_id(digit), &l, host, false, &l, NULL), 0);
        return l;
}

void fixture_fence(char digit, const struct lease *lease, const char *start)
{
        const struct disk_spec disk = {.name = "disk0", .size = 1 << 20};
        struct start s = {.uid = 7};

        snprintf(s.id, sizeof(s.id), "%s", start);
        assert_int_equal(lease_fence(fixture.ctx.store, fixture_id(digit), lease, &s, &disk, 1, NULL), 0);
}

/* The member that the last part of the path names is in *ret. */
static const char *walk(json_t *doc, const char *path, json_t **ret)
{
        for (;;) {
                size_t n = strcspn(path, ".");
                char key[64];

                if (!path[n]) {
                        *ret = doc;
                        return path;
                }
                snprintf(key, sizeof(key), "%.*s", (int)n, path);
                doc = json_object_get(doc, key);
                path += n + 1;
        }
}

const char *fixture_field(enum record_kind kind, const char *id, const char *path)
{
        static char *text;
        json_t *doc = NULL, *in = NULL;
        const char *key;

        assert_int_equal(record_load(fixture.ctx.store, kind, id, &doc, NULL, NULL), 0);
        key = walk(doc, path, &in);
        free(text);
        text = json_dumps(json_object_get(in, key), JSON_COMPACT | JSON_ENCODE_ANY);
        json_decref(doc);
        return text ? text : "absent";
}

struct setting {
        const char *path, *value;
};

static int edit_set(json_t *doc, void *arg, struct err *err)
{
        const struct setting *s = arg;
        json_t *in = NULL;
        const char *key = walk(doc, s->path, &in);

        json_object_set_new(in, key, json_loads(s->value, JSON_DECODE_ANY, NULL));
        return 1;
}

void fixture_set(enum record_kind kind, const char *id, const char *path, const char *value)
{
        struct setting s = {path, value};

        assert_int_equal(record_change(fixture.ctx.store, kind, id, edit_set, &s, NULL), 0);
}

struct guest *fixture_guest(char digit)
{
        struct guests *t = fixture.ctx.guests;
        struct guest *g;

        assert_int_equal(guest_new(&fixture.ctx, fixture_id(digit), &g), 0);
        t->list = realloc(t->list, (t->n + 1) * sizeof(g));
        assert_non_null(t->list);
        t->list[t->n++] = g;
        return g;
}
