/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/probe-fs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"

struct probe probe;
static const struct fs_ops *real;
static const struct fs_file_ops *real_file;
static struct fs_ops ops;
static struct fs_file_ops file_ops;

/* The fault's answer, or 0. */
static int step(const char *op, const char *path, struct err *err)
{
        size_t len = strlen(probe.log);

        snprintf(probe.log + len, sizeof(probe.log) - len, "%s %s\n", op, path);
        if (!probe.op || !streq(probe.op, op) || probe.times == 0)
                return 0;
        if (probe.skip > 0) {
                probe.skip--;
                return 0;
        }
        probe.times--;
        if (probe.before)
                probe.before();
        return probe.answer < 0 ? err_set(err, probe.answer, "%s %s: error %d", op, path, -probe.answer) : 0;
}

#define STEP(op, path, call)                                                                                \
        do {                                                                                                \
                int fault_ = step(op, path, err);                                                           \
                if (fault_ < 0 && probe.done)                                                               \
                        (void)(call);                                                                       \
                return fault_ < 0 ? fault_ : (call);                                                        \
        } while (0)

static int on_mkdir(struct fs *fs, const char *path, uint32_t mode, struct err *err)
{
        STEP("mkdir", path, real->mkdir(fs, path, mode, err));
}

static int on_rmdir(struct fs *fs, const char *path, struct err *err)
{
        STEP("rmdir", path, real->rmdir(fs, path, err));
}

static int on_list(struct fs *fs, const char *path, fs_name_cb cb, void *arg, struct err *err)
{
        STEP("list", path, real->list(fs, path, cb, arg, err));
}

static int on_put(struct fs *fs, const char *path, const void *data, size_t len,
                  const struct fs_owner *owner, bool durable, struct err *err)
{
        STEP(durable ? "put-durable" : "put", path, real->put(fs, path, data, len, owner, durable, err));
}

static int on_read(struct fs *fs, const char *folder, const char *const *names, size_t n, size_t max,
                   fs_text_cb cb, void *arg, struct err *err)
{
        STEP("read", folder, real->read(fs, folder, names, n, max, cb, arg, err));
}

static int on_link(struct fs *fs, const char *from, const char *to, struct err *err)
{
        STEP("link", to, real->link(fs, from, to, err));
}

static int on_rename(struct fs *fs, const char *from, const char *to, struct err *err)
{
        STEP("rename", to, real->rename(fs, from, to, err));
}

static int on_remove(struct fs *fs, const char *path, struct err *err)
{
        STEP("remove", path, real->remove(fs, path, err));
}

static int on_stat(struct fs *fs, const char *path, struct fs_attr *ret, struct err *err)
{
        STEP("stat", path, real->stat(fs, path, ret, err));
}

static int on_sync(struct fs *fs, const char *const *paths, size_t n, struct err *err)
{
        for (size_t i = 0; i < n; i++) {
                int r = step("sync", paths[i], err);

                if (r < 0)
                        return r;
        }
        return real->sync(fs, paths, n, err);
}

static int on_space(struct fs *fs, uint64_t *ret_total, uint64_t *ret_free, struct err *err)
{
        int r = step("space", "", err);

        if (r < 0)
                return r;
        r = real->space(fs, ret_total, ret_free, err);
        if (probe.left != UINT64_MAX)
                *ret_free = probe.left;
        return r;
}

static int on_create(struct fs *fs, const char *path, uint64_t size, struct fs_file **ret, struct err *err)
{
        STEP("create", path, real_file->create(fs, path, size, ret, err));
}

static int on_open(struct fs *fs, const char *path, bool write, struct fs_file **ret, uint64_t *ret_size,
                   struct err *err)
{
        STEP(write ? "open-write" : "open", path, real_file->open(fs, path, write, ret, ret_size, err));
}

static int on_file_read(struct fs_file *f, void *buf, size_t len, uint64_t offset, struct err *err)
{
        STEP("file-read", "", real_file->read(f, buf, len, offset, err));
}

static int on_file_write(struct fs_file *f, const void *buf, size_t len, uint64_t offset, struct err *err)
{
        STEP("file-write", "", real_file->write(f, buf, len, offset, err));
}

static int on_resize(struct fs_file *f, uint64_t size, struct err *err)
{
        STEP("resize", "", real_file->resize(f, size, err));
}

static int on_seal(struct fs_file *f, const struct fs_owner *owner, struct err *err)
{
        STEP("seal", "", real_file->seal(f, owner, err));
}

static int on_attr(struct fs_file *f, struct fs_attr *ret, struct err *err)
{
        int r = step("attr", "", err);

        if (r == 0)
                r = real_file->attr(f, ret, err);
        ret->size += probe.change.size;
        ret->ctime_s += probe.change.ctime_s;
        ret->ctime_ns += probe.change.ctime_ns;
        ret->mtime_s += probe.change.mtime_s;
        return r;
}

void probe_clear(void)
{
        probe.op = NULL;
        probe.skip = probe.times = 0;
        probe.answer = 0;
        probe.done = false;
        probe.before = NULL;
        probe.log[0] = '\0';
        probe.change = (struct fs_attr){};
        probe.left = UINT64_MAX;
}

void probe_fail(const char *op, int answer)
{
        probe_clear();
        probe.op = op;
        probe.times = 1;
        probe.answer = answer;
}

bool probe_logged(const char *text)
{
        return strstr(probe.log, text) != NULL;
}

static int count(void *arg, const char *name)
{
        ++*(unsigned *)arg;
        return 0;
}

unsigned probe_names(const char *path)
{
        unsigned n = 0;

        return real->list(probe.fs, path, count, &n, NULL) < 0 ? UINT32_MAX : n;
}

int probe_shell(const char *command)
{
        _cleanup_(freep) char *text = str_printf("cd %s && %s", probe.folder, command);

        return text ? system(text) : -1;
}

int probe_begin(void **state)
{
        char url[80];

        probe = (struct probe){.left = UINT64_MAX};
        strcpy(probe.folder, "/tmp/test-store-probe-XXXXXX");
        if (!mkdtemp(probe.folder))
                return -1;
        snprintf(url, sizeof(url), "dir:%s", probe.folder);
        if (store_open(url, NULL, &probe.store, NULL) < 0 || store_prepare(probe.store, NULL) < 0)
                return -1;
        probe.fs = files_of(probe.store)->fs;
        real = probe.fs->ops;
        real_file = probe.fs->file;
        ops = *real;
        ops.mkdir = on_mkdir;
        ops.rmdir = on_rmdir;
        ops.list = on_list;
        ops.put = on_put;
        ops.read = on_read;
        ops.link = on_link;
        ops.rename = on_rename;
        ops.remove = on_remove;
        ops.stat = on_stat;
        ops.sync = on_sync;
        ops.space = on_space;
        file_ops = *real_file;
        file_ops.create = on_create;
        file_ops.open = on_open;
        file_ops.read = on_file_read;
        file_ops.write = on_file_write;
        file_ops.resize = on_resize;
        file_ops.seal = on_seal;
        file_ops.attr = on_attr;
        probe.fs->ops = &ops;
        probe.fs->file = &file_ops;
        return 0;
}

int probe_end(void **state)
{
        probe.store = store_close(probe.store);
        return probe_shell("cd / && rm -rf \"$OLDPWD\"");
}
