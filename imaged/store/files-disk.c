/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/files.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"

/* An instance's disk for reading. The file stays the same when its folder is renamed: who owns the name is
 * for the caller to look at. */
struct reading {
        struct fs_file *file;
};

static int open_at(struct disk_reader *d, const char *path, const struct disk_spec *disk, struct err *err)
{
        struct files *f = files_of(d->store);
        _cleanup_(freep) struct reading *reading = calloc(1, sizeof(*reading));
        int r;

        if (!reading)
                return err_set(err, -ENOMEM, "instance %s: out of memory", d->instance);
        r = f->fs->file->open(f->fs, path, false, &reading->file, &d->size, err);
        if (r < 0)
                return r;
        d->qcow2 = true;
        if (disk->image)
                files_backing_name(disk->image, d->backing, sizeof(d->backing));
        d->state = take(reading);
        return 0;
}

static void path_of(const struct disk_reader *d, const struct lease *lease, const struct disk_spec *disk,
                    char ret[FILES_PATH_MAX + 24])
{
        char folder[FILES_PATH_MAX], name[24];

        files_lease_path(d->instance, lease, folder);
        files_disk_name(disk, name);
        snprintf(ret, FILES_PATH_MAX + 24, "%s/%s", folder, name);
}

static int fail(const struct disk_reader *d, const struct lease *lease, int r, struct err *err)
{
        if (r == -ENOENT)
                return err_set(err, -ESTALE, "instance %s: epoch %" PRIu64 " of host %u has passed",
                               d->instance, lease->epoch, lease->host);
        return r < 0 ? err_wrap(err, r, "instance %s", d->instance) : r;
}

static int disk_open_dir(struct disk_reader *d, const struct lease *lease, const struct disk_spec *disk,
                         struct err *err)
{
        char path[FILES_PATH_MAX + 24];
        int r;

        path_of(d, lease, disk, path);
        r = files_unwritten_dir(d->store, path, err);
        if (r == 0)
                r = open_at(d, path, disk, err);
        return fail(d, lease, r, err);
}

static int disk_read(struct disk_reader *d, void *buf, size_t len, uint64_t offset, struct err *err)
{
        const struct reading *reading = d->state;
        int r = files_of(d->store)->fs->file->read(reading->file, buf, len, offset, err);

        return r < 0 ? err_wrap(err, r, "instance %s", d->instance) : 0;
}

static void disk_close(struct disk_reader *d)
{
        struct reading *reading = d->state;

        if (!reading)
                return;
        files_of(d->store)->fs->file->close(reading->file);
        free(reading);
}

const struct engine_disks files_disks_dir = {
    .open = disk_open_dir,
    .read = disk_read,
    .close = disk_close,
};

#ifdef HAVE_NFS
static int disk_open_nfs(struct disk_reader *d, const struct lease *lease, const struct disk_spec *disk,
                         struct err *err)
{
        char path[FILES_PATH_MAX + 24];

        path_of(d, lease, disk, path);
        return fail(d, lease, open_at(d, path, disk, err), err);
}

const struct engine_disks files_disks_nfs = {
    .open = disk_open_nfs,
    .read = disk_read,
    .close = disk_close,
};
#endif
