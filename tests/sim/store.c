/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/world.h"

/*
 * The storage as one host sees it: an engine whose every operation is a message to the memory engine (names
 * and records) or to a disk's owner, guard or blocklist, and a message back. Either may take its time or get
 * lost; what was sent may be done after the caller has given up. Lists may lag behind by a second.
 */
struct snapshot {
        unsigned refs;
        int64_t taken;
        size_t n, room;
        struct snapshot_item {
                char id[STORE_ID_MAX + 1];
                uint64_t version;
                char *text;
                struct lease lease;
        } * items;
};

struct op {
        struct host *host;
        void (*apply)(struct op *op);
        unsigned refs; /* the caller's, and the message's while it is on its way */
        bool replied, lost;
        int result;
        struct err err;
        /* in */
        enum record_kind kind;
        char id[STORE_ID_MAX + 1];
        uint64_t number;
        char *text;
        struct lease lease;
        struct start start;
        unsigned claimer;
        int64_t uid;
        uint32_t gid;
        bool group, guarded, claims;
        pid_t blocked[CLIENTS_MAX];
        size_t n_blocked;
        /* out */
        struct lease ret;
        uint64_t ret_number;
        struct snapshot *list;
};

bool storage_reachable(const struct host *h)
{
        return h->powered && !h->storage_cut;
}

static int64_t delay(void)
{
        if (!W.quiet && rnd_chance(W.slow))
                return rnd_between(20 * SIM_MS, 7 * SIM_S);
        return rnd_between(100, rnd(20) == 0 ? 30000 : 1500) * SIM_US;
}

/* Races are about claims: theirs take long more often than others. */
static int64_t claim_delay(void)
{
        return !W.quiet && rnd(8) == 0 ? rnd_between(100, 4500) * SIM_MS : delay();
}

static struct snapshot *snapshot_unref(struct snapshot *s)
{
        if (s && --s->refs == 0) {
                for (size_t i = 0; i < s->n; i++)
                        free(s->items[i].text);
                free(s->items);
                free(s);
        }
        return NULL;
}

static void op_unref(struct op *op)
{
        if (!op || --op->refs > 0)
                return;
        free(op->text);
        snapshot_unref(op->list);
        free(op);
}

static void op_reply(void *arg)
{
        struct op *op = arg;

        if (!storage_reachable(op->host))
                op->lost = true;
        if (!op->lost) {
                op->replied = true;
                co_wake(op, true);
        }
        op_unref(op);
}

static void op_apply(void *arg)
{
        struct op *op = arg;

        world_hold();
        op->apply(op);
        world_release();
        event_at(sched_now() + delay(), op_reply, op);
}

static struct op *op_new(struct store *s, void (*apply)(struct op *op), const char *id)
{
        struct op *op = calloc(1, sizeof(*op));

        assert(op);
        op->host = s->state;
        op->apply = apply;
        op->refs = 1;
        snprintf(op->id, sizeof(op->id), "%s", id ? id : "");
        return op;
}

/* Sends it and waits for the answer. On -ETIMEDOUT the operation is not the caller's any more, and *op is
 * NULL: it may still be done. */
static int op_call(struct store *s, struct op **pop, struct err *err)
{
        struct op *op = *pop;
        int64_t timeout = (int64_t)s->options.timeout_ms * SIM_MS, deadline = sched_now() + timeout;
        bool sent = storage_reachable(op->host);

        W.stats.operations++;
        op->host->operations++;
        if (sent && !W.quiet && rnd_chance(W.drop))
                sent = false;
        if (sent) {
                int64_t way = !W.quiet && rnd_chance(W.late) ? timeout + rnd_between(0, 10 * SIM_S)
                              : op->claims                   ? claim_delay()
                                                             : delay();

                op->lost = !W.quiet && rnd_chance(W.drop);
                op->refs++;
                event_at(sched_now() + way, op_apply, op);
        }
        while (!op->replied)
                if (co_wait(op, deadline) < 0)
                        break;
        if (!op->replied) {
                op_unref(op);
                *pop = NULL;
                return err_set(err, -ETIMEDOUT, "the storage did not answer in %u ms",
                               s->options.timeout_ms);
        }
        if (op->result < 0 && err)
                *err = op->err;
        return op->result;
}

/* --- records --- */

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

static int sim_list_any(struct store *s, unsigned which, record_cb on, lease_cb on_name, void *arg,
                        struct err *err)
{
        struct op *op = op_new(s, apply_list, NULL);
        int r;

        op->kind = which;
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
        r = op_call(s, &op, err);
        if (r == 0)
                *ret_counter = op->ret_number;
        op_unref(op);
        return r;
}

static const struct engine_records records = {
    .get = sim_get,
    .put = sim_put,
    .list = sim_list,
    .beat_write = sim_beat_write,
    .beat_read = sim_beat_read,
};

/* --- names --- */

static void apply_create(struct op *op)
{
        const struct disk_spec disk = {.name = "disk0", .size = 1 << 20};

        op->result = lease_create(W.store, op->id, &disk, 1, &op->err);
}

static int sim_lease_create(struct store *s, const char *instance, const struct disk_spec *disks,
                            size_t n_disks, struct err *err)
{
        struct op *op = op_new(s, apply_create, instance);
        int r = op_call(s, &op, err);

        op_unref(op);
        return r;
}

static void apply_find(struct op *op)
{
        op->result = lease_find(W.store, op->id, &op->ret, &op->err);
}

static int sim_find(struct store *s, const char *instance, struct lease *ret, struct err *err)
{
        struct op *op = op_new(s, apply_find, instance);
        int r = op_call(s, &op, err);

        if (r == 0)
                *ret = op->ret;
        op_unref(op);
        return r;
}

static int sim_lease_list(struct store *s, lease_cb cb, void *arg, struct err *err)
{
        return sim_list_any(s, RECORD_KIND_MAX, NULL, cb, arg, err);
}

static void apply_claim(struct op *op)
{
        if (W.broken == BREAK_CLAIM && lease_find(W.store, op->id, &op->lease, NULL) < 0)
                return;
        op->result = lease_claim(W.store, op->id, &op->lease, op->claimer, &op->ret, &op->err);
        tell("%s: claim by host %u from e%llu.h%u: %s", op->id, op->claimer,
             (unsigned long long)op->lease.epoch, op->lease.host, op->result == 0 ? "won" : "lost");
        chaos_hint(op->host, 12);
}

static int sim_claim(struct store *s, const char *instance, const struct lease *from, unsigned host,
                     struct lease *ret, struct err *err)
{
        struct op *op = op_new(s, apply_claim, instance);
        int r;

        op->lease = *from;
        op->claimer = host;
        op->claims = true;
        r = op_call(s, &op, err);
        if (r == 0)
                *ret = op->ret;
        op_unref(op);
        return r;
}

static int check_name(struct op *op, int code)
{
        struct lease now;
        int r = lease_find(W.store, op->id, &now, &op->err);

        if (r == 0 && (now.epoch != op->lease.epoch || now.host != op->lease.host))
                r = err_set(&op->err, code, "instance %s: epoch %llu of host %u has passed", op->id,
                            (unsigned long long)op->lease.epoch, op->lease.host);
        return r;
}

static void apply_remove(struct op *op)
{
        const struct disk_spec disk = {.name = "disk0", .size = 1 << 20};

        op->result = lease_remove(W.store, op->id, &op->lease, &disk, 1, &op->err);
        if (op->result == 0)
                tell("%s: disks removed", op->id);
}

static int sim_remove(struct store *s, const char *instance, const struct lease *mine,
                      const struct disk_spec *disks, size_t n_disks, struct err *err)
{
        struct op *op = op_new(s, apply_remove, instance);
        int r;

        op->lease = *mine;
        r = op_call(s, &op, err);
        op_unref(op);
        return r;
}

/* --- the fence --- */

/* LOOKUP of the name: who owns the disk now, and its change time. */
static void apply_lookup(struct op *op)
{
        const struct disk *d = disk_of(op->id);

        op->result = check_name(op, -ESTALE);
        if (op->result == 0)
                op->ret_number = d->ctime;
}

static void apply_setattr(struct op *op)
{
        struct disk *d = disk_of(op->id);

        if (op->guarded && d->ctime != op->number) {
                op->result = -EAGAIN;
                return;
        }
        if (W.broken == BREAK_FENCE)
                return;
        if (op->uid >= 0)
                d->uid = (uint32_t)op->uid;
        d->gid = op->gid;
        d->group_writes = op->group;
        d->ctime++;
        tell("%s: owner %u, group %u%s", op->id, d->uid, d->gid, op->guarded ? "" : ", unguarded");
        disk_check(d);
}

#define GUARDED_TRIES 4
#define GRANT_TRIES 100

/* As the NFS engine does it: see fs-nfs-own.c. */
static int fence_nfs(struct store *s, const char *instance, const struct lease *mine, int64_t uid,
                     uint32_t gid, bool group_writes, struct err *err)
{
        int tries = uid < 0 ? GRANT_TRIES : GUARDED_TRIES + 1;

        for (int i = 0; i < tries; i++) {
                struct op *op = op_new(s, apply_lookup, instance);
                uint64_t ctime;
                int r;

                op->lease = *mine;
                r = op_call(s, &op, err);
                ctime = op ? op->ret_number : 0;
                op_unref(op);
                if (r < 0)
                        return r;
                op = op_new(s, apply_setattr, instance);
                op->uid = uid;
                op->gid = gid;
                op->group = group_writes;
                op->guarded = uid < 0 || i < GUARDED_TRIES;
                op->number = ctime;
                r = op_call(s, &op, err);
                op_unref(op);
                if (r != -EAGAIN)
                        return r;
        }
        return err_set(err, -EBUSY, "instance %s: its disk is too busy", instance);
}

static void apply_raise(struct op *op)
{
        struct disk *d = disk_of(op->id);
        bool known = false;
        uint64_t newest = 0;

        if (d->gate_epoch < op->lease.epoch)
                d->gate_epoch = op->lease.epoch;
        if (d->gate_epoch != op->lease.epoch) {
                op->result = err_set(&op->err, -ESTALE, "instance %s: the gate is at %llu", op->id,
                                     (unsigned long long)d->gate_epoch);
                return;
        }
        for (size_t i = 0; i < d->n_clients; i++) {
                if (!d->clients[i].recorded)
                        continue;
                known = known || streq(d->clients[i].start, op->start.id);
                newest = MAX_OF(newest, d->clients[i].epoch);
        }
        for (size_t i = 0; i < d->n_clients; i++) {
                const struct client *c = &d->clients[i];

                if (!c->recorded || streq(c->start, op->start.id))
                        continue;
                if (op->start.gid != 0 && !known && c->epoch == newest) /* a commit: its source */
                        continue;
                op->blocked[op->n_blocked++] = c->pid;
        }
}

static void apply_block(struct op *op)
{
        struct disk *d = disk_of(op->id);

        for (size_t k = 0; k < op->n_blocked; k++)
                for (size_t i = 0; i < d->n_clients; i++)
                        if (d->clients[i].pid == op->blocked[k] && W.broken != BREAK_FENCE)
                                d->clients[i].blocked = true;
}

static void apply_drop(struct op *op)
{
        struct disk *d = disk_of(op->id);

        for (size_t k = 0; k < op->n_blocked; k++)
                for (size_t i = 0; i < d->n_clients; i++)
                        if (d->clients[i].pid == op->blocked[k])
                                d->clients[i].recorded = false;
}

static int rbd_step(struct store *s, const char *instance, void (*apply)(struct op *op), struct op *list,
                    struct err *err)
{
        struct op *op = op_new(s, apply, instance);
        int r;

        op->lease = list->lease;
        op->start = list->start;
        op->n_blocked = list->n_blocked;
        memcpy(op->blocked, list->blocked, sizeof(op->blocked));
        r = op_call(s, &op, err);
        if (r == 0) {
                list->n_blocked = op->n_blocked;
                memcpy(list->blocked, op->blocked, sizeof(list->blocked));
        }
        op_unref(op);
        return r;
}

/* As the RBD engine does it: see rbd-fence.c. */
static int fence_rbd(struct store *s, const char *instance, const struct lease *mine,
                     const struct start *start, struct err *err)
{
        struct op list = {.lease = *mine, .start = *start};
        int r = rbd_step(s, instance, apply_lookup, &list, err);

        if (r == 0)
                r = rbd_step(s, instance, apply_raise, &list, err);
        if (r == 0 && list.n_blocked > 0)
                r = rbd_step(s, instance, apply_block, &list, err);
        if (r == 0 && list.n_blocked > 0)
                r = rbd_step(s, instance, apply_drop, &list, err);
        return r;
}

static int sim_fence(struct store *s, const char *instance, const struct lease *mine,
                     const struct start *start, const struct disk_spec *disks, size_t n_disks,
                     struct err *err)
{
        struct op list = {.lease = *mine, .start = *start};

        if (W.kind == FENCE_NFS)
                return fence_nfs(s, instance, mine, start->uid, 0, false, err);
        if (W.kind == FENCE_RBD)
                return fence_rbd(s, instance, mine, start, err);
        return rbd_step(s, instance, apply_lookup, &list, err); /* QEMU's own lock is the fence */
}

static int sim_grant(struct store *s, const char *instance, const struct lease *mine,
                     const struct start *destination, const struct disk_spec *disks, size_t n_disks,
                     struct err *err)
{
        struct op list = {.lease = *mine};

        if (W.kind == FENCE_NFS)
                return fence_nfs(s, instance, mine, -1, destination->gid, true, err);
        return rbd_step(s, instance, apply_lookup, &list, err);
}

static void apply_gate(struct op *op)
{
        struct disk *d = disk_of(op->id);

        op->result = check_name(op, -EACCES);
        if (op->result < 0)
                return;
        if (W.kind == FENCE_NFS && d->uid != op->start.uid && W.broken != BREAK_FENCE &&
            W.broken != BREAK_UID)
                op->result =
                    err_set(&op->err, -EACCES, "instance %s: the disk is user %u's", op->id, d->uid);
        if (W.kind != FENCE_RBD)
                return;
        if (d->gate_epoch != op->lease.epoch) {
                op->result = err_set(&op->err, -EACCES, "instance %s: the gate has moved on", op->id);
                return;
        }
        for (size_t i = 0; i < d->n_clients; i++) {
                const struct qemu *q = qemu_alive(d->clients[i].pid);

                if (d->clients[i].recorded || !q || q->host != op->host)
                        continue;
                d->clients[i].recorded = true;
                d->clients[i].epoch = op->lease.epoch;
                memcpy(d->clients[i].start, op->start.id, sizeof(op->start.id));
        }
}

static int sim_gate(struct store *s, const char *instance, const struct lease *mine,
                    const struct start *start, const struct disk_spec *disks, size_t n_disks,
                    struct err *err)
{
        struct op list = {.lease = *mine, .start = *start};

        return rbd_step(s, instance, apply_gate, &list, err);
}

static int sim_attach(struct store *s, const char *instance, const struct lease *lease,
                      const struct start *start, const struct disk_spec *disks, size_t n_disks,
                      struct attach *ret, struct err *err)
{
        for (size_t i = 0; i < n_disks; i++) {
                ret[i].kind = ATTACH_FILE;
                snprintf(ret[i].path, sizeof(ret[i].path), "/disks/%s/%s", instance, disks[i].name);
                ret[i].read_only = disks[i].content != NULL;
        }
        return 0;
}

static const struct engine_leases leases = {
    .create = sim_lease_create,
    .find = sim_find,
    .list = sim_lease_list,
    .claim = sim_claim,
    .fence = sim_fence,
    .grant = sim_grant,
    .gate = sim_gate,
    .attach = sim_attach,
    .remove = sim_remove,
};

/* --- life --- */

static void sim_close(struct store *s)
{
}

static void apply_nothing(struct op *op)
{
}

static int sim_selftest(struct store *s, struct err *err)
{
        struct op *op = op_new(s, apply_nothing, NULL);
        int r = op_call(s, &op, err);

        op_unref(op);
        if (r < 0)
                return r;
        if (W.broken == BREAK_TAKEOVER)
                err_set(err, 0, "switched off");
        return W.broken != BREAK_TAKEOVER;
}

static int sim_secret(struct store *s, char **ret_key, struct err *err)
{
        *ret_key = strdup("a key");
        return 0;
}

#define ENGINE(kind)                                                                                        \
        {                                                                                                   \
                .name = kind, .prefix = "sim:", .close = sim_close, .selftest = sim_selftest,               \
                .secret = sim_secret, .records = &records, .leases = &leases                                \
        }
static const struct engine engines[FENCE_KIND_MAX] = {
    [FENCE_NFS] = ENGINE("nfs"), [FENCE_DIR] = ENGINE("dir"), [FENCE_RBD] = ENGINE("rbd")};

struct store *sim_store_open(struct host *h, unsigned timeout_ms)
{
        struct store *s = calloc(1, sizeof(*s));

        assert(s);
        s->engine = &engines[W.kind];
        s->url = strdup("sim:");
        s->place = strdup("");
        s->state = h;
        s->options.timeout_ms = timeout_ms ? timeout_ms : 5000;
        assert(s->url && s->place);
        return s;
}

int __wrap_store_open(const char *url, const struct store_options *options, struct store **ret,
                      struct err *err);
int __real_store_open(const char *url, const struct store_options *options, struct store **ret,
                      struct err *err);

void store_reset(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
                lists[i] = snapshot_unref(lists[i]);
        W.store = store_close(W.store);
        if (__real_store_open("mem:", NULL, &W.store, NULL) < 0)
                abort();
}

int __wrap_store_open(const char *url, const struct store_options *options, struct store **ret,
                      struct err *err)
{
        *ret = sim_store_open(host_current(), options->timeout_ms);
        return 0;
}
