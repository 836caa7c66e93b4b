/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An instance's disk for reading: librbd gives the guest's bytes, those of the golden image below included.
 * Opened read-only it has no watch, so it stands in nobody's way.
 */
#include <errno.h>
#include <rbd/librbd.h>
#include <stdio.h>
#include <stdlib.h>

#include "imaged/store/rbd-engine.h"

static int rbd_disk_open(struct disk_reader *d, const struct lease *lease, const struct disk_spec *disk,
                         struct err *err)
{
        struct pool_reading *reading = calloc(1, sizeof *reading);
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
        char what[128];

        snprintf(what, sizeof what, "disk of instance %s", d->instance);
        return pool_reading_read(d->state, what, buf, len, offset, err);
}

static void rbd_disk_close(struct disk_reader *d)
{
        if (d->state)
                pool_reading_close(d->state);
        free(d->state);
}

const struct engine_disks rbd_disks = {
    .open = rbd_disk_open,
    .read = rbd_disk_read,
    .close = rbd_disk_close,
};
