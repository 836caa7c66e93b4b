/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/storage.h"

/* The fences of the engines, step by step as these do it; and the last look before vCPUs run. */

/* LOOKUP of the name: who owns the disk now, and its change time. */
static void apply_lookup(struct op *op)
{
        const struct disk *d = disk_of(op->id);

        op->result = check_name(op, -ESTALE);
        if (op->result == 0) {
                op->ret_number = d->ctime;
                op->ret_uid = d->uid;
        }
}

/* The link of that start leads to the name, if that is still so: see files-lease-dir.c. */
static void apply_link(struct op *op)
{
        disk_link(disk_of(op->id), op->start.id, &op->lease);
        op->result = check_name(op, -ESTALE);
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

/* Who wants the disk, and from whom: as fs_nfs_own() has it. */
struct taking {
        int64_t uid; /* -1: a grant */
        uint32_t gid;
        bool group_writes;
        const struct start *from; /* a commit: that start's only; NULL: anybody's but its own */
};

/* As the NFS engine does it: see fs-nfs-own.c. */
static int fence_nfs(struct store *s, const char *instance, const struct lease *mine, const struct taking *t,
                     struct err *err)
{
        int tries = t->uid < 0 ? GRANT_TRIES : GUARDED_TRIES + 1;

        for (int i = 0; i < tries; i++) {
                struct op *op = op_new(s, apply_lookup, instance);
                uint64_t ctime;
                uint32_t owner;
                int r;

                op->lease = *mine;
                r = op_call(s, &op, err);
                ctime = op ? op->ret_number : 0;
                owner = op ? op->ret_uid : 0;
                op_unref(op);
                if (r < 0)
                        return r;
                if (i == 0 && t->uid == owner && !t->from)
                        return err_set(err, -EEXIST, "instance %s: its disk is user %u's", instance, owner);
                if (t->from && t->uid != owner && t->from->uid != owner && W.broken != BREAK_FENCE)
                        return err_set(err, -ESTALE, "instance %s: its disk is user %u's", instance, owner);
                op = op_new(s, apply_setattr, instance);
                op->uid = t->uid == owner ? -1 : t->uid; /* one that is right is left alone */
                op->gid = t->gid;
                op->group = t->group_writes;
                op->guarded = t->uid < 0 || i < GUARDED_TRIES || (t->from && op->uid >= 0);
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

        if (d->gate_epoch < op->lease.epoch) {
                d->gate_epoch = op->lease.epoch;
                memcpy(d->gate_start, op->start.id, sizeof(d->gate_start));
        }
        if (d->gate_epoch != op->lease.epoch || !streq(d->gate_start, op->start.id)) {
                op->result = err_set(&op->err, -ESTALE, "instance %s: the gate is at %llu of start %s",
                                     op->id, (unsigned long long)d->gate_epoch, d->gate_start);
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
                        if (d->clients[i].pid == op->blocked[k]) {
                                d->clients[i].recorded = false;
                                d->clients[i].fenced = true;
                        }
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

/* last: of a commit, the start whose memory it has. */
static int fence(struct store *s, const char *instance, const struct lease *mine, const struct start *start,
                 const struct start *last, struct err *err)
{
        const struct taking t = {.uid = start->uid, .from = last};
        struct op list = {.lease = *mine, .start = *start};

        if (W.kind == FENCE_NFS)
                return fence_nfs(s, instance, mine, &t, err);
        if (W.kind == FENCE_RBD)
                return fence_rbd(s, instance, mine, start, err);
        return rbd_step(s, instance, apply_link, &list, err); /* QEMU's own lock is the fence */
}

int sim_fence(struct store *s, const char *instance, const struct lease *mine, const struct start *start,
              const struct disk_spec *disks, size_t n_disks, struct err *err)
{
        return fence(s, instance, mine, start, NULL, err);
}

int sim_commit(struct store *s, const char *instance, const struct commit_claim *c,
               const struct disk_spec *disks, size_t n_disks, struct lease *ret, struct err *err)
{
        int r = sim_claim(s, instance, &c->from, c->host, c->again, ret, err);

        if (r == 0)
                r = fence(s, instance, ret, c->start, c->last, err);
        return r < 0 ? r : sim_gate(s, instance, ret, c->start, disks, n_disks, err);
}

int sim_grant(struct store *s, const char *instance, const struct lease *mine,
              const struct start *destination, const struct disk_spec *disks, size_t n_disks,
              struct err *err)
{
        const struct taking t = {.uid = -1, .gid = destination->gid, .group_writes = true};
        struct op list = {.lease = *mine, .start = *destination};

        if (W.kind == FENCE_NFS)
                return fence_nfs(s, instance, mine, &t, err);
        return rbd_step(s, instance, W.kind == FENCE_DIR ? apply_link : apply_lookup, &list, err);
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
        if (d->gate_epoch != op->lease.epoch || !streq(d->gate_start, op->start.id)) {
                op->result = err_set(&op->err, -EACCES, "instance %s: the gate has moved on", op->id);
                return;
        }
        for (size_t i = 0; i < d->n_clients; i++) {
                const struct qemu *q = qemu_alive(d->clients[i].pid);

                if (d->clients[i].recorded || d->clients[i].fenced || !q || q->host != op->host)
                        continue;
                d->clients[i].recorded = true;
                d->clients[i].epoch = op->lease.epoch;
                d->clients[i].host = op->lease.host;
                d->clients[i].ran_on = machine_of(op->host);
                memcpy(d->clients[i].start, op->start.id, sizeof(op->start.id));
        }
}

int sim_gate(struct store *s, const char *instance, const struct lease *mine, const struct start *start,
             const struct disk_spec *disks, size_t n_disks, struct err *err)
{
        struct op list = {.lease = *mine, .start = *start};

        return rbd_step(s, instance, apply_gate, &list, err);
}

/* Is that start's user, or one of its clients, let write? On a directory QEMU's own lock is the fence. */
static void apply_may_write(struct op *op)
{
        const struct disk *d = disk_of(op->id);
        bool known = false;

        op->result = check_name(op, -EACCES);
        if (op->result == 0 && W.kind == FENCE_NFS && d->uid != op->start.uid)
                op->result = err_set(&op->err, -EACCES, "instance %s: not this start's disk", op->id);
        if (op->result < 0 || W.kind != FENCE_RBD)
                return;
        for (size_t i = 0; i < d->n_clients; i++) {
                const struct client *c = &d->clients[i];

                if (!streq(c->start, op->start.id))
                        continue;
                known = true;
                if (c->blocked)
                        op->result =
                            err_set(&op->err, -EACCES, "instance %s: its client is blocked", op->id);
        }
        if (!known)
                op->result = err_set(&op->err, -ENOENT, "instance %s: no client of that start", op->id);
}

int sim_may_write(struct store *s, const char *instance, const struct lease *mine, const struct start *start,
                  const struct disk_spec *disks, size_t n_disks, struct err *err)
{
        struct op list = {.lease = *mine, .start = *start};

        return rbd_step(s, instance, apply_may_write, &list, err);
}
