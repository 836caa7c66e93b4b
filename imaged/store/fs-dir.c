/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/fs-dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/util.h"

int fs_dir_fail(struct fs *fs, const char *path, const char *what, int code, struct err *err)
{
        if (code == -EPERM)
                code = -EACCES;
        if (code == -EDQUOT)
                code = -ENOSPC;
        return err_set(err, code, "%s/%s: cannot %s: %s", dir_of(fs)->path, path, what, strerror(-code));
}

static int dir_mkdir(struct fs *fs, const char *path, uint32_t mode, struct err *err)
{
        if (mkdirat(dir_of(fs)->root, path, 0700) < 0)
                return fs_dir_fail(fs, path, "create folder", -errno, err);
        if (fchmodat(dir_of(fs)->root, path, mode, 0) < 0) /* whatever the umask is */
                return fs_dir_fail(fs, path, "set the mode", -errno, err);
        return 0;
}

static int dir_rmdir(struct fs *fs, const char *path, struct err *err)
{
        if (unlinkat(dir_of(fs)->root, path, AT_REMOVEDIR) < 0)
                return fs_dir_fail(fs, path, "remove folder", -errno, err);
        return 0;
}

struct names {
        char **name;
        size_t n, room;
};

static void names_done(struct names *l)
{
        for (size_t i = 0; i < l->n; i++)
                free(l->name[i]);
        free(l->name);
        *l = (struct names){};
}

static int names_add(struct names *l, const char *name)
{
        if (l->n == l->room) {
                size_t room = l->room ? l->room * 2 : 64;
                char **bigger = realloc(l->name, room * sizeof(*bigger));

                if (!bigger)
                        return -ENOMEM;
                l->name = bigger;
                l->room = room;
        }
        l->name[l->n] = strdup(name);
        if (!l->name[l->n])
                return -ENOMEM;
        l->n++;
        return 0;
}

static int read_names(DIR *d, struct names *ret)
{
        for (;;) {
                struct dirent *e;
                int r;

                errno = 0;
                e = readdir(d);
                if (!e)
                        return -errno;
                if (streq(e->d_name, ".") || streq(e->d_name, ".."))
                        continue;
                r = names_add(ret, e->d_name);
                if (r < 0)
                        return r;
        }
}

/*
 * The kernel hands out a folder in pieces, and what is renamed between two of them may be missed. Change
 * time tells: a folder that kept it over the listing was listed as it was. One that keeps changing is
 * accepted after some rounds where every name that stood still was seen anyway.
 */
#define LIST_ROUNDS 20

static int list_once(int root, const char *path, struct names *ret, bool *ret_torn)
{
        _cleanup_(closep) int fd = openat(root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        struct stat before, after;
        DIR *d;
        int r;

        if (fd < 0 || fstat(fd, &before) < 0)
                return -errno;
        d = fdopendir(fd);
        if (!d)
                return -errno;
        take_fd(&fd);
        r = read_names(d, ret);
        if (r == 0 && fstat(dirfd(d), &after) < 0)
                r = -errno;
        closedir(d);
        if (r == 0)
                *ret_torn = before.st_ctim.tv_sec != after.st_ctim.tv_sec ||
                            before.st_ctim.tv_nsec != after.st_ctim.tv_nsec;
        return r;
}

static int dir_list(struct fs *fs, const char *path, fs_name_cb cb, void *arg, struct err *err)
{
        _cleanup_(names_done) struct names l = {};
        bool torn = true;
        int r;

        for (int round = 0; torn && round < LIST_ROUNDS; round++) {
                names_done(&l);
                r = list_once(dir_of(fs)->root, path, &l, &torn);
                if (r < 0)
                        return fs_dir_fail(fs, path, "list", r, err);
        }
        for (size_t i = 0; i < l.n; i++) {
                r = cb(arg, l.name[i]);
                if (r != 0)
                        return r;
        }
        return 0;
}

/* Blocks of zeros stay holes: of a new disk's tables hardly anything is left to reach the storage. */
#define BLOCK 4096

static int write_sparse(int fd, const uint8_t *data, size_t len)
{
        static const uint8_t zeros[BLOCK];

        for (size_t at = 0; at < len; at += BLOCK) {
                size_t n = MIN_OF(len - at, (size_t)BLOCK);
                int r;

                if (memcmp(data + at, zeros, n) == 0)
                        continue;
                if (lseek(fd, (off_t)at, SEEK_SET) < 0)
                        return -errno;
                r = write_full(fd, data + at, n);
                if (r < 0)
                        return r;
        }
        if (ftruncate(fd, (off_t)len) < 0)
                return -errno;
        /* A hint: blocks that have their place before the files and folders of a disk are synced cost no
         * second commit of the file system's journal. */
        sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
        return 0;
}

static int dir_put(struct fs *fs, const char *path, const void *data, size_t len,
                   const struct fs_owner *owner, bool durable, struct err *err)
{
        int root = dir_of(fs)->root;
        _cleanup_(closep) int fd =
            openat(root, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        int r = 0;

        if (fd < 0)
                return fs_dir_fail(fs, path, "create", -errno, err);
        if ((owner->uid != geteuid() || owner->gid != getegid()) && fchown(fd, owner->uid, owner->gid) < 0)
                r = -errno;
        if (r == 0 && owner->mode != 0600 && fchmod(fd, owner->mode) < 0)
                r = -errno;
        if (r == 0)
                r = write_sparse(fd, data, len);
        if (r == 0 && durable && fsync(fd) < 0)
                r = -errno;
        if (r == 0)
                return 0;
        unlinkat(root, path, 0);
        return fs_dir_fail(fs, path, "write", r, err);
}

static int read_text(int folder, const char *name, char *buf, size_t max)
{
        _cleanup_(closep) int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        ssize_t n;

        if (fd < 0)
                return -errno;
        n = read_full(fd, buf, max + 1);
        if (n < 0)
                return (int)n;
        if ((size_t)n > max)
                return -EFBIG;
        buf[n] = '\0';
        return (int)n;
}

static int dir_read(struct fs *fs, const char *folder, const char *const *names, size_t n, size_t max,
                    fs_text_cb cb, void *arg, struct err *err)
{
        _cleanup_(closep) int fd = openat(dir_of(fs)->root, folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
        _cleanup_(freep) char *buf = malloc(max + 2);

        if (!buf)
                return err_set(err, -ENOMEM, "%s: out of memory", folder);
        if (fd < 0 && errno != ENOENT)
                return fs_dir_fail(fs, folder, "open folder", -errno, err);
        for (size_t i = 0; i < n; i++) {
                int len = fd < 0 ? -ENOENT : read_text(fd, names[i], buf, max), r;

                r = cb(arg, i, len < 0 ? len : 0, len < 0 ? NULL : buf, len < 0 ? 0 : (size_t)len);
                if (r != 0)
                        return r;
        }
        return 0;
}

static int dir_link(struct fs *fs, const char *from, const char *to, struct err *err)
{
        int root = dir_of(fs)->root;

        if (linkat(root, from, root, to, 0) < 0)
                return fs_dir_fail(fs, to, "link", -errno, err);
        return 0;
}

static int dir_rename(struct fs *fs, const char *from, const char *to, struct err *err)
{
        int root = dir_of(fs)->root;

        if (renameat(root, from, root, to) < 0)
                return fs_dir_fail(fs, from, "rename", errno == ENOTEMPTY ? -EEXIST : -errno, err);
        return 0;
}

static int dir_remove(struct fs *fs, const char *path, struct err *err)
{
        if (unlinkat(dir_of(fs)->root, path, 0) < 0)
                return fs_dir_fail(fs, path, "remove", -errno, err);
        return 0;
}

void fs_dir_attr(const struct stat *st, struct fs_attr *ret)
{
        *ret = (struct fs_attr){.uid = st->st_uid,
                                .gid = st->st_gid,
                                .mode = st->st_mode & 07777,
                                .nlink = (uint32_t)st->st_nlink,
                                .size = (uint64_t)st->st_size,
                                .ctime_s = st->st_ctim.tv_sec,
                                .ctime_ns = (uint32_t)st->st_ctim.tv_nsec,
                                .mtime_s = st->st_mtim.tv_sec,
                                .plain = S_ISREG(st->st_mode)};
}

static int dir_stat(struct fs *fs, const char *path, struct fs_attr *ret, struct err *err)
{
        struct stat st;

        if (fstatat(dir_of(fs)->root, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return fs_dir_fail(fs, path, "look at", -errno, err);
        fs_dir_attr(&st, ret);
        return 0;
}

struct syncing {
        int root, r;
        const char *path;
        pthread_t thread;
        bool threaded;
};

static void *sync_one(void *arg)
{
        struct syncing *s = arg;
        _cleanup_(closep) int fd = openat(s->root, s->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

        s->r = fd < 0 || fsync(fd) < 0 ? -errno : 0;
        return NULL;
}

/* Each on a thread of its own: the kernel lets them share one flush of the device, which is nearly all they
 * cost. */
static int dir_sync(struct fs *fs, const char *const *paths, size_t n, struct err *err)
{
        struct syncing s[FS_SYNC_MAX] = {};
        int r = 0;

        for (size_t i = 0; i < n; i++) {
                s[i] = (struct syncing){.root = dir_of(fs)->root, .path = paths[i]};
                s[i].threaded = i + 1 < n && pthread_create(&s[i].thread, NULL, sync_one, &s[i]) == 0;
                if (!s[i].threaded)
                        sync_one(&s[i]);
        }
        for (size_t i = 0; i < n; i++) {
                if (s[i].threaded)
                        pthread_join(s[i].thread, NULL);
                if (s[i].r < 0 && r == 0)
                        r = fs_dir_fail(fs, paths[i], "sync", s[i].r, err);
        }
        return r;
}

static int dir_space(struct fs *fs, uint64_t *ret_total, uint64_t *ret_free, struct err *err)
{
        struct statvfs v;

        if (fstatvfs(dir_of(fs)->root, &v) < 0)
                return fs_dir_fail(fs, "", "measure", -errno, err);
        *ret_total = (uint64_t)v.f_blocks * v.f_frsize;
        *ret_free = (uint64_t)v.f_bavail * v.f_frsize;
        return 0;
}

static void dir_close(struct fs *fs)
{
        struct fs_dir *d = dir_of(fs);

        if (!d)
                return;
        closep(&d->root);
        free(d->path);
        free(d);
}

static const struct fs_ops dir_ops = {
    .mkdir = dir_mkdir,
    .rmdir = dir_rmdir,
    .list = dir_list,
    .put = dir_put,
    .read = dir_read,
    .link = dir_link,
    .rename = dir_rename,
    .remove = dir_remove,
    .stat = dir_stat,
    .sync = dir_sync,
    .space = dir_space,
    .close = dir_close,
};

int fs_dir_new(const char *root, struct fs **ret, struct err *err)
{
        struct fs_dir *d;
        int r;

        if (root[0] != '/')
                return err_set(err, -EINVAL, "dir:%s: the path must be absolute", root);
        d = calloc(1, sizeof(*d));
        if (!d)
                return err_set(err, -ENOMEM, "dir:%s: out of memory", root);
        d->fs = (struct fs){.ops = &dir_ops, .file = &fs_dir_file_ops};
        d->root = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
        r = d->root < 0 ? -errno : 0;
        d->path = realpath(root, NULL);
        if (r == 0 && !d->path)
                r = -errno;
        if (r < 0) {
                dir_close(&d->fs);
                if (r == -ENOENT) /* not made here: a mistyped path, or a file system that is not mounted */
                        return err_set(
                            err, r, "dir:%s: no such directory; mount it, or create it (mkdir -p -m 755 %s)",
                            root, root);
                return err_set(err, r, "dir:%s: cannot open: %s", root, strerror(-r));
        }
        *ret = &d->fs;
        return 0;
}

const char *fs_dir_path(struct fs *fs)
{
        return dir_of(fs)->path;
}

int fs_dir_root(struct fs *fs)
{
        return dir_of(fs)->root;
}

int fs_dir_symlink(struct fs *fs, const char *target, const char *path, struct err *err)
{
        int root = dir_of(fs)->root;
        char temporary[512];

        snprintf(temporary, sizeof(temporary), "tmp/link-%016llx", (unsigned long long)random_u64());
        if (symlinkat(target, root, temporary) < 0)
                return fs_dir_fail(fs, temporary, "create", -errno, err);
        if (renameat(root, temporary, root, path) < 0) {
                int r = -errno;

                unlinkat(root, temporary, 0);
                return fs_dir_fail(fs, path, "point to the new name", r, err);
        }
        return 0;
}
