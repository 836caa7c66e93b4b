/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Golden images: raw RBD images named golden.<image>.<nonce>, each with a snapshot that clones hang on. What
 * seals one is its entry in the object "golden" (omap: image id -> "<size> <RBD image>"), put there by one
 * atomic operation only where there is none: of two imports of one id one is sealed, and what a crash leaves
 * behind is an RBD image that no entry names. The nonce is needed because an image whose writer was killed
 * cannot be removed for 30 s.
 */
#include <errno.h>
#include <malloc.h>
#include <rbd/librbd.h>
#include <stdlib.h>
#include <string.h>

#include "imaged/store/rbd-engine.h"

#define ENTRY_MAX (POOL_NAME_MAX + 24)

struct rbd_volume {
        struct pool_client *client;
        rados_ioctx_t io;
        rbd_image_t image;
        char name[POOL_NAME_MAX];
};

int golden_find(rados_ioctx_t io, const char *image, char *name, uint64_t *ret_size, struct err *err)
{
        _cleanup_(pool_read_op_donep) rados_read_op_t op = rados_create_read_op();
        _cleanup_(pool_iter_donep) rados_omap_iter_t it = NULL;
        char *key = NULL, *val = NULL, text[ENTRY_MAX + 1];
        size_t n_key, n_val, len = strlen(image);
        unsigned long long size;
        int prval = 0, r;

        rados_read_op_omap_get_vals_by_keys2(op, &image, 1, &len, &it, &prval);
        r = rados_read_op_operate(op, io, POOL_GOLDEN, 0);
        if (r == 0)
                r = prval;
        if (r == 0)
                r = rados_omap_get_next2(it, &key, &val, &n_key, &n_val);
        if (r == 0 && !key)
                r = -ENOENT;
        if (r < 0)
                return pool_fail(err, r, "golden image %s", image);
        snprintf(text, sizeof text, "%.*s", (int)MIN_OF(n_val, ENTRY_MAX), val);
        if (sscanf(text, "%llu %191s", &size, name) != 2)
                return err_set(err, -EIO, "golden image %s: its entry says \"%s\"", image, text);
        *ret_size = size;
        return 0;
}

/* r: what librados said about the entry. The entry names `name` only if it is ours. */
static int golden_add(rados_ioctx_t io, const char *image, const char *name, uint64_t size)
{
        _cleanup_(pool_write_op_donep) rados_write_op_t op = rados_create_write_op();
        char text[ENTRY_MAX + 1], *val = text;
        size_t key_len = strlen(image), val_len;

        val_len = (size_t)snprintf(text, sizeof text, "%llu %s", (unsigned long long)size, name);
        rados_write_op_create(op, LIBRADOS_CREATE_IDEMPOTENT, NULL);
        rados_write_op_omap_cmp2(op, image, LIBRADOS_CMPXATTR_OP_EQ, "", key_len, 0, NULL);
        rados_write_op_omap_set2(op, &image, (const char *const *)&val, &key_len, &val_len, 1);
        return rados_write_op_operate(op, io, POOL_GOLDEN, NULL, 0);
}

/* Takes the entry away, if it still is the one that was read. */
static int golden_drop(rados_ioctx_t io, const char *image, const char *name, uint64_t size)
{
        _cleanup_(pool_write_op_donep) rados_write_op_t op = rados_create_write_op();
        char text[ENTRY_MAX + 1];
        size_t len = strlen(image);

        snprintf(text, sizeof text, "%llu %s", (unsigned long long)size, name);
        rados_write_op_omap_cmp2(op, image, LIBRADOS_CMPXATTR_OP_EQ, text, len, strlen(text), NULL);
        rados_write_op_omap_rm_keys2(op, &image, &len, 1);
        return rados_write_op_operate(op, io, POOL_GOLDEN, NULL, 0);
}

/* 0: nobody uses it; -EBUSY: open somewhere, or disks are copies of it. */
static int golden_unused(rados_ioctx_t io, const char *name, struct err *err)
{
        rbd_image_t image = NULL;
        size_t n = 0;
        int r = disk_watchers(io, name, NULL, NULL, NULL, NULL, NULL, err);

        if (r < 0)
                return r;
        if (r > 0)
                return err_set(err, -EBUSY, "%s is open on %d clients, or was until less than 30 s ago",
                               name, r);
        r = rbd_open_read_only(io, name, &image, NULL);
        if (r < 0)
                return pool_fail(err, r, "open %s", name);
        r = rbd_list_children3(image, NULL, &n);
        rbd_close(image);
        if (r == -ERANGE)
                return err_set(err, -EBUSY, "%s is in use: %zu disks are copies of it", name, n);
        return r < 0 ? pool_fail(err, r, "list the copies of %s", name) : 0;
}

/* Removes the RBD image of a golden image. */
static int golden_remove(rados_ioctx_t io, const char *name, struct err *err)
{
        rbd_image_t image = NULL;
        int r = golden_unused(io, name, err);

        if (r == -ENOENT) /* an earlier removal was cut short */
                return disk_remove(io, name, err);
        if (r < 0)
                return r;
        r = rbd_open(io, name, &image, NULL);
        if (r == 0) {
                r = rbd_snap_remove(image, POOL_SNAP);
                rbd_close(image);
        }
        return r < 0 && r != -ENOENT ? pool_fail(err, r, "remove %s", name) : disk_remove(io, name, err);
}

/* Removes every RBD image of a golden image that no entry names. Returns their number, the last failure in
 * ret_left. */
static int sweep_leftovers(rados_ioctx_t io, const char *image, int *ret_left, struct err *err)
{
        _cleanup_(pool_list_done) struct pool_list list = {0};
        char prefix[POOL_NAME_MAX];
        int r;

        *ret_left = 0;
        snprintf(prefix, sizeof prefix, "golden.%s.", image);
        r = pool_list(io, prefix, &list, err);
        for (size_t i = 0; i < list.n && r == 0; i++) {
                int removed = golden_remove(io, list.image[i].name, err);

                if (removed < 0)
                        *ret_left = removed;
        }
        return r < 0 ? r : (int)list.n;
}

static struct rbd_volume *volume_state_free(struct rbd_volume *rv)
{
        if (!rv)
                return NULL;
        if (rv->image)
                rbd_close(rv->image);
        pool_io_donep(&rv->io);
        pool_client_putp(&rv->client);
        free(rv);
        /* what many pieces at once were kept in, by Ceph too, is free memory of ours by now */
        malloc_trim(0);
        return NULL;
}

static int volume_state_new(struct volume *v, struct rbd_volume **ret, struct err *err)
{
        struct rbd_volume *rv = calloc(1, sizeof *rv);
        int r;

        if (!rv)
                return err_set(err, -ENOMEM, "out of memory");
        r = pool_io(v->store, &rv->client, &rv->io, err);
        if (r < 0)
                volume_state_free(rv);
        else
                *ret = rv;
        return r;
}

static int rbd_volume_create(struct volume *v, struct err *err)
{
        struct rbd_volume *rv = NULL;
        char sealed[POOL_NAME_MAX];
        uint64_t size;
        int left, r = volume_state_new(v, &rv, err);

        if (r < 0)
                return r;
        v->state = rv;
        r = golden_find(rv->io, v->image, sealed, &size, err);
        if (r == 0)
                return err_set(err, -EEXIST, "image %s is sealed already", v->image);
        if (r != -ENOENT)
                return r;
        /* One that resists is still open, or was 30 s ago; it is in nobody's way, as ours has another name.
         */
        r = sweep_leftovers(rv->io, v->image, &left, err);
        if (r < 0)
                return r;
        snprintf(rv->name, sizeof rv->name, "golden.%s.%016llx", v->image, (unsigned long long)random_u64());
        r = disk_create_raw(rv->io, rv->name, v->size);
        if (r == 0)
                r = rbd_open(rv->io, rv->name, &rv->image, NULL);
        return r < 0 ? pool_fail(err, r, "make golden image %s", v->image) : 0;
}

static int rbd_volume_write(struct volume *v, const void *buf, size_t len, uint64_t offset, struct err *err)
{
        struct rbd_volume *rv = v->state;
        rbd_completion_t done = NULL;
        int r = rbd_aio_create_completion(NULL, NULL, &done);

        /* rbd_write() copies buf; this sends it as it is, and is done, also after a time limit, only when
         * nothing refers to it any more. */
        if (r == 0)
                r = rbd_aio_write(rv->image, offset, len, buf, done);
        if (r == 0) {
                rbd_aio_wait_for_complete(done);
                r = (int)rbd_aio_get_return_value(done);
        }
        if (done)
                rbd_aio_release(done);
        return r < 0
                   ? pool_fail(err, r, "write golden image %s at %llu", v->image, (unsigned long long)offset)
                   : 0;
}

static int rbd_volume_resize(struct volume *v, uint64_t size, struct err *err)
{
        struct rbd_volume *rv = v->state;
        int r = rbd_resize(rv->image, size);

        return r < 0 ? pool_fail(err, r, "resize golden image %s", v->image) : 0;
}

/* Does the entry name our image? After a reply that was lost, and for a repeated seal. */
static bool sealed_is_mine(const struct rbd_volume *rv, const char *image)
{
        char name[POOL_NAME_MAX];
        uint64_t size;

        return golden_find(rv->io, image, name, &size, NULL) == 0 && streq(name, rv->name);
}

static int volume_reopen(struct rbd_volume *rv, const char *image, struct err *err)
{
        int r = rbd_open_read_only(rv->io, rv->name, &rv->image, POOL_SNAP);

        if (r < 0)
                rv->image = NULL;
        return r < 0 ? pool_fail(err, r, "open golden image %s", image) : 0;
}

static int rbd_volume_seal(struct volume *v, struct err *err)
{
        struct rbd_volume *rv = v->state;
        int r;

        if (!rv->image) /* asked again: all was done but this */
                return volume_reopen(rv, v->image, err);
        r = rbd_flush(rv->image);
        if (r == 0) {
                r = rbd_snap_create(rv->image, POOL_SNAP);
                r = r == -EEXIST ? 0 : r;
        }
        if (r < 0)
                return pool_fail(err, r, "seal golden image %s", v->image);
        r = golden_add(rv->io, v->image, rv->name, v->size);
        if ((r == -ECANCELED || r == -ETIMEDOUT) && sealed_is_mine(rv, v->image))
                r = 0;
        if (r == -ECANCELED)
                return err_set(err, -EEXIST, "image %s was sealed by another", v->image);
        if (r < 0)
                return pool_fail(err, r, "seal golden image %s", v->image);
        /* From here on it reads, and as every reader without a watch, which would stand in the way of a
         * removal. */
        rbd_close(rv->image);
        rv->image = NULL;
        return volume_reopen(rv, v->image, err);
}

static int rbd_volume_open(struct volume *v, struct err *err)
{
        struct rbd_volume *rv = NULL;
        int r = volume_state_new(v, &rv, err);

        if (r < 0)
                return r;
        v->state = rv;
        v->sealed = true;
        r = golden_find(rv->io, v->image, rv->name, &v->size, err);
        if (r < 0)
                return r;
        r = rbd_open_read_only(rv->io, rv->name, &rv->image, POOL_SNAP);
        return r < 0 ? pool_fail(err, r, "open golden image %s", v->image) : 0;
}

/*
 * A crash may have left more than one; any will do, as who goes on compares what it holds. The other's watch
 * does not hinder, and ours keeps others from removing it.
 */
static int rbd_volume_resume(struct volume *v, bool take_it, struct err *err)
{
        _cleanup_(pool_list_done) struct pool_list list = {0};
        char prefix[POOL_NAME_MAX], sealed[POOL_NAME_MAX];
        struct rbd_volume *rv = NULL;
        int r = volume_state_new(v, &rv, err);

        if (r < 0)
                return r;
        v->state = rv;
        v->sealed = !take_it;
        r = golden_find(rv->io, v->image, sealed, &v->size, err);
        if (r == 0)
                return err_set(err, -ENOENT, "image %s is sealed", v->image);
        snprintf(prefix, sizeof prefix, "golden.%s.", v->image);
        if (r == -ENOENT)
                r = pool_list(rv->io, prefix, &list, err);
        if (r == 0 && list.n == 0)
                r = err_set(err, -ENOENT, "image %s: nothing was left of it", v->image);
        if (r < 0)
                return r;
        snprintf(rv->name, sizeof rv->name, "%s", list.image[list.n - 1].name);
        r = take_it ? rbd_open(rv->io, rv->name, &rv->image, NULL)
                    : rbd_open_read_only(rv->io, rv->name, &rv->image, NULL);
        if (r < 0)
                rv->image = NULL;
        else
                r = rbd_get_size(rv->image, &v->size);
        return r < 0 ? pool_fail(err, r, "open golden image %s", v->image) : 0;
}

static int rbd_volume_read(struct volume *v, void *buf, size_t len, uint64_t offset, struct err *err)
{
        struct rbd_volume *rv = v->state;
        ssize_t n;

        for (size_t done = 0; done < len; done += (size_t)n) {
                n = rbd_read(rv->image, offset + done, len - done, (char *)buf + done);
                if (n == 0)
                        n = -EIO;
                if (n < 0)
                        return pool_fail(err, (int)n, "read golden image %s at %llu", v->image,
                                         (unsigned long long)(offset + done));
        }
        return 0;
}

static void rbd_volume_close(struct volume *v)
{
        struct rbd_volume *rv = v->state;

        if (!rv)
                return;
        if (!v->sealed && !v->left && rv->image) {
                /* A seal whose last step failed may have made the entry after all. */
                bool mine;

                rbd_close(rv->image);
                rv->image = NULL;
                mine = sealed_is_mine(rv, v->image);
                if (!mine)
                        (void)golden_remove(rv->io, rv->name, NULL);
        }
        v->state = volume_state_free(rv);
}

static int rbd_volume_remove(struct store *s, const char *image, struct err *err)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        char name[POOL_NAME_MAX];
        uint64_t size;
        int left, n, r = pool_io(s, &client, &io, err);

        if (r < 0)
                return r;
        r = golden_find(io, image, name, &size, err);
        if (r == 0) {
                r = golden_unused(io, name, err);
                if (r < 0 && r != -ENOENT)
                        return r;
                r = golden_drop(io, image, name, size);
                if (r < 0 && r != -ECANCELED)
                        return pool_fail(err, r, "remove golden image %s", image);
        } else if (r != -ENOENT) {
                return r;
        }
        n = sweep_leftovers(io, image, &left, err);
        if (n < 0)
                return n;
        return left < 0 ? left : n == 0 ? err_set(err, -ENOENT, "there is no image %s", image) : 0;
}

static int rbd_volume_attach(struct store *s, const char *image, struct attach *ret, struct err *err)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        char name[POOL_NAME_MAX];
        uint64_t size;
        int r = pool_io(s, &client, &io, err);

        if (r == 0)
                r = golden_find(io, image, name, &size, err);
        if (r == 0)
                r = pool_path(s, name, ret->path, sizeof ret->path, err);
        if (r == 0)
                r = pool_monitors(s, ret->server, sizeof ret->server, err);
        ret->kind = ATTACH_RBD;
        ret->read_only = true;
        return r;
}

/* As OpenStack's services write it, which know no RBD namespaces. */
static int rbd_volume_location(struct store *s, const char *image, char **ret, struct err *err)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        char name[POOL_NAME_MAX], fsid[64];
        uint64_t size;
        int r;

        if (pool_of(s)->ns[0])
                return err_set(err, -EOPNOTSUPP, "%s: a location cannot name an RBD namespace", s->url);
        r = pool_io(s, &client, &io, err);
        if (r == 0)
                r = golden_find(io, image, name, &size, err);
        if (r < 0)
                return r;
        r = rados_cluster_fsid(client->cluster, fsid, sizeof fsid);
        if (r < 0)
                return pool_fail(err, r, "ask for the cluster's id");
        *ret = str_printf("rbd://%s/%s/%s/" POOL_SNAP, fsid, pool_of(s)->name, name);
        return *ret ? 0 : -ENOMEM;
}

const struct engine_volumes rbd_volumes = {
    .create = rbd_volume_create,
    .write = rbd_volume_write,
    .resize = rbd_volume_resize,
    .seal = rbd_volume_seal,
    .open = rbd_volume_open,
    .resume = rbd_volume_resume,
    .read = rbd_volume_read,
    .close = rbd_volume_close,
    .remove = rbd_volume_remove,
    .attach = rbd_volume_attach,
    .location = rbd_volume_location,
};
