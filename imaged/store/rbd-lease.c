/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases: the name of an instance's first image. What the name is says the pool's directory alone: a rename
 * is several steps, and only the one in the directory decides. A crash in between leaves the old name
 * resolvable and the new one's "rbd_id" object occupied; a claim that meets such an occupied name goes on to
 * the next epoch.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "imaged/store/rbd-gate.h"

#define CLAIM_TRIES 8 /* epochs that earlier crashes may have left occupied */

struct found {
        const char *instance;
        struct lease *lease;
        bool any;
};

static int found_name(void *arg, const char *name, const char *id _unused_)
{
        struct found *f = arg;
        char instance[STORE_ID_MAX + 1];
        struct lease lease;

        if (lease_name_parse(name, instance, &lease) < 0 || !streq(instance, f->instance))
                return 0;
        if (!f->any || lease.epoch > f->lease->epoch)
                *f->lease = lease;
        f->any = true;
        return 0;
}

int lease_name_find(rados_ioctx_t io, const char *instance, struct lease *ret, struct err *err)
{
        struct found f = {.instance = instance, .lease = ret};
        char prefix[POOL_NAME_MAX];
        int r;

        snprintf(prefix, sizeof prefix, "%s.e", instance);
        r = pool_names(io, prefix, found_name, &f, err);
        if (r < 0)
                return r;
        return f.any ? 0 : err_set(err, -ENOENT, "instance %s has no disks", instance);
}

int lease_check(rados_ioctx_t io, const char *instance, const struct lease *mine, struct err *err)
{
        struct lease now;
        int r = lease_name_find(io, instance, &now, err);

        if (r == 0 && (now.epoch != mine->epoch || now.host != mine->host))
                return err_set(err, -ESTALE, "instance %s is at e%llu.h%u, no longer at e%llu.h%u", instance,
                               (unsigned long long)now.epoch, now.host, (unsigned long long)mine->epoch,
                               mine->host);
        return r;
}

/* A name at epoch 0 may stand for disks that are still being made, or never will be: the gate knows. 1:
 * complete. */
static int complete(rados_ioctx_t io, const char *instance, const struct lease *lease, struct err *err)
{
        _cleanup_(gate_done) struct gate gate = {0};
        int r;

        if (lease->epoch > 0)
                return 1;
        r = gate_read(io, instance, &gate, err);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        return gate.complete;
}

static int rbd_lease_find(struct store *s, const char *instance, struct lease *ret, struct err *err)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        struct lease lease;
        int r = pool_io(s, &client, &io, err);

        if (r == 0)
                r = lease_name_find(io, instance, &lease, err);
        if (r == 0)
                r = complete(io, instance, &lease, err);
        if (r < 0)
                return r;
        if (r == 0)
                return err_set(err, -ENOENT, "instance %s has no disks yet", instance);
        *ret = lease;
        return 0;
}

struct listing {
        rados_ioctx_t io;
        lease_cb cb;
        void *arg;
        struct err *err;
};

static int list_name(void *arg, const char *name, const char *id _unused_)
{
        const struct listing *l = arg;
        char instance[STORE_ID_MAX + 1];
        struct lease lease;
        int r;

        if (lease_name_parse(name, instance, &lease) < 0)
                return 0;
        r = complete(l->io, instance, &lease, l->err);
        return r <= 0 ? r : l->cb(l->arg, instance, &lease);
}

static int rbd_lease_list(struct store *s, lease_cb cb, void *arg, struct err *err)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        struct listing l = {.cb = cb, .arg = arg, .err = err};
        int r = pool_io(s, &client, &io, err);

        if (r < 0)
                return r;
        l.io = io;
        return pool_names(io, "", list_name, &l, err);
}

/* A rename that failed: who holds the name now? 0: me, ret says at which epoch; 1: nobody moved it; else
 * -errno. */
static int claim_judge(rados_ioctx_t io, const char *instance, const struct lease *from,
                       const struct lease *to, struct lease *ret, struct err *err)
{
        struct lease now;
        int r = lease_name_find(io, instance, &now, err);

        if (r == -ENOENT)
                return err_set(err, -ESTALE, "instance %s has no disks any more", instance);
        if (r < 0)
                return r;
        /* Only this host makes names with its number, one operation per instance at a time: an earlier try
         * of this claim. */
        if (now.host == to->host && now.epoch > from->epoch && now.epoch <= to->epoch) {
                *ret = now;
                return 0;
        }
        if (now.epoch == from->epoch && now.host == from->host)
                return 1;
        return err_set(err, -ESTALE, "instance %s is at e%llu.h%u, claimed from e%llu.h%u", instance,
                       (unsigned long long)now.epoch, now.host, (unsigned long long)from->epoch, from->host);
}

/* One rename: 0 won; 1 the new name is occupied by the rest of an earlier crash; else -errno. */
static int claim_try(rados_ioctx_t io, const char *instance, const struct lease *from,
                     const struct lease *to, struct lease *ret, struct err *err)
{
        char old[LEASE_NAME_MAX + 1], new[LEASE_NAME_MAX + 1];
        int renamed, r;

        lease_name_format(instance, from, old);
        lease_name_format(instance, to, new);
        renamed = disk_rename(io, old, new);
        if (renamed == 0) {
                *ret = *to;
                return 0;
        }
        r = claim_judge(io, instance, from, to, ret, err);
        if (r != 1 || renamed == -EEXIST)
                return r;
        return pool_fail(err, renamed, "rename %s to %s", old, new);
}

static int rbd_lease_claim(struct store *s, const char *instance, const struct lease *from, unsigned host,
                           struct lease *ret, struct err *err)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        struct lease to = {.epoch = from->epoch, .host = host};
        int r = pool_io(s, &client, &io, err);

        if (r < 0)
                return r;
        r = complete(io, instance, from, err);
        if (r == 0)
                return err_set(err, -ESTALE, "instance %s has no disks yet, or no more", instance);
        for (int i = 0; i < CLAIM_TRIES && r == 1; i++) {
                to.epoch++;
                r = claim_try(io, instance, from, &to, ret, err);
        }
        if (r == 1)
                return err_set(err, -EIO, "instance %s: the next %d epochs are all occupied by left-overs",
                               instance, CLAIM_TRIES);
        return r;
}

/* RBD lets everybody open an image; who may write is the gate's business. Only the recheck of the name is
 * left. */
static int rbd_lease_grant(struct store *s, const char *instance, const struct lease *mine,
                           const struct start *destination _unused_, const struct disk_spec *disks _unused_,
                           size_t n_disks _unused_, struct err *err)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        int r = pool_io(s, &client, &io, err);

        return r < 0 ? r : lease_check(io, instance, mine, err);
}

static int rbd_lease_attach(struct store *s, const char *instance, const struct lease *lease,
                            const struct start *start _unused_, const struct disk_spec *disks,
                            size_t n_disks, struct attach *ret, struct err *err)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        _cleanup_(gate_done) struct gate gate = {0};
        char image[POOL_NAME_MAX];
        int r = pool_io(s, &client, &io, err);

        if (r == 0)
                r = lease_check(io, instance, lease, err);
        if (r == 0)
                r = gate_read(io, instance, &gate, err);
        for (size_t i = 0; i < n_disks && r == 0; i++) {
                ret[i].kind = ATTACH_RBD;
                ret[i].read_only = !gate_writable(&gate, &disks[i]);
                disk_image(instance, lease, disks, i, image);
                r = pool_path(s, image, ret[i].path, sizeof ret[i].path, err);
                if (r == 0)
                        r = pool_monitors(s, ret[i].server, sizeof ret[i].server, err);
        }
        return r;
}

const struct engine_leases rbd_leases = {
    .create = rbd_lease_create,
    .find = rbd_lease_find,
    .list = rbd_lease_list,
    .claim = rbd_lease_claim,
    .fence = rbd_lease_fence,
    .grant = rbd_lease_grant,
    .gate = rbd_lease_gate,
    .attach = rbd_lease_attach,
    .forget = rbd_start_forget,
    .remove = rbd_lease_remove,
};
