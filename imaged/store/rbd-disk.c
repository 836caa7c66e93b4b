/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RBD images of instances. They have the features layering and deep-flatten. Deep-flatten needs no lock and
 * cannot be added to an image later; disks of older versions do without. Never exclusive-lock, or what needs
 * it: librbd then waits 10 to 27 s for the watch of a dead QEMU.
 */
#include <errno.h>
#include <rbd/librbd.h>
#include <stdlib.h>
#include <string.h>

#include "imaged/store/rbd-gate.h"

#define WATCHERS_MAX 64

static void image_closep(rbd_image_t *image)
{
        if (*image)
                rbd_close(*image);
        *image = NULL;
}

void disk_image(const char *instance, const struct lease *lease, const struct disk_spec *disks, size_t i,
                char ret[POOL_NAME_MAX])
{
        if (i == 0) {
                char name[LEASE_NAME_MAX + 1];

                lease_name_format(instance, lease, name);
                snprintf(ret, POOL_NAME_MAX, "%s", name);
        } else {
                snprintf(ret, POOL_NAME_MAX, "%s.%s", instance, disks[i].name);
        }
}

#define DISK_FEATURES (RBD_FEATURE_LAYERING | RBD_FEATURE_DEEP_FLATTEN)

static int image_options(rbd_image_options_t *ret)
{
        int r;

        rbd_image_options_create(ret);
        r = rbd_image_options_set_uint64(*ret, RBD_IMAGE_OPTION_FEATURES, DISK_FEATURES);
        if (r == 0)
                r = rbd_image_options_set_uint64(*ret, RBD_IMAGE_OPTION_ORDER, 22);
        return r;
}

static void image_options_donep(rbd_image_options_t *opts)
{
        if (*opts)
                rbd_image_options_destroy(*opts);
}

int disk_create_raw(rados_ioctx_t io, const char *name, uint64_t size)
{
        _cleanup_(image_options_donep) rbd_image_options_t opts = NULL;
        int r = image_options(&opts);

        if (r == 0)
                r = rbd_image_options_set_uint64(opts, RBD_IMAGE_OPTION_FORMAT, 2);
        return r < 0 ? r : rbd_create4(io, name, size, opts);
}

/*
 * Gives a fresh clone that nobody has opened yet its size by the one operation on its header that a resize
 * comes down to (class "rbd", method "set_size"). rbd_resize() would need the image open: a watch, a dozen
 * round trips, half as much again as the clone itself.
 */
static int fresh_set_size(rados_ioctx_t io, const char *id, uint64_t size)
{
        char oid[POOL_NAME_MAX], bytes[8], out[8];
        int n;

        snprintf(oid, sizeof oid, "rbd_header.%s", id);
        for (size_t i = 0; i < 8; i++)
                bytes[i] = (char)(size >> (8 * i));
        n = rados_exec(io, oid, "rbd", "set_size", bytes, sizeof bytes, out, sizeof out);
        return n < 0 ? n : 0;
}

int disk_grow_made(rados_ioctx_t io, const char *name, uint64_t size)
{
        char oid[POOL_NAME_MAX], id[128];
        int n;

        snprintf(oid, sizeof oid, "rbd_id.%s", name);
        n = rados_read(io, oid, id, sizeof id - 1, 0);
        if (n < 0)
                return n;
        if (n <= 4)
                return -EIO;
        id[n] = '\0';
        return fresh_set_size(io, id + 4, size); /* behind the 4 bytes of its length */
}

/* Method "get_size": in, the snapshot (8 bytes; -2: none); out, 1 byte of order and 8 of size. */
int disk_grow(rados_ioctx_t io, const char *id, uint64_t size)
{
        char oid[POOL_NAME_MAX], head[8] = "\xfe\xff\xff\xff\xff\xff\xff", out[9] = "";
        uint64_t now = 0;
        int n;

        head[7] = '\xff';
        snprintf(oid, sizeof oid, "rbd_header.%s", id);
        n = rados_exec(io, oid, "rbd", "get_size", head, sizeof head, out, sizeof out);
        if (n < 0)
                return n;
        for (size_t i = 0; i < 8; i++)
                now |= (uint64_t)(unsigned char)out[1 + i] << (8 * i);
        return now >= size ? 0 : fresh_set_size(io, id, size);
}

static int disk_clone(rados_ioctx_t io, const char *name, const struct disk_spec *spec,
                      const struct golden *golden, struct err *err)
{
        _cleanup_(image_options_donep) rbd_image_options_t opts = NULL;
        int r;

        if (spec->size < golden->size)
                return err_set(err, -EINVAL, "disk %s has %llu bytes, image %s needs %llu", spec->name,
                               (unsigned long long)spec->size, spec->image,
                               (unsigned long long)golden->size);
        r = image_options(&opts);
        if (r == 0)
                r = rbd_image_options_set_uint64(opts, RBD_IMAGE_OPTION_CLONE_FORMAT, 2);
        if (r == 0)
                r = rbd_clone3(io, golden->name, POOL_SNAP, io, name, opts);
        return r < 0 ? pool_fail(err, r, "clone image %s as %s", spec->image, name) : 0;
}

static int disk_fill(rados_ioctx_t io, const char *name, const struct disk_spec *spec, struct err *err)
{
        _cleanup_(image_closep) rbd_image_t image = NULL;
        uint64_t size = ((uint64_t)spec->n_content + 511) / 512 * 512;
        ssize_t n;
        int r = disk_create_raw(io, name, MAX_OF(size, 512));

        if (r == 0)
                r = rbd_open(io, name, &image, NULL);
        if (r == 0 && spec->n_content > 0) {
                n = rbd_write(image, 0, spec->n_content, spec->content);
                r = n < 0 ? (int)n : rbd_flush(image);
        }
        return r < 0 ? pool_fail(err, r, "write %s", name) : 0;
}

int disk_make(rados_ioctx_t io, const char *name, const struct disk_spec *spec, const struct golden *golden,
              struct err *err)
{
        int r;

        if (spec->content)
                return disk_fill(io, name, spec, err);
        if (spec->image)
                return disk_clone(io, name, spec, golden, err);
        r = disk_create_raw(io, name, spec->size);
        return r < 0 ? pool_fail(err, r, "make %s", name) : 0;
}

int disk_remove(rados_ioctx_t io, const char *name, struct err *err)
{
        int r = rbd_remove(io, name);

        if (r == -EBUSY)
                return err_set(err, r, "%s is still open somewhere, or was until less than 30 s ago", name);
        return r < 0 && r != -ENOENT ? pool_fail(err, r, "remove %s", name) : 0;
}

int disk_name_remove(rados_ioctx_t io, const char *name)
{
        char oid[POOL_NAME_MAX + 8];
        int r;

        snprintf(oid, sizeof oid, "rbd_id.%s", name);
        r = rados_remove(io, oid);
        return r == -ENOENT ? 0 : r;
}

/* Ceph's encoding of a string: 4 bytes of length, little endian, then the text. */
static size_t put_string(char *at, const char *text)
{
        size_t n = strlen(text);

        for (size_t i = 0; i < 4; i++)
                at[i] = (char)(n >> (8 * i));
        memcpy(at + 4, text, n);
        return n + 4;
}

/* The one step that decides: {old, id} becomes {new, id} in the directory, or nothing happens. */
static rados_write_op_t directory_rename_op(const char *old, const char *new, const char *id)
{
        rados_write_op_t op = rados_create_write_op();
        char in[2 * POOL_NAME_MAX + 128 + 12];
        size_t n = put_string(in, old);

        n += put_string(in + n, new);
        n += put_string(in + n, id);
        rados_write_op_exec(op, "rbd", "dir_rename_image", in, n, NULL);
        return op;
}

/* The name's own object, which says the image's id; exclusive: only where there is none. */
static rados_write_op_t name_op(const char *id, bool exclusive)
{
        rados_write_op_t op = rados_create_write_op();
        char bytes[132];
        size_t len = put_string(bytes, id);

        if (exclusive)
                rados_write_op_create(op, LIBRADOS_CREATE_EXCLUSIVE, NULL);
        rados_write_op_write_full(op, bytes, len);
        return op;
}

int disk_name_mend(rados_ioctx_t io, const char *name, const char *id)
{
        _cleanup_(pool_write_op_donep) rados_write_op_t op = name_op(id, false);
        char oid[POOL_NAME_MAX + 8];

        snprintf(oid, sizeof oid, "rbd_id.%s", name);
        return rados_write_op_operate(op, io, oid, NULL, 0);
}

/* The name says the same image: an earlier try of this rename that was cut off, or at the same time one of
 * another host with my number. Both want the object as it is. */
static bool is_begun(rados_ioctx_t io, const char *oid, const char *id)
{
        char there[132], bytes[132];
        size_t len = put_string(bytes, id);

        return rados_read(io, oid, there, sizeof there, 0) == (int)len && memcmp(there, bytes, len) == 0;
}

/*
 * The steps of librbd's rename, but with `old` taken at its word. rbd_rename() in 16.2 and later looks up
 * what the image is called now and renames it from there: an old name that still resolves, because whoever
 * renamed it is just about to remove it or crashed before that, would steal the image from its new owner.
 * Here only the directory's atomic step decides, on the name that the caller knows. The new name's own
 * object says nothing about that, so it is written at the same time.
 */
int disk_rename(rados_ioctx_t io, const char *id, const char *old, const char *new, bool *ret_occupied,
                struct pool_op *later)
{
        _cleanup_(pool_op_done) struct pool_op name = {.write = name_op(id, true)};
        _cleanup_(pool_op_done) struct pool_op entry = {.write = directory_rename_op(old, new, id)};
        char old_oid[POOL_NAME_MAX + 8], new_oid[POOL_NAME_MAX + 8];
        int r, named;

        snprintf(old_oid, sizeof old_oid, "rbd_id.%s", old);
        snprintf(new_oid, sizeof new_oid, "rbd_id.%s", new);
        pool_op_begin(&name, io, new_oid);
        pool_op_begin(&entry, io, RBD_DIRECTORY);
        named = pool_op_wait(&name);
        r = pool_op_wait(&entry);
        *ret_occupied = named == -EEXIST && !is_begun(io, new_oid, id);
        if (r == -ENOENT || r == -ESTALE)
                return -ENOENT;
        if (r < 0)
                return r == -EEXIST ? -EIO : r;
        if (named < 0 && named != -EEXIST)
                return 1;
        /* Should it stay, it is a name that decides nothing. */
        later->write = rados_create_write_op();
        rados_write_op_remove(later->write);
        pool_op_begin(later, io, old_oid);
        return 0;
}

/* Whether client "1.2.3.4:0/99" comes from "1.2.3.4". */
static bool comes_from(const char *client, const char *address)
{
        const char *colon = strrchr(client, ':');
        size_t n = colon ? (size_t)(colon - client) : strlen(client), len = strlen(address);

        if (n >= 2 && client[0] == '[' && address[0] != '[') { /* IPv6 */
                client++;
                n -= 2;
        }
        return n == len && strncmp(client, address, n) == 0;
}

int disk_watchers(rados_ioctx_t io, const char *name, const char *id, const char *address, const char *but,
                  disk_watcher_cb cb, void *arg, struct err *err)
{
        _cleanup_(image_closep) rbd_image_t image = NULL;
        rbd_image_watcher_t watchers[WATCHERS_MAX];
        size_t n = WATCHERS_MAX;
        int found = 0, r;

        /* Read-only: that leaves no watch of its own. */
        r = id ? rbd_open_by_id_read_only(io, id, &image, NULL) : rbd_open_read_only(io, name, &image, NULL);
        if (r == 0)
                r = rbd_watchers_list(image, watchers, &n);
        if (r < 0)
                return pool_fail(err, r, "list who has %s open", name);
        for (size_t i = 0; i < n && r >= 0; i++) {
                if (streq(watchers[i].addr, but) || (address && !comes_from(watchers[i].addr, address)))
                        continue;
                found++;
                r = cb ? cb(arg, watchers[i].addr) : 0;
        }
        rbd_watchers_list_cleanup(watchers, n);
        return r < 0 ? r : found;
}
