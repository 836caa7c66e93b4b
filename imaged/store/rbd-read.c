/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An instance's disk for reading: librbd gives the guest's bytes, those of the golden image below included.
 * Opened read-only it has no watch, so it stands in nobody's way.
 */
#include <errno.h>
#include <rbd/librbd.h>
#include <stdlib.h>

#include "imaged/store/rbd-engine.h"

struct reading {
        struct pool_client *client;
        rados_ioctx_t io;
        rbd_image_t image;
};

static int rbd_disk_open(struct disk_reader *d, const struct lease *lease, const struct disk_spec *disk,
                         struct err *err)
{
        struct reading *reading = calloc(1, sizeof *reading);
        char name[POOL_NAME_MAX];
        int r;

        if (!reading)
                return err_set(err, -ENOMEM, "out of memory");
        d->state = reading;
        r = pool_io(d->store, &reading->client, &reading->io, err);
        if (r == 0) /* a name that a cut-off rename has left may still resolve */
                r = lease_look(reading->io, d->instance, lease, err);
        if (r < 0)
                return r;
        disk_image(d->instance, lease, disk, 0, name);
        r = rbd_open_read_only(reading->io, name, &reading->image, NULL);
        if (r < 0)
                reading->image = NULL;
        else
                r = rbd_get_size(reading->image, &d->size);
        if (r == -ENOENT)
                return err_set(err, -ESTALE, "instance %s is no longer at e%llu.h%u", d->instance,
                               (unsigned long long)lease->epoch, lease->host);
        return r < 0 ? pool_fail(err, r, "open %s", name) : 0;
}

static int rbd_disk_read(struct disk_reader *d, void *buf, size_t len, uint64_t offset, struct err *err)
{
        const struct reading *reading = d->state;
        ssize_t n;

        for (size_t done = 0; done < len; done += (size_t)n) {
                n = rbd_read(reading->image, offset + done, len - done, (char *)buf + done);
                if (n == 0)
                        n = -EIO;
                if (n < 0)
                        return pool_fail(err, (int)n, "read the disk of instance %s at %llu", d->instance,
                                         (unsigned long long)(offset + done));
        }
        return 0;
}

static void rbd_disk_close(struct disk_reader *d)
{
        struct reading *reading = d->state;

        if (!reading)
                return;
        if (reading->image)
                rbd_close(reading->image);
        pool_io_donep(&reading->io);
        pool_client_putp(&reading->client);
        free(reading);
}

const struct engine_disks rbd_disks = {
    .open = rbd_disk_open,
    .read = rbd_disk_read,
    .close = rbd_disk_close,
};
