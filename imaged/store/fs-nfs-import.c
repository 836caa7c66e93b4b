/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that others have put on the export. A LOOKUP gives a link itself, and one in a link fails: so none
 * is followed. Folders are looked up each time: their owner may rename them as he likes.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "imaged/store/fs-nfs.h"

struct import_arg {
        const char *path;
        struct nfs_fh fh;
        struct fs_attr attr;
};

static int run_open(struct fs_nfs *n, struct nfs_conn *c, void *arg)
{
        struct import_arg *a = arg;

        a->fh = *nfs_server_root(n->conns);
        for (const char *step = a->path;;) {
                size_t len = strcspn(step, "/");
                char name[NAME_MAX + 1];
                struct nfs_found found;
                int r;

                if (len > NAME_MAX)
                        return -ENAMETOOLONG;
                snprintf(name, sizeof(name), "%.*s", (int)len, step);
                r = nfs3_lookup(c, &a->fh, name, &found);
                if (r < 0)
                        return r;
                a->fh = found.fh;
                a->attr = found.attr;
                if (!step[len])
                        return 0;
                step += len + 1;
        }
}

int fs_nfs_open_import(struct fs *fs, const char *path, struct fs_file **ret, struct fs_attr *ret_attr,
                       struct err *err)
{
        struct import_arg a = {.path = path};
        struct fs_file *f;
        int r = nfs_run(
            fs, &(struct nfs_op){.what = "open", .path = path, .again = true, .run = run_open, .arg = &a},
            err);

        if (r < 0)
                return r;
        if (!a.attr.plain)
                return err_set(err, -EINVAL, "nfs://%s%s/%s is not a plain file", nfs_of(fs)->server,
                               nfs_of(fs)->path, path);
        f = fs_nfs_file_new(fs);
        if (!f)
                return err_set(err, -ENOMEM, "%s: out of memory", path);
        f->fh = a.fh;
        *ret_attr = a.attr;
        *ret = f;
        return 0;
}

static int run_attr(struct fs_nfs *n, struct nfs_conn *c, void *arg)
{
        struct import_arg *a = arg;

        (void)n;
        return nfs3_getattr(c, &a->fh, &a->attr);
}

int fs_nfs_attr(struct fs_file *f, struct fs_attr *ret, struct err *err)
{
        struct import_arg a = {.fh = f->fh};
        int r =
            nfs_run(f->fs,
                    &(struct nfs_op){
                        .what = "measure", .path = "(volume)", .again = true, .run = run_attr, .arg = &a},
                    err);

        if (r >= 0)
                *ret = a.attr;
        return r;
}
