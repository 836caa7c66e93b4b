/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/fs-dir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/util.h"

/*
 * An image is written once and by nobody read soon, so the page cache would only cost: a copy, fresh pages,
 * and a flush of all of it at the end. Blocks that lie as O_DIRECT asks for go past it; the kernel keeps
 * both ways coherent.
 */
#define DIRECT_ALIGN ((size_t)4096) /* enough for most; what a file system refuses goes the other way */

struct fs_file {
        int fd;
        int direct; /* of the same file; -1: the file system has no such thing, or nobody writes */
        atomic_bool direct_works;
};

/* Takes fd. writes: the file is opened again for O_DIRECT, if it can be. */
static int file_new(int fd, bool writes, struct fs_file **ret)
{
        struct fs_file *f = malloc(sizeof(*f));
        char path[32];

        if (!f) {
                close(fd);
                return -ENOMEM;
        }
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        f->fd = fd;
        f->direct = writes ? open(path, O_WRONLY | O_DIRECT | O_CLOEXEC) : -1;
        f->direct_works = f->direct >= 0;
        *ret = f;
        return 0;
}

static int file_create(struct fs *fs, const char *path, uint64_t size, struct fs_file **ret, struct err *err)
{
        int root = dir_of(fs)->root;
        int fd = openat(root, path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600), r = 0;

        if (fd < 0)
                return fs_dir_fail(fs, path, "create", -errno, err);
        if (ftruncate(fd, (off_t)size) < 0) {
                r = -errno;
                close(fd);
        }
        if (r == 0)
                r = file_new(fd, true, ret);
        if (r == 0)
                return 0;
        unlinkat(root, path, 0);
        return fs_dir_fail(fs, path, "create", r, err);
}

static int file_open(struct fs *fs, const char *path, bool write, struct fs_file **ret, uint64_t *ret_size,
                     struct err *err)
{
        int mode = write ? O_RDWR : O_RDONLY, r;
        int fd = openat(dir_of(fs)->root, path, mode | O_NOFOLLOW | O_CLOEXEC);
        struct stat st;

        if (fd < 0)
                return fs_dir_fail(fs, path, "open", -errno, err);
        if (fstat(fd, &st) < 0) {
                r = -errno;
                close(fd);
                return fs_dir_fail(fs, path, "measure", r, err);
        }
        r = file_new(fd, write, ret);
        if (r < 0)
                return fs_dir_fail(fs, path, "open", r, err);
        *ret_size = (uint64_t)st.st_size;
        return 0;
}

static int file_pread(struct fs_file *f, void *buf, size_t len, uint64_t offset, struct err *err)
{
        for (uint8_t *p = buf; len > 0;) {
                ssize_t n = pread(f->fd, p, len, (off_t)offset);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return err_set(err, n < 0 ? -errno : -EIO, "read at %llu: %s",
                                       (unsigned long long)offset,
                                       n < 0 ? strerror(errno) : "the file ends early");
                p += n;
                len -= (size_t)n;
                offset += (uint64_t)n;
        }
        return 0;
}

static bool is_aligned(const void *p, size_t len, uint64_t offset)
{
        return ((uintptr_t)p | len | offset) % DIRECT_ALIGN == 0;
}

static int file_pwrite(struct fs_file *f, const void *buf, size_t len, uint64_t offset, struct err *err)
{
        for (const uint8_t *p = buf; len > 0;) {
                bool direct = f->direct_works && is_aligned(p, len, offset);
                ssize_t n = pwrite(direct ? f->direct : f->fd, p, len, (off_t)offset);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EINVAL && direct) { /* it wants larger blocks, or not at all */
                        f->direct_works = false;
                        continue;
                }
                if (n < 0)
                        return err_set(err, errno == EDQUOT ? -ENOSPC : -errno, "write at %llu: %s",
                                       (unsigned long long)offset, strerror(errno));
                p += n;
                len -= (size_t)n;
                offset += (uint64_t)n;
        }
        return 0;
}

static int file_resize(struct fs_file *f, uint64_t size, struct err *err)
{
        if (ftruncate(f->fd, (off_t)size) < 0)
                return err_set(err, errno == EDQUOT ? -ENOSPC : -errno, "resize: %s", strerror(errno));
        return 0;
}

static int file_seal(struct fs_file *f, const struct fs_owner *owner, struct err *err)
{
        /* the mode first, so that one fsync makes content and mode durable */
        if (fchown(f->fd, owner->uid, owner->gid) < 0 || fchmod(f->fd, owner->mode) < 0 || fsync(f->fd) < 0)
                return err_set(err, errno == EDQUOT ? -ENOSPC : -errno, "make durable: %s", strerror(errno));
        return 0;
}

static void file_close(struct fs_file *f)
{
        if (!f)
                return;
        closep(&f->direct);
        close(f->fd);
        free(f);
}

static int file_poke(struct fs *fs, const char *path, const void *data, size_t len, struct err *err)
{
        _cleanup_(closep) int fd =
            openat(dir_of(fs)->root, path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        ssize_t n;

        if (fd < 0)
                return fs_dir_fail(fs, path, "open", -errno, err);
        n = pwrite(fd, data, len, 0); /* one call, so that a reader sees no half of it */
        if (n != (ssize_t)len)
                return fs_dir_fail(fs, path, "write", n < 0 ? -errno : -EIO, err);
        return 0;
}

/* Step by step, so that no link is followed on the way. O_NONBLOCK: a pipe is opened, and then refused. */
static int open_steps(int root, const char *path)
{
        int at = root, fd;

        for (const char *step = path;;) {
                size_t n = strcspn(step, "/");
                bool last = !step[n];
                char name[NAME_MAX + 1];

                if (n > NAME_MAX) {
                        fd = -1;
                        errno = ENAMETOOLONG;
                } else {
                        snprintf(name, sizeof(name), "%.*s", (int)n, step);
                        fd = openat(at, name,
                                    O_NOFOLLOW | O_CLOEXEC |
                                        (last ? O_RDONLY | O_NONBLOCK : O_PATH | O_DIRECTORY));
                }
                if (fd < 0)
                        fd = -errno;
                if (at != root)
                        close(at);
                if (fd < 0 || last)
                        return fd;
                at = fd;
                step += n + 1;
        }
}

static int file_open_import(struct fs *fs, const char *path, struct fs_file **ret, struct fs_attr *ret_attr,
                            struct err *err)
{
        _cleanup_(closep) int fd = open_steps(dir_of(fs)->root, path);
        struct stat st;
        int r;

        if (fd < 0) {
                r = take_fd(&fd);
                return fs_dir_fail(fs, path, "open", r, err);
        }
        if (fstat(fd, &st) < 0)
                return fs_dir_fail(fs, path, "measure", -errno, err);
        if (!S_ISREG(st.st_mode))
                return err_set(err, -EINVAL, "%s/%s is not a plain file", dir_of(fs)->path, path);
        r = file_new(take_fd(&fd), false, ret);
        if (r < 0)
                return fs_dir_fail(fs, path, "open", r, err);
        fs_dir_attr(&st, ret_attr);
        return 0;
}

static int file_attr(struct fs_file *f, struct fs_attr *ret, struct err *err)
{
        struct stat st;

        if (fstat(f->fd, &st) < 0)
                return err_set(err, -errno, "measure: %s", strerror(errno));
        fs_dir_attr(&st, ret);
        return 0;
}

/* lseek(2). A file system without holes has none. */
static uint64_t file_hole(struct fs_file *f, uint64_t offset)
{
        off_t data = lseek(f->fd, (off_t)offset, SEEK_DATA), end;

        if (data >= 0)
                return (uint64_t)data - offset;
        end = errno == ENXIO ? lseek(f->fd, 0, SEEK_END) : 0;
        return end > (off_t)offset ? (uint64_t)end - offset : 0;
}

const struct fs_file_ops fs_dir_file_ops = {
    .create = file_create,
    .open = file_open,
    .read = file_pread,
    .write = file_pwrite,
    .resize = file_resize,
    .seal = file_seal,
    .close = file_close,
    .poke = file_poke,
    .open_import = file_open_import,
    .attr = file_attr,
    .hole = file_hole,
};
