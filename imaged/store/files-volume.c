/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/files.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "common/util.h"

/*
 * A golden image is written under a name of its own and becomes visible by an exclusive link() once all of
 * it is durable. Every disk that copies it on write holds a further hard link, so the link count says how
 * many use it.
 */
struct part {
        struct fs_file *file;
        char path[FILES_PATH_MAX]; /* while unsealed */
};

#define IMAGE_UID_BASE 0x20000000u /* 2^29 users; those of starts lie above, see start_init() */

uint32_t files_image_uid(const char *image)
{
        return IMAGE_UID_BASE + (uint32_t)(XXH3_64bits(image, strlen(image)) % (1u << 29));
}

void files_image_path(const char *image, char ret[FILES_PATH_MAX])
{
        snprintf(ret, FILES_PATH_MAX, "images/%s.raw", image);
}

/* "<image>.<16 hex digits>.<suffix>" */
static bool name_is(const char *name, const char *image, const char *suffix)
{
        size_t n = strlen(image);

        return strncmp(name, image, n) == 0 && name[n] == '.' && strlen(name) == n + 18 + strlen(suffix) &&
               name[n + 17] == '.' && streq(name + n + 18, suffix);
}

struct leftover {
        const char *image; /* NULL: of any image */
        const char *suffix;
        char name[FILES_PATH_MAX / 2];
};

static int find_leftover(void *arg, const char *name)
{
        struct leftover *l = arg;
        char image[STORE_ID_MAX + 1];
        size_t n = strcspn(name, ".");

        if (n > STORE_ID_MAX)
                return 0;
        snprintf(image, sizeof(image), "%.*s", (int)n, name);
        if (l->image && !streq(l->image, image))
                return 0;
        if (!name_is(name, image, l->suffix))
                return 0;
        snprintf(l->name, sizeof(l->name), "%s", name);
        return 1;
}

/* Returns how many there were. */
static int remove_parts(struct files *f, const char *image, struct err *err)
{
        struct leftover l = {.image = image, .suffix = "part"};
        int n = 0, r;

        while ((r = f->fs->ops->list(f->fs, "images", find_leftover, &l, err)) > 0) {
                char path[FILES_PATH_MAX];

                snprintf(path, sizeof(path), "images/%s", l.name);
                r = f->fs->ops->remove(f->fs, path, err);
                if (r < 0 && r != -ENOENT)
                        return r;
                n++;
        }
        return r < 0 ? r : n;
}

static int volume_begin(struct volume *v, struct err *err)
{
        struct files *f = files_of(v->store);
        _cleanup_(freep) struct part *p = calloc(1, sizeof(*p));
        char path[FILES_PATH_MAX];
        struct fs_attr a;
        int r;

        if (!p)
                return err_set(err, -ENOMEM, "image %s: out of memory", v->image);
        files_image_path(v->image, path);
        r = f->fs->ops->stat(f->fs, path, &a, err);
        if (r == 0)
                return err_set(err, -EEXIST, "image %s exists already", v->image);
        if (r != -ENOENT)
                return r;
        r = remove_parts(f, v->image, err);
        if (r < 0)
                return r;
        snprintf(p->path, sizeof(p->path), "images/%s.%016" PRIx64 ".part", v->image, random_u64());
        r = f->fs->file->create(f->fs, p->path, v->size, &p->file, err);
        if (r < 0)
                return r;
        v->state = take(p);
        return 0;
}

static int volume_put(struct volume *v, const void *buf, size_t len, uint64_t offset, struct err *err)
{
        struct part *p = v->state;
        int r = files_of(v->store)->fs->file->write(p->file, buf, len, offset, err);

        return r < 0 ? err_wrap(err, r, "image %s", v->image) : 0;
}

static int volume_size_set(struct volume *v, uint64_t size, struct err *err)
{
        struct part *p = v->state;
        int r = files_of(v->store)->fs->file->resize(p->file, size, err);

        return r < 0 ? err_wrap(err, r, "image %s", v->image) : 0;
}

static int volume_finish(struct volume *v, const struct fs_owner *owner, struct err *err)
{
        struct files *f = files_of(v->store);
        struct part *p = v->state;
        char path[FILES_PATH_MAX];
        int r;

        if (!p->path[0]) /* asked again: all was done but this */
                return files_sync(f, "images", err);
        r = f->fs->file->seal(p->file, owner, err);
        if (r < 0)
                return err_wrap(err, r, "image %s", v->image);
        files_image_path(v->image, path);
        r = f->fs->ops->link(f->fs, p->path, path, err);
        if (r == -ETIMEDOUT || r == -EEXIST) { /* mine, if the reply was lost: then the part has two links */
                struct fs_attr a;

                if (f->fs->ops->stat(f->fs, p->path, &a, NULL) == 0 && a.nlink == 2)
                        r = 0;
        }
        if (r == -ENOENT)
                return err_set(err, -ESTALE, "image %s: another writer of that id took over", v->image);
        if (r < 0)
                return err_wrap(err, r, "image %s", v->image);
        f->fs->ops->remove(f->fs, p->path, NULL);
        p->path[0] = '\0';
        return files_sync(f, "images", err);
}

static int volume_seal_dir(struct volume *v, struct err *err)
{
        /* read-only for everybody, and readable by QEMU's user, whoever that is */
        struct fs_owner owner = {.uid = geteuid(), .gid = getegid(), .mode = 0444};

        return volume_finish(v, &owner, err);
}

#ifdef HAVE_NFS
static int volume_seal_nfs(struct volume *v, struct err *err)
{
        /* QEMU's NFS driver opens a backing file read-write, so its owner is the user that backing nodes
         * name. */
        struct fs_owner owner = {.uid = files_image_uid(v->image), .gid = 0, .mode = 0644};

        return volume_finish(v, &owner, err);
}
#endif

static int volume_open_sealed(struct volume *v, struct err *err)
{
        struct files *f = files_of(v->store);
        _cleanup_(freep) struct part *p = calloc(1, sizeof(*p));
        char path[FILES_PATH_MAX];
        int r;

        if (!p)
                return err_set(err, -ENOMEM, "image %s: out of memory", v->image);
        files_image_path(v->image, path);
        r = f->fs->file->open(f->fs, path, false, &p->file, &v->size, err);
        if (r == -ENOENT)
                return err_set(err, r, "image %s: no such image", v->image);
        if (r < 0)
                return r;
        v->sealed = true;
        v->state = take(p);
        return 0;
}

/* A new name, so that of two who want it one wins, and who wrote it before neither seals nor removes it. */
static int part_take(struct files *f, const char *image, char path[FILES_PATH_MAX], struct err *err)
{
        char mine[FILES_PATH_MAX];
        struct fs_attr a;
        int r;

        snprintf(mine, sizeof(mine), "images/%s.%016" PRIx64 ".part", image, random_u64());
        r = f->fs->ops->rename(f->fs, path, mine, err);
        if (r == -ETIMEDOUT && f->fs->ops->stat(f->fs, mine, &a, NULL) == 0)
                r = 0;
        if (r == 0)
                strcpy(path, mine);
        return r;
}

static int volume_open_part(struct volume *v, bool take_it, struct err *err)
{
        struct files *f = files_of(v->store);
        struct leftover l = {.image = v->image, .suffix = "part"};
        _cleanup_(freep) struct part *p = calloc(1, sizeof(*p));
        int r;

        if (!p)
                return err_set(err, -ENOMEM, "image %s: out of memory", v->image);
        r = f->fs->ops->list(f->fs, "images", find_leftover, &l, err);
        if (r == 0)
                return err_set(err, -ENOENT, "image %s: nothing was left of it", v->image);
        if (r < 0)
                return r;
        snprintf(p->path, sizeof(p->path), "images/%s", l.name);
        r = take_it ? part_take(f, v->image, p->path, err) : 0;
        if (r == 0)
                r = f->fs->file->open(f->fs, p->path, true, &p->file, &v->size, err);
        if (r < 0)
                return r;
        if (!take_it)
                p->path[0] = '\0'; /* not ours to remove */
        v->sealed = !take_it;
        v->state = take(p);
        return 0;
}

static int volume_get(struct volume *v, void *buf, size_t len, uint64_t offset, struct err *err)
{
        struct part *p = v->state;
        int r = files_of(v->store)->fs->file->read(p->file, buf, len, offset, err);

        return r < 0 ? err_wrap(err, r, "image %s", v->image) : 0;
}

static void volume_end(struct volume *v)
{
        struct files *f = files_of(v->store);
        struct part *p = v->state;

        if (!p)
                return;
        f->fs->file->close(p->file);
        if (p->path[0] && !v->left)
                f->fs->ops->remove(f->fs, p->path, NULL);
        free(p);
}

static int busy(const char *image, uint32_t nlink, struct err *err)
{
        return err_set(err, -EBUSY, "image %s: %u disk%s copy it on write", image, nlink - 1,
                       nlink == 2 ? "" : "s");
}

/*
 * A disk that is made at the same moment either got its link before the rename, and is counted after it, or
 * finds no image. A crash between rename and removal is mended by files_volume_recover().
 */
static int volume_drop(struct store *s, const char *image, struct err *err)
{
        struct files *f = files_of(s);
        char path[FILES_PATH_MAX], gone[FILES_PATH_MAX];
        struct fs_attr a;
        int parts, r, q;

        parts = remove_parts(f, image, err);
        if (parts < 0)
                return parts;
        files_image_path(image, path);
        r = f->fs->ops->stat(f->fs, path, &a, err);
        if (r == -ENOENT)
                return parts > 0 ? 0 : err_set(err, r, "image %s: no such image", image);
        if (r < 0)
                return r;
        if (a.nlink > 1)
                return busy(image, a.nlink, err);
        snprintf(gone, sizeof(gone), "images/%s.%016" PRIx64 ".gone", image, random_u64());
        r = f->fs->ops->rename(f->fs, path, gone, err);
        if (r < 0 && r != -ETIMEDOUT && r != -ENOENT)
                return r;
        q = f->fs->ops->stat(f->fs, gone, &a, r < 0 ? NULL : err); /* nobody else makes that name */
        if (q < 0)
                return r < 0 ? r : q;
        if (a.nlink > 1) {
                r = f->fs->ops->rename(f->fs, gone, path, err);
                return r < 0 ? r : busy(image, a.nlink, err);
        }
        r = f->fs->ops->remove(f->fs, gone, err);
        return r < 0 && r != -ENOENT ? r : files_sync(f, "images", err);
}

int files_volume_recover(struct files *f, struct err *err)
{
        struct leftover l = {.suffix = "gone"};
        int r;

        while ((r = f->fs->ops->list(f->fs, "images", find_leftover, &l, err)) > 0) {
                char path[FILES_PATH_MAX], image[FILES_PATH_MAX / 2], back[FILES_PATH_MAX];
                struct fs_attr a;

                snprintf(path, sizeof(path), "images/%s", l.name);
                snprintf(image, sizeof(image), "%.*s", (int)strcspn(l.name, "."), l.name);
                files_image_path(image, back);
                r = f->fs->ops->stat(f->fs, path, &a, err);
                if (r == 0 && a.nlink > 1) {
                        /* link, not rename: an image of that id that is there now stays */
                        r = f->fs->ops->link(f->fs, path, back, err);
                        if (r == -EEXIST)
                                r = 0;
                }
                if (r == 0)
                        r = f->fs->ops->remove(f->fs, path, err);
                if (r < 0 && r != -ENOENT)
                        return r;
        }
        return r;
}

static int volume_attach_dir(struct store *s, const char *image, struct attach *ret, struct err *err)
{
        ret->kind = ATTACH_FILE;
        ret->read_only = true;
        snprintf(ret->path, sizeof(ret->path), "%s/images/%s.raw", fs_dir_path(files_of(s)->fs), image);
        return 0;
}

const struct engine_volumes files_volumes_dir = {
    .create = volume_begin,
    .write = volume_put,
    .resize = volume_size_set,
    .seal = volume_seal_dir,
    .open = volume_open_sealed,
    .resume = volume_open_part,
    .read = volume_get,
    .close = volume_end,
    .remove = volume_drop,
    .attach = volume_attach_dir,
};

#ifdef HAVE_NFS
static int volume_attach_nfs(struct store *s, const char *image, struct attach *ret, struct err *err)
{
        ret->kind = ATTACH_NFS;
        ret->read_only = true;
        ret->uid = files_image_uid(image);
        snprintf(ret->server, sizeof(ret->server), "%s", fs_nfs_server(files_of(s)->fs));
        snprintf(ret->path, sizeof(ret->path), "%s/images/%s.raw", fs_nfs_path(files_of(s)->fs), image);
        return 0;
}

const struct engine_volumes files_volumes_nfs = {
    .create = volume_begin,
    .write = volume_put,
    .resize = volume_size_set,
    .seal = volume_seal_nfs,
    .open = volume_open_sealed,
    .resume = volume_open_part,
    .read = volume_get,
    .close = volume_end,
    .remove = volume_drop,
    .attach = volume_attach_nfs,
};
#endif
