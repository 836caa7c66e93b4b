/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files in the store's folder "import". A folder of its own, because a list of what else lies in the store's
 * root could not be complete for ever; a file gets there by mv or ln, without being copied.
 */
#include "imaged/store/files.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"

struct reading {
        struct fs_file *file;
        struct fs_attr attr; /* as it was opened */
};

static void path_of(const struct foreign *f, char ret[FILES_PATH_MAX])
{
        snprintf(ret, FILES_PATH_MAX, FILES_IMPORT "/%s", f->name);
}

static int foreign_open_files(struct foreign *f, struct err *err)
{
        struct fs *fs = files_of(f->store)->fs;
        struct reading *reading;
        char path[FILES_PATH_MAX];
        int r = foreign_path_check(f->name, err);

        if (r < 0)
                return r;
        path_of(f, path);
        f->state = reading = calloc(1, sizeof(*reading));
        if (!reading)
                return err_set(err, -ENOMEM, "volume %s: out of memory", f->name);
        r = fs->file->open_import(fs, path, &reading->file, &reading->attr, err);
        if (r == -ENOENT)
                return err_set(err, r, "there is no file \"%s\" in the store's folder \"" FILES_IMPORT "\"",
                               f->name);
        if (r == -ELOOP || r == -ENOTDIR)
                return err_set(err, -EINVAL, "volume \"%s\": a step of its path is a link, or no folder",
                               f->name);
        if (r < 0)
                return r;
        f->size = reading->attr.size;
        return f->size > 0 ? 0 : err_set(err, -EINVAL, "volume \"%s\" is empty", f->name);
}

static int foreign_read_files(struct foreign *f, void *buf, size_t len, uint64_t offset, struct err *err)
{
        const struct reading *reading = f->state;
        int r = files_of(f->store)->fs->file->read(reading->file, buf, len, offset, err);

        return r < 0 ? err_wrap(err, r, "volume %s", f->name) : 0;
}

static uint64_t foreign_hole_files(struct foreign *f, uint64_t offset)
{
        const struct reading *reading = f->state;
        const struct fs_file_ops *ops = files_of(f->store)->fs->file;

        return ops->hole ? ops->hole(reading->file, offset) : 0;
}

/* The change time moves with every write, and nobody can set it back. */
static int foreign_unchanged_files(struct foreign *f, struct err *err)
{
        const struct reading *reading = f->state;
        const struct fs_attr *was = &reading->attr;
        struct fs_attr now;
        int r = files_of(f->store)->fs->file->attr(reading->file, &now, err);

        if (r == -ENOENT || r == -ESTALE)
                return err_set(err, -ESTALE, "volume %s was removed while it was read", f->name);
        if (r < 0)
                return err_wrap(err, r, "volume %s", f->name);
        if (now.size != was->size || now.ctime_s != was->ctime_s || now.ctime_ns != was->ctime_ns ||
            now.mtime_s != was->mtime_s)
                return err_set(err, -ESTALE,
                               "volume %s was changed while it was read (it had %llu bytes, it has %llu)",
                               f->name, (unsigned long long)was->size, (unsigned long long)now.size);
        return 0;
}

static void foreign_close_files(struct foreign *f)
{
        struct reading *reading = f->state;

        if (!reading)
                return;
        if (reading->file)
                files_of(f->store)->fs->file->close(reading->file);
        free(reading);
}

/* QEMU's own lock is seen, too. */
static int unwritten_dir(struct foreign *f, struct err *err)
{
        char path[FILES_PATH_MAX];
        int r;

        path_of(f, path);
        r = files_unwritten_dir(f->store, path, err);
        return r == -ENOENT || r == -ELOOP || r == -ENOTDIR
                   ? err_set(err, -ESTALE, "volume %s was moved while it was read", f->name)
                   : r;
}

static int foreign_open_dir(struct foreign *f, struct err *err)
{
        int r = foreign_open_files(f, err);

        return r < 0 ? r : unwritten_dir(f, err);
}

static int foreign_unchanged_dir(struct foreign *f, struct err *err)
{
        int r = foreign_unchanged_files(f, err);

        return r < 0 ? r : unwritten_dir(f, err);
}

const struct engine_foreign files_foreign_dir = {
    .open = foreign_open_dir,
    .read = foreign_read_files,
    .hole = foreign_hole_files,
    .unchanged = foreign_unchanged_dir,
    .close = foreign_close_files,
};

#ifdef HAVE_NFS
const struct engine_foreign files_foreign_nfs = {
    .open = foreign_open_files,
    .read = foreign_read_files,
    .hole = foreign_hole_files,
    .unchanged = foreign_unchanged_files,
    .close = foreign_close_files,
};
#endif
