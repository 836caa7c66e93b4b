/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/power-nfs.h"

#include <errno.h>
#include <string.h>

#include "common/util.h"

/*
 * The nfs engine on the file system of power-fs.c: the linker's --wrap puts these in the place of fs-nfs*.c.
 */
struct power_server power_server;

int __wrap_fs_nfs_new(const char *place, unsigned timeout_ms, struct fs **ret, struct err *err);
const char *__wrap_fs_nfs_server(struct fs *fs);
const char *__wrap_fs_nfs_path(struct fs *fs);
int __wrap_fs_nfs_own(struct fs *fs, const char *const *paths, size_t n, const struct fs_taking *t,
                      struct err *err);
int __wrap_fs_nfs_try_write(struct fs *fs, const char *path, uint32_t uid, struct fs_nfs_writer *w,
                            struct err *err);
void __wrap_fs_nfs_writer_done(struct fs_nfs_writer *w);

int __wrap_fs_nfs_new(const char *place, unsigned timeout_ms, struct fs **ret, struct err *err)
{
        *ret = power_fs();
        return 0;
}

const char *__wrap_fs_nfs_server(struct fs *fs)
{
        return "server";
}

const char *__wrap_fs_nfs_path(struct fs *fs)
{
        return "/export";
}

/* As fs-nfs-own.c has it. */
static int own(const char *path, const struct fs_taking *t)
{
        struct fs_attr a = {};
        int r = power_stat(path, &a);

        if (r == 0 && t->take == FS_TAKE_ANY && a.uid == t->uid)
                return -EEXIST;
        if (r == 0 && t->take == FS_TAKE_FROM && a.uid != t->uid && a.uid != t->from)
                return -EPERM;
        return power_own(path, t->take == FS_TAKE_NOTHING ? -1 : (int64_t)t->uid, t->gid, t->mode);
}

int __wrap_fs_nfs_own(struct fs *fs, const char *const *paths, size_t n, const struct fs_taking *t,
                      struct err *err)
{
        power_server.owns++;
        if (power_server.own_answer < 0)
                return err_set(err, power_server.own_answer, "owner: error %d", -power_server.own_answer);
        for (size_t i = 0; i < n && !power_server.own_nothing; i++) {
                int r = own(paths[i], t);

                if (r < 0)
                        return err_set(err, r, "%s: error %d", paths[i], -r);
        }
        return 0;
}

int __wrap_fs_nfs_try_write(struct fs *fs, const char *path, uint32_t uid, struct fs_nfs_writer *w,
                            struct err *err)
{
        struct fs_attr a = {};
        int r = power_server.writes < ARRAY_SIZE(power_server.write_answer)
                    ? power_server.write_answer[power_server.writes]
                    : 0;

        power_server.writes++;
        if (r == 0)
                r = power_stat(path, &a);
        if (r == 0 && a.uid != uid && !power_server.takes_all)
                r = -EACCES;
        return r < 0 ? err_set(err, r, "%s: error %d", path, -r) : 0;
}

void __wrap_fs_nfs_writer_done(struct fs_nfs_writer *w)
{
}
