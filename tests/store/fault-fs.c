/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/faults.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "imaged/store/files.h"

/*
 * Around every operation that the dir engine asks of its file system, real as they are: a mounted cluster
 * file system loses an answer, or is late, like any server.
 */
static const struct fs_ops *ops;
static const struct fs_file_ops *file_ops;

static unsigned under_way; /* late ones */

struct late {
        struct fs *fs;
        int (*two)(struct fs *fs, const char *from, const char *to, struct err *err);
        int (*one)(struct fs *fs, const char *path, struct err *err);
        char from[FILES_PATH_MAX * 2], to[FILES_PATH_MAX * 2];
};

static void *late_run(void *arg)
{
        struct late *l = arg;

        fault_pause_late();
        if (l->two)
                l->two(l->fs, l->from, l->to, NULL);
        else
                l->one(l->fs, l->from, NULL);
        free(l);
        __atomic_sub_fetch(&under_way, 1, __ATOMIC_SEQ_CST);
        return NULL;
}

static void late_start(const struct late *from)
{
        struct late *l = malloc(sizeof(*l));
        pthread_t thread;

        if (!l)
                abort();
        *l = *from;
        __atomic_add_fetch(&under_way, 1, __ATOMIC_SEQ_CST);
        if (pthread_create(&thread, NULL, late_run, l) != 0)
                abort();
        pthread_detach(thread);
}

static int before(const char *op, enum fault *ret, struct err *err)
{
        *ret = fault_next(op);
        if (*ret == FAULT_DELAY)
                fault_pause();
        if (*ret == FAULT_FAIL)
                return err_set(err, -EIO, "%s: an injected I/O error", op);
        if (*ret == FAULT_DROP || *ret == FAULT_LATE)
                return err_set(err, -ETIMEDOUT, "%s: an injected loss", op);
        return 0;
}

static int after(const char *op, enum fault f, int r, struct err *err)
{
        return f == FAULT_LOSE ? err_set(err, -ETIMEDOUT, "%s: an injected loss of the answer", op) : r;
}

#define CHANGE(op, call)                                                                                    \
        __extension__({                                                                                     \
                enum fault f_;                                                                              \
                int r_ = before(op, &f_, err);                                                              \
                r_ < 0 ? r_ : after(op, f_, (call), err);                                                   \
        })
/* What only reads: lost is lost, before its callback has seen anything. */
#define LOOK(op, call)                                                                                      \
        __extension__({                                                                                     \
                enum fault f_;                                                                              \
                int r_ = before(op, &f_, err);                                                              \
                if (r_ == 0)                                                                                \
                        r_ = after(op, f_, 0, err);                                                         \
                r_ < 0 ? r_ : (call);                                                                       \
        })

static int change_one(const char *op, int (*call)(struct fs *, const char *, struct err *), struct fs *fs,
                      const char *path, struct err *err)
{
        enum fault f;
        int r = before(op, &f, err);

        if (f == FAULT_LATE) {
                struct late l = {.fs = fs, .one = call};

                snprintf(l.from, sizeof(l.from), "%s", path);
                late_start(&l);
        }
        return r < 0 ? r : after(op, f, call(fs, path, err), err);
}

static int change_two(const char *op, int (*call)(struct fs *, const char *, const char *, struct err *),
                      struct fs *fs, const char *from, const char *to, struct err *err)
{
        enum fault f;
        int r = before(op, &f, err);

        if (f == FAULT_LATE) {
                struct late l = {.fs = fs, .two = call};

                snprintf(l.from, sizeof(l.from), "%s", from);
                snprintf(l.to, sizeof(l.to), "%s", to);
                late_start(&l);
        }
        return r < 0 ? r : after(op, f, call(fs, from, to, err), err);
}

static int mkdir_(struct fs *fs, const char *path, uint32_t mode, struct err *err)
{
        return CHANGE("mkdir", ops->mkdir(fs, path, mode, err));
}

static int rmdir_(struct fs *fs, const char *path, struct err *err)
{
        return change_one("rmdir", ops->rmdir, fs, path, err);
}

static int list(struct fs *fs, const char *path, fs_name_cb cb, void *arg, struct err *err)
{
        return LOOK("list", ops->list(fs, path, cb, arg, err));
}

static int put(struct fs *fs, const char *path, const void *data, size_t len, const struct fs_owner *owner,
               bool durable, struct err *err)
{
        return CHANGE("put", ops->put(fs, path, data, len, owner, durable, err));
}

static int read_(struct fs *fs, const char *folder, const char *const *names, size_t n, size_t max,
                 fs_text_cb cb, void *arg, struct err *err)
{
        return LOOK("read", ops->read(fs, folder, names, n, max, cb, arg, err));
}

static int link_(struct fs *fs, const char *from, const char *to, struct err *err)
{
        return change_two("link", ops->link, fs, from, to, err);
}

static int rename_(struct fs *fs, const char *from, const char *to, struct err *err)
{
        return change_two("rename", ops->rename, fs, from, to, err);
}

static int remove_(struct fs *fs, const char *path, struct err *err)
{
        return change_one("remove", ops->remove, fs, path, err);
}

static int stat_(struct fs *fs, const char *path, struct fs_attr *ret, struct err *err)
{
        return LOOK("stat", ops->stat(fs, path, ret, err));
}

static int sync_(struct fs *fs, const char *const *paths, size_t n, struct err *err)
{
        return CHANGE("sync", ops->sync(fs, paths, n, err));
}

static int space(struct fs *fs, uint64_t *ret_total, uint64_t *ret_free, struct err *err)
{
        return LOOK("space", ops->space(fs, ret_total, ret_free, err));
}

/* The answer to a create holds the handle: lost, the file stays behind. */
static int create(struct fs *fs, const char *path, uint64_t size, struct fs_file **ret, struct err *err)
{
        enum fault f;
        int r = before("create", &f, err);

        if (r < 0)
                return r;
        r = file_ops->create(fs, path, size, ret, err);
        if (r >= 0 && f == FAULT_LOSE)
                file_ops->close(*ret);
        return after("create", f, r, err);
}

static int open_(struct fs *fs, const char *path, bool write, struct fs_file **ret, uint64_t *ret_size,
                 struct err *err)
{
        return LOOK("open", file_ops->open(fs, path, write, ret, ret_size, err));
}

static int file_read_at(struct fs_file *f, void *buf, size_t len, uint64_t offset, struct err *err)
{
        return LOOK("file-read", file_ops->read(f, buf, len, offset, err));
}

static int file_write_at(struct fs_file *f, const void *buf, size_t len, uint64_t offset, struct err *err)
{
        return CHANGE("file-write", file_ops->write(f, buf, len, offset, err));
}

static int resize(struct fs_file *f, uint64_t size, struct err *err)
{
        return CHANGE("resize", file_ops->resize(f, size, err));
}

static int seal(struct fs_file *f, const struct fs_owner *owner, struct err *err)
{
        return CHANGE("seal", file_ops->seal(f, owner, err));
}

static void close_(struct fs_file *f)
{
        file_ops->close(f);
}

static int poke(struct fs *fs, const char *path, const void *data, size_t len, struct err *err)
{
        return CHANGE("poke", file_ops->poke(fs, path, data, len, err));
}

static void close_fs(struct fs *fs)
{
        /* in a forked process the threads of its parent do not exist, and their number stays as it was */
        for (int i = 0; i < 10 && __atomic_load_n(&under_way, __ATOMIC_SEQ_CST) > 0; i++)
                fault_pause_late();
        ops->close(fs);
}

void fault_fs_put_in(struct store *s)
{
        static const struct fs_ops faulty = {.mkdir = mkdir_,
                                             .rmdir = rmdir_,
                                             .list = list,
                                             .put = put,
                                             .read = read_,
                                             .link = link_,
                                             .rename = rename_,
                                             .remove = remove_,
                                             .stat = stat_,
                                             .sync = sync_,
                                             .space = space,
                                             .close = close_fs};
        static const struct fs_file_ops faulty_file = {.create = create,
                                                       .open = open_,
                                                       .read = file_read_at,
                                                       .resize = resize,
                                                       .write = file_write_at,
                                                       .seal = seal,
                                                       .close = close_,
                                                       .poke = poke};
        struct fs *fs = files_of(s)->fs;

        if (fs->ops == &faulty)
                return;
        ops = fs->ops;
        file_ops = fs->file;
        fs->ops = &faulty;
        fs->file = &faulty_file;
}
