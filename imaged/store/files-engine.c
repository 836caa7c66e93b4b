/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/files.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"

void files_shard(const char *base, const char *id, char ret[FILES_PATH_MAX])
{
        snprintf(ret, FILES_PATH_MAX, "%s/%.2s", base, id);
}

void files_temporary(const char *what, char ret[FILES_PATH_MAX])
{
        snprintf(ret, FILES_PATH_MAX, "tmp/%s-%016" PRIx64, what, random_u64());
}

int files_sync(struct files *f, const char *path, struct err *err)
{
        return f->fs->ops->sync(f->fs, &path, 1, err);
}

int files_mkdir(struct files *f, const char *path, uint32_t mode, struct err *err)
{
        char parent[FILES_PATH_MAX];
        char *slash;
        int r = f->fs->ops->mkdir(f->fs, path, mode, err);

        if (r == -EEXIST)
                return 0;
        if (r < 0)
                return r;
        snprintf(parent, sizeof(parent), "%s", path);
        slash = strrchr(parent, '/');
        if (!slash)
                return files_sync(f, ".", err);
        *slash = '\0';
        return files_sync(f, parent, err);
}

struct name_list {
        char name[64][FILES_PATH_MAX / 2];
        size_t n;
};

/* As many names as there is room for; the caller comes again for the rest. */
static int collect_name(void *arg, const char *name)
{
        struct name_list *l = arg;

        if (l->n == ARRAY_SIZE(l->name))
                return 1;
        if (strlen(name) < sizeof(l->name[0]))
                strcpy(l->name[l->n++], name);
        return 0;
}

/* What nobody else touches may be asked for again; what stayed behind would wait for the next sweep. */
#define REMOVE_TRIES 3

static int remove_surely(struct files *f, int (*call)(struct fs *, const char *, struct err *),
                         const char *path, struct err *err)
{
        int r = 0;

        for (int i = 0; i < REMOVE_TRIES; i++) {
                r = call(f->fs, path, err);
                if (r != -ETIMEDOUT && r != -EIO)
                        break;
        }
        return r == -ENOENT ? 0 : r;
}

int files_rmtree(struct files *f, const char *path, struct err *err)
{
        _cleanup_(freep) struct name_list *l = malloc(sizeof(*l));
        int r;

        if (!l)
                return err_set(err, -ENOMEM, "%s: out of memory", path);
        do {
                l->n = 0;
                for (int i = 0; i == 0 || ((r == -ETIMEDOUT || r == -EIO) && i < REMOVE_TRIES); i++)
                        r = f->fs->ops->list(f->fs, path, collect_name, l, err);
                if (r < 0)
                        return r == -ENOENT ? 0 : r;
                for (size_t i = 0; i < l->n; i++) {
                        char name[FILES_PATH_MAX * 2];
                        int q;

                        snprintf(name, sizeof(name), "%s/%s", path, l->name[i]);
                        q = remove_surely(f, f->fs->ops->remove, name, err);
                        if (q < 0)
                                return q;
                }
        } while (r > 0);
        return remove_surely(f, f->fs->ops->rmdir, path, err);
}

struct read_one {
        int r;
        char *text;
        size_t len;
};

static int read_one(void *arg, size_t i, int r, const char *text, size_t len)
{
        struct read_one *o = arg;

        o->r = r;
        if (r < 0)
                return 0;
        o->text = malloc(len + 1);
        if (!o->text)
                return o->r = -ENOMEM;
        memcpy(o->text, text, len + 1);
        o->len = len;
        return 0;
}

int files_read(struct files *f, const char *folder, const char *name, size_t max, char **ret,
               size_t *ret_len, struct err *err)
{
        struct read_one o = {.r = -ENOENT};
        int r = f->fs->ops->read(f->fs, folder, &name, 1, max, read_one, &o, err);

        if (r < 0 && o.r != -ENOMEM) {
                free(o.text);
                return r;
        }
        if (o.r < 0)
                return err_set(err, o.r, "%s/%s: cannot read: %s", folder, name, strerror(-o.r));
        *ret = o.text;
        if (ret_len)
                *ret_len = o.len;
        return 0;
}

/* --- the engines' life
 * --------------------------------------------------------------------------------------------- */

static int files_new(struct store *s, struct fs *fs, struct err *err)
{
        struct files *f = calloc(1, sizeof(*f));

        if (!f) {
                fs->ops->close(fs);
                return err_set(err, -ENOMEM, "%s: out of memory", s->url);
        }
        f->fs = fs;
        s->state = f;
        return 0;
}

static int dir_open(struct store *s, struct err *err)
{
        struct fs *fs;
        int r = fs_dir_new(s->place, &fs, err);

        return r < 0 ? r : files_new(s, fs, err);
}

#ifdef HAVE_NFS
static int nfs_open_store(struct store *s, struct err *err)
{
        struct fs *fs;
        int r = fs_nfs_new(s->place, s->options.timeout_ms, &fs, err);

        return r < 0 ? r : files_new(s, fs, err);
}
#endif

static void files_close(struct store *s)
{
        struct files *f = files_of(s);

        if (!f)
                return;
        f->fs->ops->close(f->fs);
        free(f);
}

static int files_space(struct store *s, uint64_t *ret_total, uint64_t *ret_free, struct err *err)
{
        return files_of(s)->fs->ops->space(files_of(s)->fs, ret_total, ret_free, err);
}

/* What crashed writers left in tmp/. Its age is measured by the storage's own clock: that of a file made
 * just now. */
#define LEFTOVER_AGE_S 3600

static int sweep(struct files *f, struct err *err)
{
        _cleanup_(freep) struct name_list *l = calloc(1, sizeof(*l));
        static const struct fs_owner owner = {.mode = 0600};
        char now[FILES_PATH_MAX];
        struct fs_attr clock;
        int r;

        if (!l)
                return err_set(err, -ENOMEM, "tmp: out of memory");
        files_temporary("clock", now);
        r = f->fs->ops->put(f->fs, now, "", 0, &owner, true, err);
        if (r < 0)
                return r == -ENOSPC ? 0 : r; /* on a full storage the parts have to start as well */
        r = f->fs->ops->stat(f->fs, now, &clock, err);
        f->fs->ops->remove(f->fs, now, NULL);
        if (r < 0)
                return r;
        r = f->fs->ops->list(f->fs, "tmp", collect_name, l, err); /* the rest at the next start */
        for (size_t i = 0; r >= 0 && i < l->n; i++) {
                char path[FILES_PATH_MAX];
                struct fs_attr a;

                snprintf(path, sizeof(path), "tmp/%s", l->name[i]);
                if (f->fs->ops->stat(f->fs, path, &a, NULL) < 0 ||
                    a.ctime_s + LEFTOVER_AGE_S > clock.mtime_s)
                        continue;
                if (f->fs->ops->remove(f->fs, path, NULL) < 0)
                        files_rmtree(f, path, NULL);
        }
        return r < 0 ? r : 0;
}

static int files_prepare(struct store *s, struct err *err)
{
        /* QEMU must reach images, instances and starts with a user of its own, but needs to list none of
         * them. */
        static const struct {
                const char *path;
                uint32_t mode;
        } folders[] = {{"records", 0700}, {"beats", 0700}, {"images", 0711}, {"instances", 0711},
                       {"starts", 0711},  {"locks", 0700}, {"tmp", 0711},    {FILES_IMPORT, 0700}};
        struct files *f = files_of(s);
        int r;

        for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
                r = files_mkdir(f, folders[i].path, folders[i].mode, err);
                if (r < 0)
                        return r;
        }
        for (int k = 0; k < RECORD_KIND_MAX; k++) {
                char path[64];

                snprintf(path, sizeof(path), "records/%s", record_kind_name(k));
                r = files_mkdir(f, path, 0700, err);
                if (r < 0)
                        return r;
        }
        r = files_volume_recover(f, err);
        if (r == 0)
                r = sweep(f, err);
        return r < 0 ? r : files_reserve_fill(f, err);
}

static int files_upkeep(struct store *s, struct err *err)
{
        return files_reserve_fill(files_of(s), err);
}

const struct engine engine_dir = {
    .name = "dir",
    .prefix = "dir:",
    .open = dir_open,
    .close = files_close,
    .space = files_space,
    .prepare = files_prepare,
    .upkeep = files_upkeep,
    .selftest = files_selftest_dir,
    .diagnose = files_diagnose_dir,
    .records = &files_records,
    .volumes = &files_volumes_dir,
    .leases = &files_leases_dir,
    .starts = &files_starts_dir,
    .disks = &files_disks_dir,
    .foreign = &files_foreign_dir,
};

#ifdef HAVE_NFS
const struct engine engine_nfs = {
    .name = "nfs",
    .prefix = "nfs://",
    .open = nfs_open_store,
    .close = files_close,
    .space = files_space,
    .prepare = files_prepare,
    .upkeep = files_upkeep,
    .selftest = files_selftest_nfs,
    .diagnose = files_diagnose_nfs,
    .records = &files_records,
    .volumes = &files_volumes_nfs,
    .leases = &files_leases_nfs,
    .starts = &files_starts_nfs,
    .disks = &files_disks_nfs,
    .foreign = &files_foreign_nfs,
};
#endif
