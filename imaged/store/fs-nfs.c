/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/fs-nfs.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/clock.h"
#include "common/util.h"

int nfs_fail(struct fs *fs, const char *what, const char *path, int r, struct err *err)
{
        struct fs_nfs *n = nfs_of(fs);

        if (r == -ETIMEDOUT)
                return err_set(err, r, "nfs://%s%s/%s: cannot %s: no answer", n->server, n->path, path,
                               what);
        if (r == -EACCES)
                return err_set(err, r, "nfs://%s%s/%s: cannot %s: refused; the export needs no_root_squash",
                               n->server, n->path, path, what);
        return err_set(err, r, "nfs://%s%s/%s: cannot %s: %s", n->server, n->path, path, what, strerror(-r));
}

/* --- folders by handle
 * --------------------------------------------------------------------------------------------- */

static struct folder **folder_slot(struct fs_nfs *n, const char *path)
{
        struct folder **p = &n->folders[XXH3_64bits(path, strlen(path)) % FOLDER_BUCKETS];

        while (*p && !streq((*p)->path, path))
                p = &(*p)->next;
        return p;
}

static bool recall(struct fs_nfs *n, const char *path, struct nfs_fh *ret)
{
        struct folder *f;

        pthread_mutex_lock(&n->lock);
        f = *folder_slot(n, path);
        if (f)
                *ret = f->fh;
        pthread_mutex_unlock(&n->lock);
        return f;
}

void nfs_remember(struct fs_nfs *n, const char *path, const struct nfs_fh *fh)
{
        struct folder **p, *f;

        if (strchr(path, '.'))
                return;
        f = malloc(sizeof(*f) + strlen(path) + 1);
        if (!f)
                return;
        f->fh = *fh;
        strcpy(f->path, path);
        pthread_mutex_lock(&n->lock);
        p = folder_slot(n, path);
        if (*p) {
                (*p)->fh = *fh;
                free(f);
        } else {
                f->next = NULL;
                *p = f;
        }
        pthread_mutex_unlock(&n->lock);
}

void nfs_forget(struct fs_nfs *n, const char *path)
{
        pthread_mutex_lock(&n->lock);
        for (size_t i = 0; i < FOLDER_BUCKETS; i++) {
                struct folder **p = path ? folder_slot(n, path) : &n->folders[i];

                while (*p && (!path || streq((*p)->path, path))) {
                        struct folder *f = *p;

                        *p = f->next;
                        free(f);
                }
                if (path)
                        break;
        }
        pthread_mutex_unlock(&n->lock);
}

int nfs_folder(struct fs_nfs *n, struct nfs_conn *c, const char *path, struct nfs_fh *ret)
{
        struct nfs_found found;
        const char *name;
        struct nfs_fh parent;
        int r;

        if (streq(path, ".") || !*path) {
                *ret = *nfs_server_root(n->conns);
                return 0;
        }
        if (recall(n, path, ret))
                return 0;
        r = nfs_parent(n, c, path, &parent, &name);
        if (r < 0)
                return r;
        r = nfs3_lookup(c, &parent, name, &found);
        if (r < 0)
                return r;
        *ret = found.fh;
        nfs_remember(n, path, ret);
        return 0;
}

int nfs_parent(struct fs_nfs *n, struct nfs_conn *c, const char *path, struct nfs_fh *ret,
               const char **ret_name)
{
        const char *slash = strrchr(path, '/');
        char folder[512];

        *ret_name = slash ? slash + 1 : path;
        if (slash && (size_t)(slash - path) >= sizeof(folder))
                return -ENAMETOOLONG;
        snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - path) : 0, path);
        return nfs_folder(n, c, folder, ret);
}

int nfs_lookup_path(struct fs_nfs *n, struct nfs_conn *c, const char *path, struct nfs_found *ret)
{
        struct nfs_fh parent;
        const char *name;
        int r = nfs_parent(n, c, path, &parent, &name);

        return r < 0 ? r : nfs3_lookup(c, &parent, name, ret);
}

#define PAUSE_MS 10

bool nfs_pause(int64_t deadline)
{
        if (clock_ms() >= deadline)
                return false;
        poll(NULL, 0, PAUSE_MS);
        return true;
}

int nfs_run(struct fs *fs, const struct nfs_op *op, struct err *err)
{
        struct fs_nfs *n = nfs_of(fs);
        int64_t deadline = clock_ms() + nfs_server_timeout_ms(n->conns);
        bool repeated = false, looked_up = false;

        for (;;) {
                struct nfs_conn *c;
                bool broken;
                int r = nfs_conn_get(n->conns, &c, err);

                if (r < 0)
                        return r;
                r = op->run(n, c, op->arg);
                broken = nfs_conn_broken(c);
                nfs_conn_put(n->conns, c);
                if (r == -ESTALE && !looked_up) { /* refused, so it did not happen */
                        nfs_forget(n, NULL);
                        looked_up = true;
                        continue;
                }
                if (r == -EBUSY) {
                        if (nfs_pause(deadline))
                                continue;
                        r = -ETIMEDOUT;
                }
                if (r == -ETIMEDOUT && broken && op->again && !repeated) {
                        repeated = true;
                        continue;
                }
                if (r == -ESTALE)
                        r = -ENOENT;
                return r < 0 ? nfs_fail(fs, op->what, op->path, r, err) : r;
        }
}

/* --- operations on names
 * ------------------------------------------------------------------------------------------- */

struct name_arg {
        const char *path, *to;
        uint32_t mode;
        struct nfs_found found;
};

static int run_mkdir(struct fs_nfs *n, struct nfs_conn *c, void *arg)
{
        struct name_arg *a = arg;
        struct nfs_fh parent;
        const char *name;
        int r = nfs_parent(n, c, a->path, &parent, &name);

        if (r >= 0)
                r = nfs3_mkdir(c, &parent, name, a->mode, &a->found);
        if (r >= 0)
                nfs_remember(n, a->path, &a->found.fh);
        return r;
}

static int fs_nfs_mkdir(struct fs *fs, const char *path, uint32_t mode, struct err *err)
{
        struct name_arg a = {.path = path, .mode = mode};

        return nfs_run(
            fs, &(struct nfs_op){.what = "create folder", .path = path, .run = run_mkdir, .arg = &a}, err);
}

static int run_rmdir(struct fs_nfs *n, struct nfs_conn *c, void *arg)
{
        struct name_arg *a = arg;
        struct nfs_fh parent;
        const char *name;
        int r = nfs_parent(n, c, a->path, &parent, &name);

        nfs_forget(n, a->path);
        return r < 0 ? r : nfs3_rmdir(c, &parent, name);
}

static int fs_nfs_rmdir(struct fs *fs, const char *path, struct err *err)
{
        struct name_arg a = {.path = path};

        return nfs_run(
            fs, &(struct nfs_op){.what = "remove folder", .path = path, .run = run_rmdir, .arg = &a}, err);
}

static int run_remove(struct fs_nfs *n, struct nfs_conn *c, void *arg)
{
        struct name_arg *a = arg;
        struct nfs_fh parent;
        const char *name;
        int r = nfs_parent(n, c, a->path, &parent, &name);

        return r < 0 ? r : nfs3_remove(c, &parent, name);
}

static int fs_nfs_remove(struct fs *fs, const char *path, struct err *err)
{
        struct name_arg a = {.path = path};

        return nfs_run(fs, &(struct nfs_op){.what = "remove", .path = path, .run = run_remove, .arg = &a},
                       err);
}

static int run_link(struct fs_nfs *n, struct nfs_conn *c, void *arg)
{
        struct name_arg *a = arg;
        struct nfs_fh parent;
        const char *name;
        int r = nfs_lookup_path(n, c, a->path, &a->found);

        if (r >= 0)
                r = nfs_parent(n, c, a->to, &parent, &name);
        return r < 0 ? r : nfs3_link(c, &a->found.fh, &parent, name);
}

static int fs_nfs_link(struct fs *fs, const char *from, const char *to, struct err *err)
{
        struct name_arg a = {.path = from, .to = to};

        return nfs_run(fs, &(struct nfs_op){.what = "link", .path = to, .run = run_link, .arg = &a}, err);
}

static int run_rename(struct fs_nfs *n, struct nfs_conn *c, void *arg)
{
        struct name_arg *a = arg;
        struct nfs_fh from, to;
        const char *old, *new;
        int r = nfs_parent(n, c, a->path, &from, &old);

        if (r >= 0)
                r = nfs_parent(n, c, a->to, &to, &new);
        nfs_forget(n, a->path);
        return r < 0 ? r : nfs3_rename(c, &from, old, &to, new);
}

static int fs_nfs_rename(struct fs *fs, const char *from, const char *to, struct err *err)
{
        struct name_arg a = {.path = from, .to = to};

        return nfs_run(fs, &(struct nfs_op){.what = "rename", .path = from, .run = run_rename, .arg = &a},
                       err);
}

static int run_stat(struct fs_nfs *n, struct nfs_conn *c, void *arg)
{
        struct name_arg *a = arg;

        return nfs_lookup_path(n, c, a->path, &a->found);
}

static int fs_nfs_stat(struct fs *fs, const char *path, struct fs_attr *ret, struct err *err)
{
        struct name_arg a = {.path = path};
        int r = nfs_run(
            fs, &(struct nfs_op){.what = "look at", .path = path, .again = true, .run = run_stat, .arg = &a},
            err);

        if (r >= 0)
                *ret = a.found.attr;
        return r;
}

/* NFSv3 answers an operation on names when it is durable (RFC 1813, 4.8). */
/* An NFS server answers a change of names, and a write that asks for it, when it is durable. */
static int fs_nfs_sync(struct fs *fs, const char *const *paths, size_t n, struct err *err)
{
        return 0;
}

struct space_arg {
        uint64_t total, free;
};

static int run_space(struct fs_nfs *n, struct nfs_conn *c, void *arg)
{
        struct space_arg *a = arg;

        return nfs3_fsstat(c, nfs_server_root(n->conns), &a->total, &a->free);
}

static int fs_nfs_space(struct fs *fs, uint64_t *ret_total, uint64_t *ret_free, struct err *err)
{
        struct space_arg a = {};
        int r = nfs_run(
            fs, &(struct nfs_op){.what = "measure", .path = "", .again = true, .run = run_space, .arg = &a},
            err);

        if (r < 0)
                return r;
        *ret_total = a.total;
        *ret_free = a.free;
        return 0;
}

/* --- life
 * ----------------------------------------------------------------------------------------------------------
 */

static void fs_nfs_close(struct fs *fs)
{
        struct fs_nfs *n = nfs_of(fs);

        if (!n)
                return;
        nfs_server_free(n->conns);
        nfs_forget(n, NULL);
        pthread_mutex_destroy(&n->lock);
        free(n->server);
        free(n->path);
        free(n);
}

static const struct fs_ops nfs_ops = {
    .mkdir = fs_nfs_mkdir,
    .rmdir = fs_nfs_rmdir,
    .list = fs_nfs_list,
    .put = fs_nfs_put,
    .read = fs_nfs_read,
    .link = fs_nfs_link,
    .rename = fs_nfs_rename,
    .remove = fs_nfs_remove,
    .stat = fs_nfs_stat,
    .sync = fs_nfs_sync,
    .space = fs_nfs_space,
    .close = fs_nfs_close,
};

int fs_nfs_new(const char *place, unsigned timeout_ms, struct fs **ret, struct err *err)
{
        const char *slash = strchr(place, '/');
        struct fs_nfs *n;
        size_t len;
        int r;

        if (!slash || slash == place || !slash[1] || strpbrk(place, "?#@"))
                return err_set(err, -EINVAL, "nfs://%s: not nfs://SERVER/EXPORT[/PATH]", place);
        n = calloc(1, sizeof(*n));
        if (!n)
                return err_set(err, -ENOMEM, "nfs://%s: out of memory", place);
        pthread_mutex_init(&n->lock, NULL);
        n->fs = (struct fs){.ops = &nfs_ops, .file = &fs_nfs_file_ops};
        n->server = strndup(place, (size_t)(slash - place));
        n->path = strdup(slash);
        for (len = n->path ? strlen(n->path) : 0; len > 1 && n->path[len - 1] == '/'; len--)
                n->path[len - 1] = '\0';
        if (!n->server || !n->path)
                r = err_set(err, -ENOMEM, "nfs://%s: out of memory", place);
        else
                r = nfs_server_new(n->server, n->path, timeout_ms, &n->conns, err);
        if (r < 0) {
                fs_nfs_close(&n->fs);
                return r;
        }
        *ret = &n->fs;
        return 0;
}

const char *fs_nfs_server(struct fs *fs)
{
        return nfs_of(fs)->server;
}

const char *fs_nfs_path(struct fs *fs)
{
        return nfs_of(fs)->path;
}
