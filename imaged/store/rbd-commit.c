/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commit of a migration while the guest stands still: claim, fence and gate as rbd-lease.c, rbd-fence.c
 * and rbd-gate.c have them, in fewer round trips.
 *
 *   names, gate                       two reads at the same time
 *   the claim's rename                beside it: who on this host has the disks open
 *   raise and register                one operation, on the gate as it was read; beside it: the old name
 * goes
 *
 * Raise and register may be one because nobody has to be fenced in between: where the gate has changed since
 * it was read, or holds a client that is not spared, the three go one after the other, after all.
 */
#include <pthread.h>

#include "imaged/store/rbd-gate.h"

struct opening {
        struct store *store;
        struct pool_client *client;
        rados_ioctx_t io;
        const char *instance;
        const struct lease *name;
        const struct gate_look *look;
        const struct disk_spec *disks;
        size_t n_disks;
        pthread_t thread;
        bool started;
        struct gate_open open;
        struct err err;
        int r;
};

static void *opening_run(void *arg)
{
        struct opening *o = arg;

        o->r = gate_open_find(&o->open, pool_of(o->store), o->client, o->io, o->instance, o->name, o->look,
                              o->disks, o->n_disks, &o->err);
        return NULL;
}

static void opening_begin(struct opening *o)
{
        o->started = pthread_create(&o->thread, NULL, opening_run, o) == 0;
}

static void opening_join(struct opening *o)
{
        if (o->started)
                pthread_join(o->thread, NULL);
        o->started = false;
}

static int opening_wait(struct opening *o, struct err *err)
{
        if (o->started)
                opening_join(o);
        else
                opening_run(o);
        if (o->r < 0 && err)
                *err = o->err;
        return o->r;
}

static void opening_done(struct opening *o)
{
        opening_join(o);
        gate_open_done(&o->open);
}

static bool all_spared(const struct gate *gate, const struct start *start)
{
        for (size_t i = 0; i < gate->n_clients; i++)
                if (!fence_spares(gate, &gate->clients[i], start))
                        return false;
        return true;
}

/* Fence and gate, one after the other. */
static int commit_slowly(struct store *s, const char *instance, const struct lease *mine,
                         const struct start *start, const struct disk_spec *disks, size_t n_disks,
                         struct err *err)
{
        int r = rbd_lease_fence(s, instance, mine, start, disks, n_disks, err);

        return r < 0 ? r : rbd_lease_gate(s, instance, mine, start, disks, n_disks, err);
}

int rbd_lease_commit(struct store *s, const char *instance, const struct commit_claim *c,
                     const struct disk_spec *disks, size_t n_disks, struct lease *ret, struct err *err)
{
        const struct lease *from = &c->from;
        const struct start *start = c->start;
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        _cleanup_(gate_look_done) struct gate_look look = {0};
        _cleanup_(pool_op_done) struct pool_op later = {0};
        struct lease mine;
        char name[LEASE_NAME_MAX + 1];
        int r = pool_io(s, &client, &io, err);

        if (r < 0)
                return r;
        lease_name_format(instance, from, name);
        r = gate_look(&look, io, instance, from, err);
        if (r < 0 || from->epoch == 0 || !all_spared(&look.gate, start)) {
                r = rbd_leases.claim(s, instance, from, c->host, c->again, &mine, err);
                if (r == 0)
                        r = commit_slowly(s, instance, &mine, start, disks, n_disks, err);
        } else {
                _cleanup_(opening_done) struct opening opening = {.store = s,
                                                                  .client = client,
                                                                  .io = io,
                                                                  .instance = instance,
                                                                  .name = from,
                                                                  .look = &look,
                                                                  .disks = disks,
                                                                  .n_disks = n_disks};

                opening_begin(&opening);
                r = lease_claim_image(io, instance, pool_list_id(&look.images, name), from, c->host,
                                      c->again, &mine, &later, err);
                if (r == 0)
                        r = opening_wait(&opening, err);
                if (r == 0)
                        r = gate_raise_seen(io, instance, &mine, &look, &opening.open, start, disks, err);
                if (r == 1)
                        r = commit_slowly(s, instance, &mine, start, disks, n_disks, err);
        }
        if (r == 0)
                *ret = mine;
        return r;
}
