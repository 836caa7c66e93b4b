/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/engine.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "imaged/store/store-call.h"

int disk_reader_open(struct store *s, const char *instance, const struct lease *lease,
                     const struct disk_spec *disk, struct disk_reader **ret, struct err *err)
{
        struct disk_reader *d;
        int r;

        if (!store_id_valid(instance) || !disk->name || (disk->image && !store_id_valid(disk->image)))
                return err_set(err, -EINVAL,
                               "instance id \"%.80s\": it, its disk's or its image's is not valid",
                               instance ? instance : "");
        if (!s->engine->disks)
                return err_set(err, -EOPNOTSUPP, "%s: the engine's disks cannot be read", s->url);
        d = calloc(1, sizeof(*d));
        if (!d)
                return err_set(err, -ENOMEM, "instance %s: out of memory", instance);
        d->store = s;
        strcpy(d->instance, instance); /* its length was checked */
        r = ENGINE_CALL(err, s->engine->disks->open(d, lease, disk, &own));
        if (r < 0) {
                disk_reader_close(d);
                return r;
        }
        *ret = d;
        return 0;
}

uint64_t disk_reader_size(const struct disk_reader *d)
{
        return d->size;
}

bool disk_reader_qcow2(const struct disk_reader *d, const char **ret_backing)
{
        *ret_backing = d->backing[0] ? d->backing : NULL;
        return d->qcow2;
}

int disk_reader_read(struct disk_reader *d, void *buf, size_t len, uint64_t offset, struct err *err)
{
        if (offset > d->size || len > d->size - offset)
                return err_set(err, -EINVAL,
                               "instance %s: %zu bytes at %" PRIu64 " lie beyond its disk's end at %" PRIu64,
                               d->instance, len, offset, d->size);
        return len == 0 ? 0 : ENGINE_CALL(err, d->store->engine->disks->read(d, buf, len, offset, &own));
}

struct disk_reader *disk_reader_close(struct disk_reader *d)
{
        if (!d)
                return NULL;
        d->store->engine->disks->close(d);
        free(d);
        return NULL;
}
