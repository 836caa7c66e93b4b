/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/storage.h"

/* The names of disks: who owns what. */

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
        op->result = lease_claim(W.store, op->id, &op->lease, op->claimer, op->again, &op->ret, &op->err);
        tell("%s: claim by host %u from e%llu.h%u: %s", op->id, op->claimer,
             (unsigned long long)op->lease.epoch, op->lease.host, op->result == 0 ? "won" : "lost");
        chaos_hint(op->host, 12);
}

/* No answer came: the new name is a win, and if the old one is there still, nobody knows. As the engines. */
static int claim_judge(struct store *s, const char *instance, const struct lease *from,
                       const struct lease *to, struct lease *ret, struct err *err)
{
        struct lease now;
        int r = sim_find(s, instance, &now, err);

        if (r == 0 && now.epoch == to->epoch && now.host == to->host) {
                *ret = now;
                return 0;
        }
        if (r < 0 || (now.epoch == from->epoch && now.host == from->host))
                return err_set(err, -ETIMEDOUT, "instance %s: claim without an answer", instance);
        return err_set(err, -ESTALE, "instance %s: epoch %llu of host %u has passed", instance,
                       (unsigned long long)from->epoch, from->host);
}

int sim_claim(struct store *s, const char *instance, const struct lease *from, unsigned host, bool again,
              struct lease *ret, struct err *err)
{
        const struct lease to = {.epoch = from->epoch + 1, .host = host};
        struct op *op = op_new(s, apply_claim, instance);
        int r;

        op->lease = *from;
        op->claimer = host;
        op->again = again;
        op->claims = true;
        r = op_call(s, &op, err);
        if (r == 0)
                *ret = op->ret;
        op_unref(op);
        return r == -ETIMEDOUT ? claim_judge(s, instance, from, &to, ret, err) : r;
}

int check_name(struct op *op, int code)
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

static int sim_attach(struct store *s, const char *instance, const struct lease *lease,
                      const struct start *start, const struct disk_spec *disks, size_t n_disks,
                      struct attach *ret, struct err *err)
{
        disk_link(disk_of(instance), start->id, lease);
        for (size_t i = 0; i < n_disks; i++) {
                ret[i].kind = ATTACH_FILE;
                snprintf(ret[i].path, sizeof(ret[i].path), "/disks/%s/%s", instance, disks[i].name);
                ret[i].read_only = disks[i].content != NULL;
        }
        return 0;
}

const struct engine_leases sim_leases = {
    .create = sim_lease_create,
    .find = sim_find,
    .list = sim_lease_list,
    .claim = sim_claim,
    .fence = sim_fence,
    .grant = sim_grant,
    .gate = sim_gate,
    .may_write = sim_may_write,
    .commit = sim_commit,
    .remove = sim_remove,
};

const struct engine_starts sim_starts = {
    .attach = sim_attach,
};

const struct engine_lifts sim_lifts = {
    .fenced = sim_fenced,
    .lift = sim_lift,
};
