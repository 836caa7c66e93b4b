/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "migrate/lift.h"
#include "tests/sim/storage.h"

/*
 * Clients that a fence of rbd left on the blocklist, and their lifting, step by step as rbd-lift.c does it;
 * and the time that it takes: what is an hour in the world is seconds here, just longer than the longest way
 * of a request (qemu.c).
 */
#define GRACE_MS 6500

/* Each host is a machine of its own. */
struct machine machine_of(const struct host *h)
{
        struct machine m = {.view = "1-1"};

        snprintf(m.boot, sizeof(m.boot), "%u-%u", (unsigned)(h - W.hosts) + 1, h->boots);
        snprintf(m.board, sizeof(m.board), "%u/", (unsigned)(h - W.hosts) + 1);
        return m;
}

void __wrap_machine_self(struct machine *ret);
bool __wrap_lift_round_due(int64_t last_ms, int64_t now_ms);
bool __wrap_lift_due(int64_t proved_ms, int64_t now_ms);
bool __wrap_lift_proved(const struct machine *ran_on, const struct machine *answer, bool here);
bool __real_lift_proved(const struct machine *ran_on, const struct machine *answer, bool here);

void __wrap_machine_self(struct machine *ret)
{
        *ret = machine_of(host_current());
}

bool __wrap_lift_round_due(int64_t last_ms, int64_t now_ms)
{
        return W.kind == FENCE_RBD;
}

bool __wrap_lift_due(int64_t proved_ms, int64_t now_ms)
{
        return now_ms - proved_ms >= (W.broken == BREAK_GRACE   ? 0
                                      : W.broken == BREAK_PROOF ? 2000
                                                                : GRACE_MS);
}

bool __wrap_lift_proved(const struct machine *ran_on, const struct machine *answer, bool here)
{
        return W.broken == BREAK_PROOF || __real_lift_proved(ran_on, answer, here);
}

static void apply_fenced(struct op *op)
{
        const struct disk *d = disk_of(op->id);

        op->ret_clients = calloc(CLIENTS_MAX, sizeof(*op->ret_clients));
        assert(op->ret_clients);
        for (size_t i = 0; i < d->n_clients; i++)
                if (d->clients[i].fenced)
                        op->ret_clients[op->ret_n_clients++] = d->clients[i];
}

static void apply_unblock(struct op *op)
{
        struct disk *d = disk_of(op->id);

        for (size_t i = 0; i < d->n_clients; i++)
                if ((uint64_t)d->clients[i].pid == op->number && d->clients[i].blocked) {
                        d->clients[i].blocked = false;
                        W.stats.lifts++;
                        tell("%s: QEMU %d is let go", op->id, (int)d->clients[i].pid);
                }
        disk_check(d);
}

static void apply_unfence(struct op *op)
{
        struct disk *d = disk_of(op->id);

        for (size_t i = 0; i < d->n_clients; i++)
                if ((uint64_t)d->clients[i].pid == op->number)
                        d->clients[i].fenced = false;
}

int sim_fenced(struct store *s, const char *instance, fenced_cb cb, void *arg, struct err *err)
{
        struct op *op;
        int r;

        if (W.kind != FENCE_RBD)
                return err_set(err, -EOPNOTSUPP, "no list");
        op = op_new(s, apply_fenced, instance);
        r = op_call(s, &op, err);
        for (size_t i = 0; op && r == 0 && i < op->ret_n_clients; i++) {
                const struct client *c = &op->ret_clients[i];
                struct fenced_client f = {.epoch = c->epoch, .host = c->host, .ran_on = c->ran_on};

                snprintf(f.address, sizeof(f.address), "%d", (int)c->pid);
                memcpy(f.start, c->start, sizeof(f.start));
                if (W.broken == BREAK_PROOF)
                        f.host = host_current()->number % W.n_hosts + 1;
                r = cb(arg, &f);
        }
        op_unref(op);
        return r;
}

static int lift_step(struct store *s, void (*apply)(struct op *op), const char *instance, const char *pid,
                     struct err *err)
{
        struct op *op = op_new(s, apply, instance);
        int r;

        op->number = strtoull(pid, NULL, 10);
        r = op_call(s, &op, err);
        op_unref(op);
        return r;
}

int sim_lift(struct store *s, const char *instance, const struct fenced_client *client, struct err *err)
{
        int r = lift_step(s, apply_unblock, instance, client->address, err);

        return r < 0 ? r : lift_step(s, apply_unfence, instance, client->address, err);
}
