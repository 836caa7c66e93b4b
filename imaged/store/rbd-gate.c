/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate of an instance: who may write its disks. One object "gate.<instance>" for all its disks, so that
 * raising it shuts them all in one atomic operation. Omap:
 *
 *   epoch              "<epoch> <start>": 16 hexadecimal digits, and the id of the start that raised it;
 * there from the moment on that all disks are made, until the first raise without a start. A version before
 * this one wrote no start, ever making             the nonce of who took over making the disks; never beside
 * an epoch ro.<disk>          a disk that nobody writes size.<disk>        decimal: a clone's size, where it
 * is larger than its image; given to the clone at the same time as this entry is written, so the first claim
 * makes sure of it client.<address>   "<epoch> <start> <disk> <host> <boot> <view> <board>": a RADOS client
 * that may have written since; disk "-" is the first one, whose image has the name of the lease. From the
 * host on: where its QEMU runs (common/machine.h); not there, or "-", where that is not known
 *   fenced.<address>   the same of one that is on the blocklist, and is no longer a client above; only where
 *                      it ran on a known host. See rbd-lift.c
 *
 *   raise(e, s)        only if the stored epoch < e, or e and s are stored already; all recorded clients are
 *                      returned
 *   register(e, s, c)  only if e and s are stored
 *
 * So of a registration at e and a raise to e+1 the one that comes second sees the other: a client that was
 * registered is returned, one that comes late is refused. And of two starts that raise to e one has lost:
 * two hosts with one number. An epoch e without a start is the first start's that comes to raise or to
 * register at e, if no client of another start was registered at e.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "imaged/store/rbd-gate.h"

#define PAGE 1000
#define EPOCH_LEN 16

void gate_object(const char *instance, char ret[POOL_NAME_MAX])
{
        snprintf(ret, POOL_NAME_MAX, "gate.%s", instance);
}

void gate_done(struct gate *g)
{
        free(g->making);
        free(g->clients);
        free(g->fenced);
        free(g->read_only);
        free(g->sizes);
        *g = (struct gate){0};
}

static void epoch_text(uint64_t epoch, char ret[EPOCH_LEN + 1])
{
        snprintf(ret, EPOCH_LEN + 1, "%016llx", (unsigned long long)epoch);
}

#define RAISED_LEN (EPOCH_LEN + 1 + UUID_LEN)
static void raised_text(uint64_t epoch, const char *start, char ret[RAISED_LEN + 1])
{
        snprintf(ret, RAISED_LEN + 1, "%016llx %s", (unsigned long long)epoch, start);
}

static const char *or_dash(const char *text)
{
        return text[0] ? text : "-";
}

void gate_client_text(const struct gate_client *c, char ret[GATE_CLIENT_TEXT])
{
        int n = snprintf(ret, GATE_CLIENT_TEXT, "%016llx %s %s", (unsigned long long)c->epoch, c->start,
                         c->disk);

        if (c->host)
                snprintf(ret + n, GATE_CLIENT_TEXT - (size_t)n, " %u %s %s %s", c->host,
                         or_dash(c->ran_on.boot), or_dash(c->ran_on.view), or_dash(c->ran_on.board));
}

static int client_add(struct gate_client **list, size_t *n, const char *address, const char *val)
{
        struct gate_client *c, *grown = reallocarray(*list, *n + 1, sizeof *grown);
        unsigned long long epoch;
        int fields;

        if (!grown)
                return -ENOMEM;
        *list = grown;
        c = &grown[*n];
        *c = (struct gate_client){0};
        if (strlen(address) >= sizeof c->address)
                return -EIO;
        fields = sscanf(val, "%16llx %36s %15s %u %36s %79s %79s", &epoch, c->start, c->disk, &c->host,
                        c->ran_on.boot, c->ran_on.view, c->ran_on.board);
        if (fields < 3)
                return -EIO;
        if (fields < 7) {
                c->host = 0;
                c->ran_on = (struct machine){0};
        }
        strcpy(c->address, address);
        c->epoch = epoch;
        ++*n;
        return 0;
}

static int entry_add(struct gate *g, const char *key, const char *val)
{
        if (streq(key, "epoch")) {
                g->complete = true;
                g->epoch = strtoull(val, NULL, 16);
                snprintf(g->start, sizeof g->start, "%s", strchr(val, ' ') ? strchr(val, ' ') + 1 : "");
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
        if (strncmp(key, "size.", 5) == 0) {
                struct gate_size *grown = reallocarray(g->sizes, g->n_sizes + 1, sizeof *grown);

                if (!grown)
                        return -ENOMEM;
                g->sizes = grown;
                snprintf(grown[g->n_sizes].disk, sizeof grown->disk, "%.15s", key + 5);
                grown[g->n_sizes++].size = strtoull(val, NULL, 10);
                return 0;
        }
        if (strncmp(key, "fenced.", 7) == 0)
                return client_add(&g->fenced, &g->n_fenced, key + 7, val);
        return strncmp(key, "client.", 7) == 0 ? client_add(&g->clients, &g->n_clients, key + 7, val) : 0;
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

void gate_op_set(rados_write_op_t op, const char *key, const char *val)
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
        gate_op_set(op, "making", nonce);
        return op;
}

/* "All are made": only if nobody took my place. nonce NULL: nothing was noted, so nothing may stand there.
 */
rados_write_op_t gate_complete_op(const char *nonce, const struct disk_spec *disks,
                                  const struct golden *golden, size_t n_disks)
{
        rados_write_op_t op = rados_create_write_op();
        char epoch[EPOCH_LEN + 1], key[32], size[24];

        epoch_text(0, epoch);
        if (nonce) {
                op_cmp(op, "making", LIBRADOS_CMPXATTR_OP_EQ, nonce);
                op_rm(op, "making");
        } else {
                rados_write_op_create(op, LIBRADOS_CREATE_EXCLUSIVE, NULL);
        }
        gate_op_set(op, "epoch", epoch);
        for (size_t i = 0; i < n_disks; i++) {
                if (disk_grows(&disks[i], &golden[i])) {
                        snprintf(key, sizeof key, "size.%s", disks[i].name);
                        snprintf(size, sizeof size, "%llu", (unsigned long long)disks[i].size);
                        gate_op_set(op, key, size);
                }
                if (!disks[i].content)
                        continue;
                snprintf(key, sizeof key, "ro.%s", disks[i].name);
                gate_op_set(op, key, "1");
        }
        return op;
}

/* Was this epoch raised by a version that wrote no start, and nobody let run at it but maybe `start`? */
static bool is_unclaimed(const struct gate *g, uint64_t epoch, const char *start)
{
        for (size_t i = 0; i < g->n_clients; i++)
                if (g->clients[i].epoch == epoch && !streq(g->clients[i].start, start))
                        return false;
        return g->epoch == epoch && !g->start[0];
}

/* raise(), once: -ECANCELED: it is not as it has to be. adopt: it has this epoch, without a start. */
static int raise_once(rados_ioctx_t io, const char *instance, uint64_t epoch, const char *start, bool adopt)
{
        _cleanup_(pool_write_op_donep) rados_write_op_t op = rados_create_write_op();
        char oid[POOL_NAME_MAX], text[EPOCH_LEN + 1], raised[RAISED_LEN + 1];

        gate_object(instance, oid);
        epoch_text(epoch, text);
        raised_text(epoch, start, raised);
        op_cmp(op, "epoch", adopt ? LIBRADOS_CMPXATTR_OP_EQ : LIBRADOS_CMPXATTR_OP_LT, text);
        gate_op_set(op, "epoch", raised);
        return rados_write_op_operate(op, io, oid, NULL, 0);
}

int gate_raise(rados_ioctx_t io, const char *instance, uint64_t epoch, const char *start, struct gate *ret,
               struct err *err)
{
        int r = raise_once(io, instance, epoch, start, false);

        if (r < 0 && r != -ECANCELED)
                return pool_fail(err, r, "raise the gate of instance %s to epoch %llu", instance,
                                 (unsigned long long)epoch);
        r = gate_read(io, instance, ret, err);
        if (r == 0 && is_unclaimed(ret, epoch, start)) {
                r = raise_once(io, instance, epoch, start, true);
                if (r < 0 && r != -ECANCELED)
                        return pool_fail(err, r, "raise the gate of instance %s", instance);
                gate_done(ret);
                r = gate_read(io, instance, ret, err);
        }
        if (r < 0)
                return r;
        /* Raised before, by this very start; or it is late. */
        if (ret->epoch != epoch || !streq(ret->start, start))
                return err_set(err, -ESTALE,
                               "instance %s: the gate is at epoch %llu of start %s, not at %llu of %s",
                               instance, (unsigned long long)ret->epoch, or_dash(ret->start),
                               (unsigned long long)epoch, start);
        return 0;
}

int gate_drop(rados_ioctx_t io, const char *instance, const struct gate_client *const *clients, size_t n,
              bool fenced, struct err *err)
{
        _cleanup_(pool_write_op_donep) rados_write_op_t op = rados_create_write_op();
        char oid[POOL_NAME_MAX], key[128], val[GATE_CLIENT_TEXT];
        int r;

        if (n == 0)
                return 0;
        gate_object(instance, oid);
        for (size_t i = 0; i < n; i++) {
                snprintf(key, sizeof key, "client.%s", clients[i]->address);
                op_rm(op, key);
                if (!fenced || !clients[i]->host)
                        continue;
                snprintf(key, sizeof key, "fenced.%s", clients[i]->address);
                gate_client_text(clients[i], val);
                gate_op_set(op, key, val);
        }
        r = rados_write_op_operate(op, io, oid, NULL, 0);
        return r < 0 && r != -ENOENT ? pool_fail(err, r, "clear the gate of instance %s", instance) : 0;
}

int gate_raise_seen(rados_ioctx_t io, const char *instance, const struct lease *mine,
                    const struct gate_look *look, const struct gate_open *open, const struct start *start,
                    const struct disk_spec *disks, struct err *err)
{
        _cleanup_(pool_write_op_donep) rados_write_op_t op = NULL;
        char oid[POOL_NAME_MAX], text[EPOCH_LEN + 1], raised[RAISED_LEN + 1];
        int r;

        if (look->version == 0)
                return 1;
        op = rados_create_write_op();
        gate_object(instance, oid);
        epoch_text(mine->epoch, text);
        raised_text(mine->epoch, start->id, raised);
        rados_write_op_assert_version(op, look->version);
        op_cmp(op, "epoch", LIBRADOS_CMPXATTR_OP_LT, text);
        gate_op_set(op, "epoch", raised);
        if (open)
                gate_op_register(op, &look->gate, open, start, mine, disks);
        r = rados_write_op_operate(op, io, oid, NULL, 0);
        if (r == -ERANGE || r == -EOVERFLOW || r == -ECANCELED)
                return 1;
        return r < 0 ? pool_fail(err, r, "raise the gate of instance %s to epoch %llu", instance,
                                 (unsigned long long)mine->epoch)
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
        char epoch[EPOCH_LEN + 1], raised[RAISED_LEN + 1], oid[POOL_NAME_MAX];
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
        raised_text(mine->epoch, start->id, raised);
        if (is_unclaimed(&look.gate, mine->epoch, start->id)) {
                op_cmp(op, "epoch", LIBRADOS_CMPXATTR_OP_EQ, epoch);
                gate_op_set(op, "epoch", raised);
        } else {
                op_cmp(op, "epoch", LIBRADOS_CMPXATTR_OP_EQ, raised);
        }
        gate_op_register(op, &look.gate, &open, start, mine, disks);
        gate_object(instance, oid);
        r = rados_write_op_operate(op, io, oid, NULL, 0);
        if (r == -ECANCELED)
                return err_set(err, -EACCES,
                               "instance %s: the gate is at epoch %llu of start %s, not at %llu of %s",
                               instance, (unsigned long long)look.gate.epoch, or_dash(look.gate.start),
                               (unsigned long long)mine->epoch, start->id);
        return r < 0 ? pool_fail(err, r, "register at the gate of instance %s", instance) : 0;
}
