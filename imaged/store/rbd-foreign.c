/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RBD images of others. Opened read-only, so that there is no watch of ours and nothing is written to them,
 * not even the time of this access (rbd-engine.c).
 *
 * A snapshot cannot change; it can be removed, and its id does not come back. An image itself is still while
 * nobody has it open for writing: whoever has, librbd or the kernel, watches its header. A writer that came
 * and went between two looks is found by librbd's time of the last write, which it notes once a minute.
 */
#include <errno.h>
#include <rbd/librbd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "imaged/store/rbd-engine.h"

#define WINDOW ((uint64_t)1 << 30) /* which data there is is asked for at once for so many bytes */
#define CELL ((uint64_t)4 << 20)

/* What an image or a snapshot has to be when it is opened again. */
struct identity {
        char id[64];
        uint64_t size, snap;
        struct timespec written;
};

struct reading {
        struct foreign_rbd name;
        struct pool_reading open;
        struct identity was;
        uint64_t window; /* where it begins; UINT64_MAX: none was asked for */
        bool data[WINDOW / CELL];
};

static int pool_open(struct foreign *f, struct reading *reading, struct err *err)
{
        const struct foreign_rbd *n = &reading->name;
        int r;

        if (!n->pool[0])
                return pool_io(f->store, &reading->open.client, &reading->open.io, err);
        r = pool_client_get(f->store, &reading->open.client, err);
        if (r < 0)
                return r;
        r = rados_ioctx_create(reading->open.client->cluster, n->pool, &reading->open.io);
        if (r < 0) {
                reading->open.io = NULL;
                return pool_fail(err, r, "volume %s: pool %s", f->name, n->pool);
        }
        rados_ioctx_set_namespace(reading->open.io, n->ns);
        return 0;
}

static int image_open_again(const struct reading *reading, rbd_image_t *ret, struct identity *ret_identity)
{
        const struct foreign_rbd *n = &reading->name;
        struct identity i = {};
        rbd_image_t image;
        int r = rbd_open_read_only(reading->open.io, n->image, &image, n->snap[0] ? n->snap : NULL);

        if (r < 0)
                return r;
        r = rbd_get_id(image, i.id, sizeof i.id);
        if (r == 0)
                r = rbd_get_size(image, &i.size);
        if (r == 0 && n->snap[0])
                r = rbd_snap_get_id(image, n->snap, &i.snap);
        if (r == 0 && !n->snap[0])
                r = rbd_get_modify_timestamp(image, &i.written);
        if (r < 0) {
                rbd_close(image);
                return r;
        }
        *ret = image;
        *ret_identity = i;
        return 0;
}

/* 0: nobody has it open for writing. */
static int unwatched(struct foreign *f, struct err *err)
{
        const struct reading *reading = f->state;
        rbd_image_watcher_t one[1];
        char who[128] = "several clients";
        size_t n = ARRAY_SIZE(one);
        int r;

        if (reading->name.snap[0])
                return 0;
        r = rbd_watchers_list(reading->open.image, one, &n);
        if (r < 0 && r != -ERANGE)
                return pool_fail(err, r, "volume %s: list its watchers", f->name);
        if (r == 0 && n == 0)
                return 0;
        if (r == 0) {
                snprintf(who, sizeof who, "%s", one[0].addr);
                rbd_watchers_list_cleanup(one, n);
        }
        return err_set(
            err, -EBUSY,
            "volume %s is open for writing (%s), or was until less than 30 s ago: name a snapshot "
            "of it, as %s@SNAPSHOT",
            f->name, who, f->name);
}

static int rbd_foreign_open(struct foreign *f, struct err *err)
{
        struct reading *reading = calloc(1, sizeof *reading);
        int r;

        if (!reading)
                return err_set(err, -ENOMEM, "out of memory");
        f->state = reading;
        reading->window = UINT64_MAX;
        r = foreign_rbd_parse(f->name, &reading->name, err);
        if (r == 0)
                r = pool_open(f, reading, err);
        if (r < 0)
                return r;
        r = image_open_again(reading, &reading->open.image, &reading->was);
        if (r == -EPERM || r == -EACCES)
                return err_set(
                    err, -EACCES,
                    "volume %s: Ceph refuses it; the server's Ceph user has to be allowed to read "
                    "the pool, as by osd 'profile rbd-read-only pool=%s' (and be restarted then)",
                    f->name, reading->name.pool[0] ? reading->name.pool : "POOL");
        if (r == -ENOENT)
                return err_set(err, r, "there is no RBD image or snapshot %s", f->name);
        if (r < 0)
                return pool_fail(err, r, "volume %s", f->name);
        f->size = reading->was.size;
        if (f->size == 0)
                return err_set(err, -EINVAL, "volume %s is empty", f->name);
        return unwatched(f, err);
}

static int rbd_foreign_read(struct foreign *f, void *buf, size_t len, uint64_t offset, struct err *err)
{
        const struct reading *reading = f->state;
        char what[FOREIGN_RBD_MAX * 4 + 16];

        snprintf(what, sizeof what, "volume %s", f->name);
        return pool_reading_read(&reading->open, what, buf, len, offset, err);
}

static int mark(uint64_t offset, size_t len, int exists, void *arg)
{
        struct reading *reading = arg;
        uint64_t from = offset - reading->window, end = from + len;

        for (uint64_t i = from / CELL; exists && i * CELL < end && i < WINDOW / CELL; i++)
                reading->data[i] = true;
        return 0;
}

/* Objects that are not there, neither the image's own nor its parents'. */
static uint64_t rbd_foreign_hole(struct foreign *f, uint64_t offset)
{
        struct reading *reading = f->state;
        uint64_t i;

        if (reading->window != offset / WINDOW * WINDOW) {
                uint64_t at = offset / WINDOW * WINDOW;

                reading->window = at;
                memset(reading->data, 0, sizeof reading->data);
                if (rbd_diff_iterate2(reading->open.image, NULL, at, MIN_OF(WINDOW, f->size - at), 1, 1,
                                      mark, reading) < 0)
                        memset(reading->data, 1, sizeof reading->data); /* not known: then it is read */
        }
        for (i = (offset - reading->window) / CELL; i < WINDOW / CELL && !reading->data[i]; i++)
                ;
        return reading->window + i * CELL > offset ? reading->window + i * CELL - offset : 0;
}

static int rbd_foreign_unchanged(struct foreign *f, struct err *err)
{
        const struct reading *reading = f->state;
        const struct identity *was = &reading->was;
        struct identity now;
        rbd_image_t image;
        int r = image_open_again(reading, &image, &now);

        if (r == 0)
                rbd_close(image);
        if (r == -ENOENT || (r == 0 && (strcmp(now.id, was->id) != 0 || now.snap != was->snap)))
                return err_set(err, -ESTALE, "volume %s was removed or renamed while it was read", f->name);
        if (r < 0)
                return pool_fail(err, r, "volume %s", f->name);
        if (now.size != was->size || now.written.tv_sec != was->written.tv_sec ||
            now.written.tv_nsec != was->written.tv_nsec)
                return err_set(err, -ESTALE,
                               "volume %s was changed while it was read (it had %llu bytes, it has %llu): "
                               "name a snapshot of it, as %s@SNAPSHOT",
                               f->name, (unsigned long long)was->size, (unsigned long long)now.size,
                               f->name);
        return unwatched(f, err);
}

static void rbd_foreign_close(struct foreign *f)
{
        struct reading *reading = f->state;

        if (!reading)
                return;
        pool_reading_close(&reading->open);
        free(reading);
}

const struct engine_foreign rbd_foreign = {
    .open = rbd_foreign_open,
    .read = rbd_foreign_read,
    .hole = rbd_foreign_hole,
    .unchanged = rbd_foreign_unchanged,
    .close = rbd_foreign_close,
};
