/* SPDX-License-Identifier: Apache-2.0 */
/* A folder's names: READDIR until the end, again where it was not of one moment. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "imaged/store/fs-nfs.h"

struct list_arg {
        const char *path;
        char **names;
        size_t n, room;
};

static void list_clear(struct list_arg *l)
{
        for (size_t i = 0; i < l->n; i++)
                free(l->names[i]);
        l->n = 0;
}

static int list_add(void *arg, const char *name)
{
        struct list_arg *l = arg;

        if (l->n == l->room) {
                size_t room = l->room ? l->room * 2 : 64;
                char **bigger = realloc(l->names, room * sizeof(*bigger));

                if (!bigger)
                        return -ENOMEM;
                l->names = bigger;
                l->room = room;
        }
        l->names[l->n] = strdup(name);
        return l->names[l->n++] ? 0 : -ENOMEM;
}

/* One pass; 1: it is not of one moment, as the folder's change time shows. */
static int list_once(struct nfs_conn *c, const struct nfs_fh *folder, struct list_arg *l)
{
        struct nfs_listing at = {};
        struct fs_attr first = {};
        bool torn = false;

        list_clear(l);
        for (int answers = 0; !at.eof; answers++) {
                int r = nfs3_readdir(c, folder, &at, list_add, l);

                if (r < 0)
                        return r;
                if (answers == 0)
                        first = at.attr;
                torn = torn || (answers > 0 && at.has_attr &&
                                (first.ctime_s != at.attr.ctime_s || first.ctime_ns != at.attr.ctime_ns));
        }
        return torn;
}

/*
 * A folder that never rests is accepted. nfs-ganesha refuses a READDIR with "no such entry" when a file of
 * that folder is removed under it: whether it is the folder that is gone, only a LOOKUP tells.
 */
#define LIST_ROUNDS 20

static int run_list(struct fs_nfs *n, struct nfs_conn *c, void *arg)
{
        struct list_arg *l = arg;
        int r = 1;

        for (int round = 0; round < LIST_ROUNDS && (r > 0 || r == -ENOENT); round++) {
                struct nfs_fh folder;

                if (r == -ENOENT)
                        nfs_forget(n, l->path);
                r = nfs_folder(n, c, l->path, &folder);
                if (r < 0)
                        return r;
                r = list_once(c, &folder, l);
        }
        return r == -ENOENT ? -EBUSY : MIN_OF(r, 0);
}

int fs_nfs_list(struct fs *fs, const char *path, fs_name_cb cb, void *arg, struct err *err)
{
        struct list_arg l = {.path = path};
        int r = nfs_run(
            fs, &(struct nfs_op){.what = "list", .path = path, .again = true, .run = run_list, .arg = &l},
            err);

        for (size_t i = 0; r == 0 && i < l.n; i++)
                r = cb(arg, l.names[i]);
        list_clear(&l);
        free(l.names);
        return r;
}
