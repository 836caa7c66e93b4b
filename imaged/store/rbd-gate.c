/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate of an instance: who may write its disks. One object "gate.<instance>" for all its disks, so that
 * raising it shuts them all in one atomic operation. Omap:
 *
 *   epoch              16 hexadecimal digits; there from the moment on that all disks are made
 *   making             the nonce of who took over making the disks; never beside an epoch
 *   ro.<disk>          a disk that nobody writes
 *   client.<address>   "<epoch> <start> <disk>": a RADOS client that may have written since;
 *                      disk "-" is the first one, whose image has the name of the lease
 *
 *   raise(e)           only if stored < e, or it is e already; all recorded clients are returned
 *   register(e, c)     only if stored == e
 *
 * So of a registration at e and a raise to e+1 the one that comes second sees the other: a client that was
 * registered is returned, one that comes late is refused.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "imaged/store/rbd-gate.h"

#define PAGE 1000
#define EPOCH_LEN 16
#define FIRST "-"

void gate_object(const char *instance, char ret[POOL_NAME_MAX])
{
        snprintf(ret, POOL_NAME_MAX, "gate.%s", instance);
}

void gate_done(struct gate *g)
{
        free(g->making);
        free(g->clients);
        free(g->read_only);
        *g = (struct gate){0};
}

static void epoch_text(uint64_t epoch, char ret[EPOCH_LEN + 1])
{
        snprintf(ret, EPOCH_LEN + 1, "%016llx", (unsigned long long)epoch);
}

static int client_add(struct gate *g, const char *address, const char *val)
{
        struct gate_client *c, *grown = realloc(g->clients, (g->n_clients + 1) * sizeof *grown);
        unsigned long long epoch;

        if (!grown)
                return -ENOMEM;
        g->clients = grown;
        c = &grown[g->n_clients];
        *c = (struct gate_client){0};
        if (strlen(address) >= sizeof c->address ||
            sscanf(val, "%16llx %36s %15s", &epoch, c->start, c->disk) != 3)
                return -EIO;
        strcpy(c->address, address);
        c->epoch = epoch;
        g->n_clients++;
        return 0;
}

static int entry_add(struct gate *g, const char *key, const char *val)
{
        if (streq(key, "epoch")) {
                g->complete = true;
                g->epoch = strtoull(val, NULL, 16);
                return 0;
        }
        if (streq(key, "making")) {
                free(g->making);
                g->making = strdup(val);
                return g->making ? 0 : -ENOMEM;
        }
        if (strncmp(key, "ro.", 3) == 0) {
                void *grown = realloc(g->read_only, (g->n_read_only + 1) * sizeof *g->read_only);

                if (!grown)
                        return -ENOMEM;
                g->read_only = grown;
                snprintf(g->read_only[g->n_read_only++], sizeof *g->read_only, "%.15s", key + 3);
                return 0;
        }
        return strncmp(key, "client.", 7) == 0 ? client_add(g, key + 7, val) : 0;
}

int gate_read(rados_ioctx_t io, const char *instance, struct gate *ret, struct err *err)
{
        char oid[POOL_NAME_MAX], after[128] = "";
        bool more = true;

        gate_object(instance, oid);
        while (more) {
                _cleanup_(pool_iter_donep) rados_omap_iter_t it = NULL;
                char *key, *val;
                size_t n_key, n_val;
                int r = pool_omap(io, oid, after, "", PAGE, &it, &more);

                if (r < 0)
                        return pool_fail(err, r, "read the gate of instance %s", instance);
                while (rados_omap_get_next2(it, &key, &val, &n_key, &n_val) == 0 && key) {
                        _cleanup_(freep) char *v = strndup(val, n_val);

                        snprintf(after, sizeof after, "%.*s", (int)n_key, key);
                        r = v ? entry_add(ret, after, v) : -ENOMEM;
                        if (r < 0)
                                return pool_fail(err, r, "the gate of instance %s, entry %s", instance,
                                                 after);
                }
        }
        return 0;
}

bool gate_writable(const struct gate *g, const struct disk_spec *spec)
{
        if (spec->content)
                return false;
        for (size_t i = 0; i < g->n_read_only; i++)
                if (streq(g->read_only[i], spec->name))
                        return false;
        return true;
}

static void op_set(rados_write_op_t op, const char *key, const char *val)
{
        size_t key_len = strlen(key), val_len = strlen(val);

        rados_write_op_omap_set2(op, &key, &val, &key_len, &val_len, 1);
}

static void op_rm(rados_write_op_t op, const char *key)
{
        size_t len = strlen(key);

        rados_write_op_omap_rm_keys2(op, &key, &len, 1);
}

/* An entry that is not there compares as "". */
static void op_cmp(rados_write_op_t op, const char *key, uint8_t how, const char *val)
{
        rados_write_op_omap_cmp2(op, key, how, val, strlen(key), strlen(val), NULL);
}

/* "I make the disks": where nobody did (old NULL), or in place of `old`, which gave up half-way. */
rados_write_op_t gate_begin_op(const char *nonce, const char *old)
{
        rados_write_op_t op = rados_create_write_op();

        if (old)
                op_cmp(op, "making", LIBRADOS_CMPXATTR_OP_EQ, old);
        else
                rados_write_op_create(op, LIBRADOS_CREATE_EXCLUSIVE, NULL);
        op_set(op, "making", nonce);
        return op;
}

/* "All are made": only if nobody took my place. nonce NULL: nothing was noted, so nothing may stand there.
 */
rados_write_op_t gate_complete_op(const char *nonce, const struct disk_spec *disks, size_t n_disks)
{
        rados_write_op_t op = rados_create_write_op();
        char epoch[EPOCH_LEN + 1], key[32];

        epoch_text(0, epoch);
        if (nonce) {
                op_cmp(op, "making", LIBRADOS_CMPXATTR_OP_EQ, nonce);
                op_rm(op, "making");
        } else {
                rados_write_op_create(op, LIBRADOS_CREATE_EXCLUSIVE, NULL);
        }
        op_set(op, "epoch", epoch);
        for (size_t i = 0; i < n_disks; i++) {
                if (!disks[i].content)
                        continue;
                snprintf(key, sizeof key, "ro.%s", disks[i].name);
                op_set(op, key, "1");
        }
        return op;
}

int gate_raise(rados_ioctx_t io, const char *instance, uint64_t epoch, struct gate *ret, struct err *err)
{
        _cleanup_(pool_write_op_donep) rados_write_op_t op = rados_create_write_op();
        char oid[POOL_NAME_MAX], text[EPOCH_LEN + 1];
        int r;

        gate_object(instance, oid);
        epoch_text(epoch, text);
        op_cmp(op, "epoch", LIBRADOS_CMPXATTR_OP_LT, text);
        op_set(op, "epoch", text);
        r = rados_write_op_operate(op, io, oid, NULL, 0);
        /* Not lower: raised to this epoch before, by me (the name is mine), or I am late. */
        if (r < 0 && r != -ECANCELED)
                return pool_fail(err, r, "raise the gate of instance %s to epoch %llu", instance,
                                 (unsigned long long)epoch);
        r = gate_read(io, instance, ret, err);
        if (r < 0)
                return r;
        if (ret->epoch != epoch)
                return err_set(err, -ESTALE, "instance %s: the gate is at epoch %llu, not %llu", instance,
                               (unsigned long long)ret->epoch, (unsigned long long)epoch);
        return 0;
}

int gate_drop(rados_ioctx_t io, const char *instance, const struct gate_client *const *clients, size_t n,
              struct err *err)
{
        _cleanup_(pool_write_op_donep) rados_write_op_t op = rados_create_write_op();
        char oid[POOL_NAME_MAX], key[128];
        int r;

        if (n == 0)
                return 0;
        gate_object(instance, oid);
        for (size_t i = 0; i < n; i++) {
                snprintf(key, sizeof key, "client.%s", clients[i]->address);
                op_rm(op, key);
        }
        r = rados_write_op_operate(op, io, oid, NULL, 0);
        return r < 0 && r != -ENOENT ? pool_fail(err, r, "clear the gate of instance %s", instance) : 0;
}

/* What one registration collects. */
struct registration {
        rados_write_op_t op;
        const struct gate *gate;
        const char *start, *disk;
        uint64_t epoch;
};

static int register_client(void *arg, const char *client)
{
        const struct registration *reg = arg;
        char key[128], val[80];

        /* Recorded already, maybe for another start: then it stays that one's. */
        for (size_t i = 0; i < reg->gate->n_clients; i++)
                if (streq(reg->gate->clients[i].address, client))
                        return 0;
        snprintf(key, sizeof key, "client.%s", client);
        snprintf(val, sizeof val, "%016llx %s %s", (unsigned long long)reg->epoch, reg->start, reg->disk);
        op_set(reg->op, key, val);
        return 0;
}

int rbd_lease_gate(struct store *s, const char *instance, const struct lease *mine,
                   const struct start *start, const struct disk_spec *disks, size_t n_disks, struct err *err)
{
        const struct pool *p = pool_of(s);
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        _cleanup_(pool_write_op_donep) rados_write_op_t op = rados_create_write_op();
        _cleanup_(gate_done) struct gate gate = {0};
        struct registration reg = {.op = op, .gate = &gate, .start = start->id, .epoch = mine->epoch};
        char image[POOL_NAME_MAX], epoch[EPOCH_LEN + 1], oid[POOL_NAME_MAX];
        int r = pool_io(s, &client, &io, err);

        if (r == 0)
                r = lease_check(io, instance, mine, err);
        if (r == -ESTALE)
                return err_wrap(err, -EACCES, "refused");
        if (r == 0)
                r = gate_read(io, instance, &gate, err);
        if (r < 0)
                return r;
        epoch_text(mine->epoch, epoch);
        op_cmp(op, "epoch", LIBRADOS_CMPXATTR_OP_EQ, epoch);
        for (size_t i = 0; i < n_disks; i++) {
                if (!gate_writable(&gate, &disks[i]))
                        continue;
                reg.disk = i == 0 ? FIRST : disks[i].name;
                disk_image(instance, mine, disks, i, image);
                r = disk_watchers(io, image, p->address, client->own, register_client, &reg, err);
                if (r == 0)
                        return err_set(
                            err, -EACCES,
                            "instance %s: nothing on %s has disk %s open, so nothing can be let through",
                            instance, p->address, disks[i].name);
                if (r < 0)
                        return r;
        }
        gate_object(instance, oid);
        r = rados_write_op_operate(op, io, oid, NULL, 0);
        if (r == -ECANCELED)
                return err_set(err, -EACCES, "instance %s: the gate is at epoch %llu, not %llu", instance,
                               (unsigned long long)gate.epoch, (unsigned long long)mine->epoch);
        return r < 0 ? pool_fail(err, r, "register at the gate of instance %s", instance) : 0;
}

static int same_client(void *arg, const char *client)
{
        return streq(arg, client) ? -EALREADY : 0;
}

/*
 * That QEMU is gone, says the host it ran on. Its client is proved dead where its watch has gone too: a QEMU
 * that ends in order has finished its writes and taken its watch back. The watch of one that was killed
 * stays, 30 s, and with it the record: what the kernel still sends for it may arrive later, so the next
 * fence blocklists it.
 */
void rbd_start_forget(struct store *s, const char *instance, const struct start *start)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        _cleanup_(gate_done) struct gate gate = {0};
        struct lease lease;

        if (pool_io(s, &client, &io, NULL) < 0 || lease_name_find(io, instance, &lease, NULL) < 0 ||
            gate_read(io, instance, &gate, NULL) < 0)
                return;
        for (size_t i = 0; i < gate.n_clients; i++) {
                const struct gate_client *c = &gate.clients[i];
                char image[POOL_NAME_MAX];

                if (!streq(c->start, start->id))
                        continue;
                if (streq(c->disk, FIRST))
                        disk_image(instance, &lease, NULL, 0, image);
                else
                        snprintf(image, sizeof image, "%s.%s", instance, c->disk);
                if (disk_watchers(io, image, NULL, NULL, same_client, (void *)(uintptr_t)c->address, NULL) >=
                    0)
                        (void)gate_drop(io, instance, &c, 1, NULL);
        }
}
