/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/files.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/util.h"

/*
 * On a directory the fence is QEMU's own image lock, and the lock driver's second one until the vCPUs run.
 * QEMU opens its image again by path after the gate has renamed the folder, so that path leads through a
 * symbolic link that belongs to this one QEMU start. docs/ownership.md, "Directory".
 */
static int link_in(struct files *f, const char *shard, const char *link, const char *target, struct err *err)
{
        int r = fs_dir_symlink(f->fs, target, link, err);

        if (r == -ENOENT) {
                r = files_mkdir(f, shard, 0711, err);
                if (r >= 0)
                        r = fs_dir_symlink(f->fs, target, link, err);
        }
        return r;
}

static int link_start(struct store *s, const char *instance, const struct lease *lease,
                      const struct start *start, struct err *err)
{
        struct files *f = files_of(s);
        char path[FILES_PATH_MAX], shard[FILES_PATH_MAX], link[FILES_PATH_MAX + UUID_LEN + 2],
            target[FILES_PATH_MAX + 8];
        int r;

        files_lease_path(instance, lease, path);
        snprintf(target, sizeof(target), "../../%s", path);
        files_shard("starts", start->id, shard);
        snprintf(link, sizeof(link), "%s/%s", shard, start->id);
        do
                r = link_in(f, shard, link, target, err);
        while (r == -ENOSPC && files_reserve_use(f));
        return r;
}

static int dir_fence(struct store *s, const char *instance, const struct lease *mine,
                     const struct start *start, const struct disk_spec *disks, size_t n_disks,
                     struct err *err)
{
        int r = link_start(s, instance, mine, start, err);

        if (r < 0)
                return err_wrap(err, r, "instance %s", instance);
        return files_lease_mine(s, instance, mine, err); /* after it: what is answered was true at the end */
}

static int dir_grant(struct store *s, const char *instance, const struct lease *mine,
                     const struct start *destination, const struct disk_spec *disks, size_t n_disks,
                     struct err *err)
{
        int r = link_start(s, instance, mine, destination, err);

        if (r < 0)
                return err_wrap(err, r, "instance %s", instance);
        return files_lease_mine(s, instance, mine, err);
}

static int dir_gate(struct store *s, const char *instance, const struct lease *mine,
                    const struct start *start, const struct disk_spec *disks, size_t n_disks,
                    struct err *err)
{
        int r = files_lease_mine(s, instance, mine, err);

        return r == -ESTALE ? err_set(err, -EACCES, "instance %s: another host owns the disks", instance)
                            : r;
}

/* QEMU's lock on the disks is the fence, and it holds that as long as it lives: a write of it is never
 * refused. So the name decides. */
static int dir_may_write(struct store *s, const char *instance, const struct lease *mine,
                         const struct start *start, const struct disk_spec *disks, size_t n_disks,
                         struct err *err)
{
        return dir_gate(s, instance, mine, start, disks, n_disks, err);
}

static int dir_attach(struct store *s, const char *instance, const struct lease *lease,
                      const struct start *start, const struct disk_spec *disks, size_t n_disks,
                      struct attach *ret, struct err *err)
{
        const char *root = fs_dir_path(files_of(s)->fs);
        int r = link_start(s, instance, lease, start, err);

        if (r < 0)
                return err_wrap(err, r, "instance %s", instance);
        for (size_t i = 0; i < n_disks; i++) {
                struct attach *a = &ret[i];
                char name[24];

                files_disk_name(&disks[i], name);
                a->kind = ATTACH_FILE;
                a->qcow2 = a->has_backing = false;
                a->read_only = disks[i].content != NULL;
                snprintf(a->path, sizeof(a->path), "%s/starts/%.2s/%s/%s", root, start->id, start->id, name);
                a->qcow2 = !disks[i].content;
                a->has_backing = a->qcow2 && disks[i].image;
                if (a->has_backing)
                        snprintf(a->backing_path, sizeof(a->backing_path), "%s/images/%s.raw", root,
                                 disks[i].image);
        }
        return 0;
}

static int lock_make(struct files *f, const char *shard, const char *path, struct err *err)
{
        _cleanup_(closep) int fd =
            openat(fs_dir_root(f->fs), path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

        if (fd < 0 && errno == ENOENT) {
                int r = files_mkdir(f, shard, 0700, err);

                if (r < 0)
                        return r;
                fd = openat(fs_dir_root(f->fs), path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        }
        return fd < 0 ? err_set(err, -errno, "%s: cannot make the lock file: %s", path, strerror(errno)) : 0;
}

static int dir_lock_path(struct store *s, const char *instance, char **ret, struct err *err)
{
        struct files *f = files_of(s);
        char shard[FILES_PATH_MAX];
        _cleanup_(freep) char *path = NULL, *relative = NULL;
        int r;

        files_shard("locks", instance, shard);
        relative = str_printf("%s/%s", shard, instance);
        path = str_printf("%s/%s", fs_dir_path(f->fs), relative ? relative : "");
        if (!relative || !path)
                return err_set(err, -ENOMEM, "instance %s: out of memory", instance);
        do
                r = lock_make(f, shard, relative, err);
        while (r == -ENOSPC && files_reserve_use(f));
        if (r < 0)
                return err_wrap(err, r, "instance %s", instance);
        *ret = take(path);
        return 0;
}

static void dir_forget(struct store *s, const char *instance, const struct start *start)
{
        char path[FILES_PATH_MAX];

        snprintf(path, sizeof(path), "starts/%.2s/%s", start->id, start->id);
        files_of(s)->fs->ops->remove(files_of(s)->fs, path, NULL);
}

/* The lock file goes with the disks: whoever still holds it open passes no gate, for there is no name to
 * own. */
static int dir_remove_disks(struct store *s, const char *instance, const struct lease *mine,
                            const struct disk_spec *disks, size_t n_disks, struct err *err)
{
        char path[FILES_PATH_MAX];
        int r = files_lease_remove(s, instance, mine, disks, n_disks, err);

        if (r < 0)
                return r;
        snprintf(path, sizeof(path), "locks/%.2s/%s", instance, instance);
        files_of(s)->fs->ops->remove(files_of(s)->fs, path, NULL);
        return 0;
}

const struct engine_leases files_leases_dir = {
    .create = files_lease_create,
    .find = files_lease_find,
    .list = files_lease_list,
    .claim = files_lease_claim,
    .fence = dir_fence,
    .grant = dir_grant,
    .gate = dir_gate,
    .may_write = dir_may_write,
    .remove = dir_remove_disks,
};

const struct engine_starts files_starts_dir = {
    .attach = dir_attach,
    .lock_path = dir_lock_path,
    .forget = dir_forget,
};

/* --- the self-test: a second start is refused while the first holds the lock, and succeeds after its death
 * ----------- */

/* QEMU's image lock (block/file-posix.c): shared locks on bytes 100+ say what is used, on 200+ what may not
 * be by others. */
#define LOCK_BYTE 100
#define LOCK_UNSHARED 200
#define LOCK_BIT_WRITE 1

static int image_lock(int fd)
{
        struct flock mine[] = {{.l_type = F_RDLCK, .l_start = LOCK_BYTE + LOCK_BIT_WRITE, .l_len = 1},
                               {.l_type = F_RDLCK, .l_start = LOCK_UNSHARED + LOCK_BIT_WRITE, .l_len = 1}};

        for (size_t i = 0; i < ARRAY_SIZE(mine); i++)
                if (fcntl(fd, F_OFD_SETLK, &mine[i]) < 0)
                        return -errno;
        for (size_t i = 0; i < ARRAY_SIZE(mine); i++) {
                struct flock others = mine[i];

                others.l_type = F_WRLCK; /* would conflict with anybody's shared lock there */
                if (fcntl(fd, F_OFD_GETLK, &others) < 0)
                        return -errno;
                if (others.l_type != F_UNLCK)
                        return -EAGAIN;
        }
        return 0;
}

int files_unwritten_dir(struct store *s, const char *path, struct err *err)
{
        struct flock others = {.l_type = F_WRLCK, .l_start = LOCK_BYTE + LOCK_BIT_WRITE, .l_len = 1};
        _cleanup_(closep) int fd =
            openat(fs_dir_root(files_of(s)->fs), path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

        if (fd < 0)
                return err_set(err, -errno, "%s: cannot open: %s", path, strerror(errno));
        if (fcntl(fd, F_OFD_GETLK, &others) < 0)
                return err_set(err, -errno, "%s: cannot look at its locks: %s", path, strerror(errno));
        return others.l_type == F_UNLCK ? 0
                                        : err_set(err, -EBUSY, "%s: a QEMU has it open for writing", path);
}

static int try_locks(int root, const char *path, struct err *err)
{
        _cleanup_(closep) int first = openat(root, path, O_RDWR | O_CLOEXEC);
        _cleanup_(closep) int second = openat(root, path, O_RDWR | O_CLOEXEC);
        _cleanup_(closep) int third = -1;
        int r;

        if (first < 0 || second < 0)
                return err_set(err, -errno, "self-test: cannot open the scratch file: %s", strerror(errno));
        r = image_lock(first);
        if (r < 0) {
                err_set(err, 0,
                        "the file system of this directory has no open file description locks (%s), so "
                        "nothing stops a second QEMU; put the store on a local file system or one with "
                        "POSIX locks",
                        strerror(-r));
                return 0;
        }
        if (image_lock(second) == 0) {
                err_set(
                    err, 0,
                    "a second lock on the same file was granted, so nothing stops a second QEMU; mount this "
                    "file system with cluster-wide POSIX locks");
                return 0;
        }
        close(take_fd(&second)); /* with what it did get */
        close(take_fd(&first));  /* the first one's death */
        third = openat(root, path, O_RDWR | O_CLOEXEC);
        if (third < 0)
                return err_set(err, -errno, "self-test: cannot open the scratch file: %s", strerror(errno));
        r = image_lock(third);
        if (r < 0) {
                err_set(
                    err, 0,
                    "the lock of a QEMU that died stays held (%s), so no failover could start; mount this "
                    "file system with locks that end with their process",
                    strerror(-r));
                return 0;
        }
        return 1;
}

int files_selftest_dir(struct store *s, struct err *err)
{
        static const struct fs_owner owner = {.mode = 0600};
        struct files *f = files_of(s);
        char path[FILES_PATH_MAX];
        int r;

        files_temporary("selftest", path);
        r = f->fs->ops->put(f->fs, path, "0", 1, &owner, true, err);
        if (r < 0)
                return err_wrap(err, r, "self-test");
        r = try_locks(fs_dir_root(f->fs), path, err);
        f->fs->ops->remove(f->fs, path, NULL);
        return r;
}
