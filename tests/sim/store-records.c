/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "migrate/watch.h"
#include "tests/sim/storage.h"

/* Records, lists and heartbeats. */

static void apply_get(struct op *op)
{
        op->result = record_get(W.store, op->kind, op->id, &op->text, &op->ret_number, &op->err);
}

static int sim_get(struct store *s, enum record_kind kind, const char *id, char **ret_text,
                   uint64_t *ret_version, struct err *err)
{
        struct op *op = op_new(s, apply_get, id);
        int r;

        op->kind = kind;
        r = op_call(s, &op, err);
        if (r == 0) {
                *ret_text = op->text;
                op->text = NULL;
                *ret_version = op->ret_number;
        }
        op_unref(op);
        return r;
}

/* A promise: whose hostd ended in order is not taken over before its time. */
#define DISARMED_NS (60 * SIM_S)

/* Whom the others take for up, and ask: of two machines with one number the one that the record names. */
static void note_listed(const json_t *doc, unsigned number)
{
        const char *api = json_get_str(doc, "api", "");
        bool up = streq(json_get_str(doc, "state", ""), "up");

        for (unsigned i = 0; i < W.n_machines; i++) {
                struct host *h = &W.hosts[i];

                if (h->number != number)
                        continue;
                if (!up || strncmp(api, "http://", 7) != 0 || !streq(api + 7, h->listen))
                        h->listed_since_ns = 0;
                else if (!h->listed_since_ns)
                        h->listed_since_ns = sched_now();
        }
}

/* Its writer may be without power since it sent it. */
static void check_host(const struct op *op)
{
        const char *text = op->text;
        _cleanup_(json_decrefpp) json_t *doc = json_loads(text, 0, NULL);
        unsigned number = (unsigned)json_get_int(doc, "number", 0);
        const char *state = json_get_str(doc, "state", "");
        struct host *h = NULL;

        for (unsigned i = 0; i < W.n_hosts && !h; i++)
                if (W.hosts[i].number == number)
                        h = &W.hosts[i];
        if (!h)
                return;
        note_listed(doc, number);
        if (op->host->number == number && !op->host->powered)
                h->late_ns = sched_now();
        if (streq(state, "dead") && h->stopped_ns && sched_now() - h->stopped_ns < DISARMED_NS)
                violated("%s ended in order and was taken over %lld ms later", h->name,
                         (long long)((sched_now() - h->stopped_ns) / SIM_MS));
        if (streq(state, "dead") && !h->said_dead && W.site_lost && W.n_machines == W.n_hosts &&
            h->powered_ns < W.site_back_ns && !h->powered && h->late_ns < W.site_back_ns &&
            op->asked_ns > W.site_back_ns && op->asked_ns - W.site_back_ns < WATCH_RETURN_MS * SIM_MS)
                violated("%s was taken over %lld ms after the first host was back from a loss of all power",
                         h->name, (long long)((sched_now() - W.site_back_ns) / SIM_MS));
        h->said_dead = streq(state, "dead");
        if (!streq(state, "stopped") || json_get_int(doc, "disarmed_ms", 0) == 0) /* or has never run yet */
                h->stopped_ns = 0;
        else if (!h->stopped_ns)
                h->stopped_ns = sched_now();
}

/* The record says that a move has arrived, some milliseconds before its gate says yes: so it
 * has, if its QEMU was there to ask; it may have died over the question. */
static void commit_seen(struct disk *d, const char *attempt)
{
        if (!attempt[0] || streq(d->arrived, attempt))
                return;
        for (unsigned i = 0; i < W.n_machines; i++)
                for (const struct qemu *q = W.hosts[i].qemus; q; q = q->next)
                        if (q->asked && streq(q->lease.attempt, attempt))
                                snprintf(d->arrived, sizeof(d->arrived), "%s", attempt);
}

/* Promises: only a user or the guest's own wish keeps an instance off; a move's outcome is told as it is. */
static void check_instance(const char *id, const char *text)
{
        _cleanup_(json_decrefpp) json_t *doc = json_loads(text, 0, NULL);
        const json_t *told = json_object_get(json_object_get(doc, "status"), "move");
        const json_t *entry = json_object_get(doc, "migration"), *move = json_object_get(doc, "move");
        const char *attempt = json_get_str(entry, "attempt", "");
        int64_t serial = json_get_int(told, "serial", 0);
        struct disk *d = disk_of(id);

        if (!d)
                return;
        if (streq(json_get_str(doc, "wanted", ""), "stopped") && !d->may_stop)
                violated("%s is to stay off, and nobody has wanted that", id);
        commit_seen(d, json_get_str(doc, "arrived", ""));
        if (serial == d->told_serial)
                return;
        d->told_serial = serial;
        if (serial != json_get_int(move, "serial", 0) || /* another is asked for already */
            json_get_int(entry, "epoch", -1) != json_get_int(move, "epoch", -2) ||
            json_get_int(entry, "destination", -1) != json_get_int(move, "to", -2))
                return;
        if (!streq(json_get_str(told, "state", ""), "failed")) {
                if (!streq(d->arrived, attempt))
                        violated("%s: its move was told done and has not arrived", id);
                return;
        }
        if (streq(d->arrived, attempt))
                violated("%s: its move was told failed and has arrived", id);
        snprintf(d->told_failed, sizeof(d->told_failed), "%s", attempt);
}

static void apply_put(struct op *op)
{
        uint64_t expected = op->number;

        if (W.broken == BREAK_CAS) {
                char *now = NULL;

                if (record_get(W.store, op->kind, op->id, &now, &expected, NULL) < 0)
                        expected = 0;
                free(now);
        }
        op->result = record_put(W.store, op->kind, op->id, expected, op->text, &op->ret_number, &op->err);
        if (op->result == 0 && op->kind == RECORD_HOST && op->text)
                check_host(op);
        if (op->result == 0 && op->kind == RECORD_INSTANCE && op->text)
                check_instance(op->id, op->text);
}

static int sim_put(struct store *s, enum record_kind kind, const char *id, uint64_t expected,
                   const char *text, uint64_t *ret_version, struct err *err)
{
        struct op *op = op_new(s, apply_put, id);
        int r;

        op->kind = kind;
        op->number = expected;
        op->text = text ? strdup(text) : NULL;
        r = op_call(s, &op, err);
        if (r == 0)
                *ret_version = op->ret_number;
        op_unref(op);
        return r;
}

static struct snapshot_item *snapshot_add(struct snapshot *s, const char *id)
{
        struct snapshot_item *i;

        if (s->n == s->room) {
                s->room = s->room ? s->room * 2 : 16;
                s->items = reallocarray(s->items, s->room, sizeof(*s->items));
                assert(s->items);
        }
        i = &s->items[s->n++];
        *i = (struct snapshot_item){0};
        snprintf(i->id, sizeof(i->id), "%s", id);
        return i;
}

static int on_record(void *arg, const char *id, uint64_t version, const char *text)
{
        struct snapshot_item *i = snapshot_add(arg, id);

        i->version = version;
        i->text = strdup(text);
        return 0;
}

static int on_lease(void *arg, const char *instance, const struct lease *lease)
{
        snapshot_add(arg, instance)->lease = *lease;
        return 0;
}

/* The newest list of each kind, the leases last: a list may lag behind by a second. */
static struct snapshot *lists[RECORD_KIND_MAX + 1];

#define LAG (SIM_S - 10 * SIM_MS)

static void apply_list(struct op *op)
{
        unsigned which = op->kind;
        struct snapshot *s = lists[which];

        if (!s || s->taken > sched_now() || sched_now() - s->taken >= LAG || rnd(2) == 0) {
                s = calloc(1, sizeof(*s));
                assert(s);
                s->taken = sched_now();
                if (which == RECORD_KIND_MAX)
                        lease_list(W.store, on_lease, s, NULL);
                else
                        record_list(W.store, op->kind, on_record, s, NULL);
                snapshot_unref(lists[which]);
                s->refs = 1;
                lists[which] = s;
        }
        s->refs++;
        op->list = s;
}

int sim_list_any(struct store *s, unsigned which, record_cb on, lease_cb on_name, void *arg, struct err *err)
{
        struct op *op = op_new(s, apply_list, NULL);
        int r;

        op->kind = which;
        op->lists = true;
        r = op_call(s, &op, err);
        for (size_t i = 0; r == 0 && i < op->list->n; i++) {
                const struct snapshot_item *item = &op->list->items[i];

                op->host->listed++;
                r = on ? on(arg, item->id, item->version, item->text) : on_name(arg, item->id, &item->lease);
        }
        op_unref(op);
        return r;
}

static int sim_list(struct store *s, enum record_kind kind, record_cb cb, void *arg, struct err *err)
{
        return sim_list_any(s, kind, cb, NULL, arg, err);
}

static void apply_beat_write(struct op *op)
{
        op->result = beat_write(W.store, op->claimer, op->number, &op->err);
}

static int sim_beat_write(struct store *s, unsigned host, uint64_t counter, struct err *err)
{
        struct op *op = op_new(s, apply_beat_write, NULL);
        int r;

        op->claimer = host;
        op->number = counter;
        r = op_call(s, &op, err);
        op_unref(op);
        return r;
}

static void apply_beat_read(struct op *op)
{
        op->result = beat_read(W.store, op->claimer, &op->ret_number, &op->err);
}

static int sim_beat_read(struct store *s, unsigned host, uint64_t *ret_counter, struct err *err)
{
        struct op *op = op_new(s, apply_beat_read, NULL);
        int r;

        op->claimer = host;
        op->stuck = host == W.stuck_beat;
        r = op_call(s, &op, err);
        if (r == 0)
                *ret_counter = op->ret_number;
        op_unref(op);
        return r;
}

const struct engine_records sim_records = {
    .get = sim_get,
    .put = sim_put,
    .list = sim_list,
    .beat_write = sim_beat_write,
    .beat_read = sim_beat_read,
};

void sim_lists_reset(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
                lists[i] = snapshot_unref(lists[i]);
}
