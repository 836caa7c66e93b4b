/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/files.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"

/*
 * On NFS the server itself refuses everybody but the owner: every QEMU start has a user of its own, and its
 * disks are that user's with mode 0600. docs/ownership.md, "NFS".
 */
struct paths {
        size_t n;
        char **path;
};

static void paths_done(struct paths *p)
{
        for (size_t i = 0; i < p->n; i++)
                free(p->path[i]);
        free(p->path);
}

static int paths_init(struct paths *ret, const char *instance, const struct lease *lease,
                      const struct disk_spec *disks, size_t n_disks)
{
        char folder[FILES_PATH_MAX];

        files_lease_path(instance, lease, folder);
        *ret = (struct paths){.path = calloc(n_disks, sizeof(*ret->path))};
        if (!ret->path)
                return -ENOMEM;
        for (; ret->n < n_disks; ret->n++) {
                char name[24];

                files_disk_name(&disks[ret->n], name);
                ret->path[ret->n] = str_printf("%s/%s", folder, name);
                if (!ret->path[ret->n])
                        return -ENOMEM;
        }
        return 0;
}

static int own(struct store *s, const char *instance, const struct lease *mine, const struct fs_taking *t,
               const struct disk_spec *disks, size_t n_disks, struct err *err)
{
        _cleanup_(paths_done) struct paths p = {};
        int r = paths_init(&p, instance, mine, disks, n_disks);

        if (r < 0)
                return err_set(err, r, "instance %s: out of memory", instance);
        r = fs_nfs_own(files_of(s)->fs, (const char *const *)p.path, p.n, t, err);
        if (r == -ENOENT)
                return err_set(err, -ESTALE, "instance %s: epoch %" PRIu64 " of host %u has passed",
                               instance, mine->epoch, mine->host);
        return r < 0 ? err_wrap(err, r, "instance %s", instance) : 0;
}

static int nfs_fence(struct store *s, const char *instance, const struct lease *mine,
                     const struct start *start, const struct disk_spec *disks, size_t n_disks,
                     struct err *err)
{
        const struct fs_taking t = {.take = FS_TAKE_ANY, .uid = start->uid, .mode = 0600};

        if (start->uid == 0)
                return err_set(err, -EINVAL, "instance %s: a start as root cannot be fenced", instance);
        return own(s, instance, mine, &t, disks, n_disks, err);
}

static int nfs_grant(struct store *s, const char *instance, const struct lease *mine,
                     const struct start *destination, const struct disk_spec *disks, size_t n_disks,
                     struct err *err)
{
        const struct fs_taking t = {.take = FS_TAKE_NOTHING, .gid = destination->gid, .mode = 0660};

        if (destination->gid == 0)
                return err_set(err, -EINVAL, "instance %s: this start is no migration attempt's", instance);
        return own(s, instance, mine, &t, disks, n_disks, err);
}

/* The name first, and last the owner: fenced by nobody else since. */
static int nfs_gate(struct store *s, const char *instance, const struct lease *mine,
                    const struct start *start, const struct disk_spec *disks, size_t n_disks,
                    struct err *err)
{
        _cleanup_(paths_done) struct paths p = {};
        struct fs *fs = files_of(s)->fs;
        int r = paths_init(&p, instance, mine, disks, n_disks);

        if (r < 0)
                return err_set(err, r, "instance %s: out of memory", instance);
        for (size_t i = 0; i < p.n; i++) {
                struct fs_attr a;

                r = fs->ops->stat(fs, p.path[i], &a, err);
                if (r == -ENOENT)
                        return err_set(err, -EACCES, "instance %s: another host owns the disks", instance);
                if (r < 0)
                        return err_wrap(err, r, "instance %s", instance);
                if (a.uid != start->uid)
                        return err_set(err, -EACCES,
                                       "instance %s: disk %s belongs to user %u, this start is %u", instance,
                                       disks[i].name, a.uid, start->uid);
        }
        return 0;
}

/* The server's answer is the same that it gives to a WRITE. A read-only disk is nobody's to write. */
static int nfs_may_write(struct store *s, const char *instance, const struct lease *mine,
                         const struct start *start, const struct disk_spec *disks, size_t n_disks,
                         struct err *err)
{
        _cleanup_(paths_done) struct paths p = {};
        int r = paths_init(&p, instance, mine, disks, n_disks);
        size_t n = 0;

        if (r < 0)
                return err_set(err, r, "instance %s: out of memory", instance);
        for (size_t i = 0; i < n_disks; i++) {
                char *path = p.path[i];

                if (disks[i].content)
                        continue;
                p.path[i] = p.path[n];
                p.path[n++] = path;
        }
        r = fs_nfs_may_write(files_of(s)->fs, (const char *const *)p.path, n, start->uid, start->gid, err);
        if (r == -ENOENT)
                return err_set(err, -EACCES, "instance %s: another host owns the disks", instance);
        return r < 0 ? err_wrap(err, r, "instance %s", instance) : 0;
}

static int nfs_commit(struct store *s, const char *instance, const struct commit_claim *c,
                      const struct disk_spec *disks, size_t n_disks, struct lease *ret, struct err *err)
{
        const struct fs_taking t = {
            .take = FS_TAKE_FROM, .uid = c->start->uid, .from = c->last->uid, .mode = 0600};
        int r;

        if (c->start->uid == 0)
                return err_set(err, -EINVAL, "instance %s: a start as root cannot be fenced", instance);
        r = files_lease_claim(s, instance, &c->from, c->host, c->again, ret, err);
        if (r >= 0)
                r = own(s, instance, ret, &t, disks, n_disks, err);
        if (r == -EPERM)
                return err_wrap(err, -ESTALE, "lost");
        return r < 0 ? r : nfs_gate(s, instance, ret, c->start, disks, n_disks, err);
}

static int nfs_attach(struct store *s, const char *instance, const struct lease *lease,
                      const struct start *start, const struct disk_spec *disks, size_t n_disks,
                      struct attach *ret, struct err *err)
{
        struct fs *fs = files_of(s)->fs;
        char folder[FILES_PATH_MAX];

        files_lease_path(instance, lease, folder);
        for (size_t i = 0; i < n_disks; i++) {
                struct attach *a = &ret[i];
                char name[24];

                files_disk_name(&disks[i], name);
                a->kind = ATTACH_NFS;
                snprintf(a->server, sizeof(a->server), "%s", fs_nfs_server(fs));
                snprintf(a->path, sizeof(a->path), "%s/%s/%s", fs_nfs_path(fs), folder, name);
                a->uid = start->uid;
                a->gid = start->gid;
                a->read_only = disks[i].content != NULL;
                a->qcow2 = !disks[i].content;
                a->has_backing = a->qcow2 && disks[i].image;
                if (!a->has_backing)
                        continue;
                snprintf(a->backing_path, sizeof(a->backing_path), "%s/images/%s.raw", fs_nfs_path(fs),
                         disks[i].image);
                a->backing_uid = files_image_uid(disks[i].image);
        }
        return 0;
}

const struct engine_leases files_leases_nfs = {
    .create = files_lease_create,
    .find = files_lease_find,
    .list = files_lease_list,
    .claim = files_lease_claim,
    .fence = nfs_fence,
    .grant = nfs_grant,
    .gate = nfs_gate,
    .may_write = nfs_may_write,
    .commit = nfs_commit,
    .remove = files_lease_remove,
};

const struct engine_starts files_starts_nfs = {
    .attach = nfs_attach,
};

/* --- the self-test: the first user's write is refused once the file is the second's
 * ---------------------------------- */

#define FIRST_UID 0x20000001
#define SECOND_UID 0x20000002

static int doubt(struct err *err, const char *text)
{
        err_set(err, 0, "%s", text);
        return 0;
}

static int try_fence(struct fs *fs, const char *path, struct fs_nfs_writer *first,
                     struct fs_nfs_writer *second, struct err *err)
{
        static const struct fs_taking first_takes = {.take = FS_TAKE_ANY, .uid = FIRST_UID, .mode = 0600};
        static const struct fs_taking second_takes = {.take = FS_TAKE_ANY, .uid = SECOND_UID, .mode = 0600};
        struct err why = {};
        int r = fs_nfs_own(fs, &path, 1, &first_takes, &why);

        if (r == -EACCES || r == -EINVAL)
                return doubt(err, "the server does not let root give a file away, so it cannot fence: set "
                                  "no_root_squash on "
                                  "the export");
        if (r >= 0)
                r = fs_nfs_try_write(fs, path, FIRST_UID, first, &why);
        if (r == -EACCES)
                return doubt(err, "the server refuses the write of a file's owner, so no guest could run: "
                                  "it must take users "
                                  "as the client names them (sec=sys, no all_squash)");
        if (r >= 0)
                r = fs_nfs_own(fs, &path, 1, &second_takes, &why);
        if (r < 0)
                return err_set(err, r, "self-test: %s", err_text(&why));
        r = fs_nfs_try_write(fs, path, FIRST_UID, first, &why);
        if (r >= 0)
                return doubt(err, "the server took a write from a user who had lost the file, so it cannot "
                                  "fence: have it check "
                                  "permissions at every WRITE, and squash nobody");
        if (r != -EACCES)
                return err_set(err, r, "self-test: %s", err_text(&why));
        r = fs_nfs_try_write(fs, path, SECOND_UID, second, &why);
        if (r < 0)
                return err_set(err, r, "self-test: the new owner cannot write: %s", err_text(&why));
        return 1;
}

int files_selftest_nfs(struct store *s, struct err *err)
{
        static const struct fs_owner owner = {.mode = 0600};
        struct fs *fs = files_of(s)->fs;
        struct fs_nfs_writer first = {}, second = {};
        char path[FILES_PATH_MAX];
        int r;

        files_temporary("selftest", path);
        r = fs->ops->put(fs, path, "0", 1, &owner, true, err);
        if (r == -ENOENT) { /* an export that store_prepare() has not seen, or was not let into */
                snprintf(path, sizeof(path), "selftest-%016" PRIx64, random_u64());
                r = fs->ops->put(fs, path, "0", 1, &owner, true, err);
        }
        if (r == -EACCES)
                return doubt(err, "the server does not let root write, so nothing can be kept there: set "
                                  "no_root_squash (and rw) "
                                  "on the export");
        if (r < 0)
                return err_wrap(err, r, "self-test");
        r = try_fence(fs, path, &first, &second, err);
        fs_nfs_writer_done(&first);
        fs_nfs_writer_done(&second);
        fs->ops->remove(fs, path, NULL);
        return r;
}
