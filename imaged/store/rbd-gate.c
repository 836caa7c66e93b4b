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

/* One page of entries; `after` becomes the last one's key. */
static int entries_page(struct pool_scan *s, const char *instance, char *after, size_t after_len,
                        struct gate *ret, struct err *err)
{
        char *key, *val;
        size_t n_key, n_val;
        int r = pool_scan_wait(s);

        if (r < 0)
                return pool_fail(err, r, "read the gate of instance %s", instance);
        while (rados_omap_get_next2(s->it, &key, &val, &n_key, &n_val) == 0 && key) {
                _cleanup_(freep) char *v = strndup(val, n_val);

                snprintf(after, after_len, "%.*s", (int)n_key, key);
                r = v ? entry_add(ret, after, v) : -ENOMEM;
                if (r < 0)
                        return pool_fail(err, r, "the gate of instance %s, entry %s", instance, after);
        }
        return 0;
}

/* The first page is begun. ret_version: of the object, where that was all; else 0. */
static int entries_wait(struct pool_scan *s, rados_ioctx_t io, const char *instance, struct gate *ret,
                        uint64_t *ret_version, struct err *err)
{
        char oid[POOL_NAME_MAX], after[128] = "";
        int r = entries_page(s, instance, after, sizeof after, ret, err);

        *ret_version = s->more ? 0 : s->op.version;
        gate_object(instance, oid);
        while (r == 0 && s->more) {
                pool_scan_done(s);
                pool_scan_begin(s, io, oid, after, "", PAGE);
                r = entries_page(s, instance, after, sizeof after, ret, err);
        }
        return r;
}

int gate_read(rados_ioctx_t io, const char *instance, struct gate *ret, struct err *err)
{
        _cleanup_(pool_scan_done) struct pool_scan s = {0};
        char oid[POOL_NAME_MAX];
        uint64_t version;

        gate_object(instance, oid);
        pool_scan_begin(&s, io, oid, "", "", PAGE);
        return entries_wait(&s, io, instance, ret, &version, err);
}

int gate_look(struct gate_look *l, rados_ioctx_t io, const char *instance, const struct lease *mine,
              struct err *err)
{
        char oid[POOL_NAME_MAX];
        int r;

        gate_object(instance, oid);
        lease_images_begin(&l->names_scan, io, instance);
        pool_scan_begin(&l->gate_scan, io, oid, "", "", PAGE);
        r = lease_images_wait(&l->names_scan, io, instance, &l->images, err);
        if (r == 0)
                r = lease_check(&l->images, instance, mine, err);
        if (r == 0)
                r = entries_wait(&l->gate_scan, io, instance, &l->gate, &l->version, err);
        return r;
}

void gate_look_done(struct gate_look *l)
{
        pool_scan_done(&l->names_scan);
        pool_scan_done(&l->gate_scan);
        pool_list_done(&l->images);
        gate_done(&l->gate);
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

void gate_open_done(struct gate_open *o)
{
        free(o->client);
        *o = (struct gate_open){0};
}

struct finding {
        struct gate_open *open;
        size_t disk;
};

static int found_client(void *arg, const char *client)
{
        const struct finding *f = arg;
        struct gate_open *o = f->open;
        void *grown = reallocarray(o->client, o->n + 1, sizeof *o->client);

        if (!grown)
                return -ENOMEM;
        o->client = grown;
        o->client[o->n].disk = f->disk;
        snprintf(o->client[o->n++].address, sizeof o->client->address, "%s", client);
        return 0;
}

int gate_open_find(struct gate_open *ret, const struct pool *p, const struct pool_client *client,
                   rados_ioctx_t io, const char *instance, const struct lease *name,
                   const struct gate_look *look, const struct disk_spec *disks, size_t n_disks,
                   struct err *err)
{
        struct finding f = {.open = ret};
        char image[POOL_NAME_MAX];

        for (f.disk = 0; f.disk < n_disks; f.disk++) {
                const char *id;
                int r;

                if (!gate_writable(&look->gate, &disks[f.disk]))
                        continue;
                disk_image(instance, name, disks, f.disk, image);
                id = pool_list_id(&look->images, image);
                if (!id)
                        return err_set(err, -ENOENT, "instance %s has no disk %s", instance, image);
                r = disk_watchers(io, image, id, p->address, client->own, found_client, &f, err);
                if (r == 0)
                        return err_set(
                            err, -EACCES,
                            "instance %s: nothing on %s has disk %s open, so nothing can be let through",
                            instance, p->address, disks[f.disk].name);
                if (r < 0)
                        return r;
        }
        return 0;
}

static void op_register(rados_write_op_t op, const struct gate *gate, const struct gate_open *open,
                        const struct start *start, uint64_t epoch, const struct disk_spec *disks)
{
        for (size_t i = 0; i < open->n; i++) {
                const char *address = open->client[i].address;
                const size_t disk = open->client[i].disk;
                char key[128], val[80];
                bool known = false;

                /* Recorded already, maybe for another start: then it stays that one's. */
                for (size_t k = 0; k < gate->n_clients && !known; k++)
                        known = streq(gate->clients[k].address, address);
                if (known)
                        continue;
                snprintf(key, sizeof key, "client.%s", address);
                snprintf(val, sizeof val, "%016llx %s %s", (unsigned long long)epoch, start->id,
                         disk == 0 ? FIRST : disks[disk].name);
                op_set(op, key, val);
        }
}

int gate_raise_seen(rados_ioctx_t io, const char *instance, uint64_t epoch, const struct gate_look *look,
                    const struct gate_open *open, const struct start *start, const struct disk_spec *disks,
                    struct err *err)
{
        _cleanup_(pool_write_op_donep) rados_write_op_t op = NULL;
        char oid[POOL_NAME_MAX], text[EPOCH_LEN + 1];
        int r;

        if (look->version == 0)
                return 1;
        op = rados_create_write_op();
        gate_object(instance, oid);
        epoch_text(epoch, text);
        rados_write_op_assert_version(op, look->version);
        op_cmp(op, "epoch", LIBRADOS_CMPXATTR_OP_LT, text);
        op_set(op, "epoch", text);
        if (open)
                op_register(op, &look->gate, open, start, epoch, disks);
        r = rados_write_op_operate(op, io, oid, NULL, 0);
        if (r == -ERANGE || r == -EOVERFLOW || r == -ECANCELED)
                return 1;
        return r < 0 ? pool_fail(err, r, "raise the gate of instance %s to epoch %llu", instance,
                                 (unsigned long long)epoch)
                     : 0;
}

int rbd_lease_gate(struct store *s, const char *instance, const struct lease *mine,
                   const struct start *start, const struct disk_spec *disks, size_t n_disks, struct err *err)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        _cleanup_(pool_write_op_donep) rados_write_op_t op = rados_create_write_op();
        _cleanup_(gate_look_done) struct gate_look look = {0};
        _cleanup_(gate_open_done) struct gate_open open = {0};
        char epoch[EPOCH_LEN + 1], oid[POOL_NAME_MAX];
        int r = pool_io(s, &client, &io, err);

        if (r == 0)
                r = gate_look(&look, io, instance, mine, err);
        if (r == -ESTALE)
                return err_wrap(err, -EACCES, "refused");
        if (r == 0)
                r = gate_open_find(&open, pool_of(s), client, io, instance, mine, &look, disks, n_disks,
                                   err);
        if (r < 0)
                return r;
        epoch_text(mine->epoch, epoch);
        op_cmp(op, "epoch", LIBRADOS_CMPXATTR_OP_EQ, epoch);
        op_register(op, &look.gate, &open, start, mine->epoch, disks);
        gate_object(instance, oid);
        r = rados_write_op_operate(op, io, oid, NULL, 0);
        if (r == -ECANCELED)
                return err_set(err, -EACCES, "instance %s: the gate is at epoch %llu, not %llu", instance,
                               (unsigned long long)look.gate.epoch, (unsigned long long)mine->epoch);
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
        _cleanup_(pool_scan_done) struct pool_scan scan = {0};
        _cleanup_(pool_list_done) struct pool_list images = {0};
        _cleanup_(gate_done) struct gate gate = {0};
        struct lease lease;

        if (pool_io(s, &client, &io, NULL) < 0)
                return;
        lease_images_begin(&scan, io, instance);
        if (gate_read(io, instance, &gate, NULL) < 0 ||
            lease_images_wait(&scan, io, instance, &images, NULL) < 0 ||
            lease_name_of(&images, instance, &lease, NULL) < 0)
                return;
        for (size_t i = 0; i < gate.n_clients; i++) {
                const struct gate_client *c = &gate.clients[i];
                char image[POOL_NAME_MAX];
                const char *id;

                if (!streq(c->start, start->id))
                        continue;
                if (streq(c->disk, FIRST))
                        disk_image(instance, &lease, NULL, 0, image);
                else
                        snprintf(image, sizeof image, "%s.%s", instance, c->disk);
                id = pool_list_id(&images, image);
                if (id && disk_watchers(io, image, id, NULL, NULL, same_client,
                                        (void *)(uintptr_t)c->address, NULL) >= 0)
                        (void)gate_drop(io, instance, &c, 1, NULL);
        }
}
