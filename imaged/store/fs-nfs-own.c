/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/fs-nfs.h"

#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "common/util.h"

/*
 * The fence: LOOKUP of the new name, then one SETATTR that holds only if nothing changed since (its guard is
 * the change time). A SETATTR that arrives late, after somebody else's fence, would take the disks back; so
 *
 * - it goes over a connection of its own, which is never re-established: lost means unknown, and the caller
 * gives up the epoch;
 * - every try looks the name up again, and finds it gone once another host has claimed;
 * - a writer that is busy changes the change time too, so the owner's request goes unguarded after some
 * tries. At worst it then takes the disks from the next owner, whose guest stops on EACCES: a stop, never a
 * second writer, for this caller's own gate fails. The group's request (a grant) has no such claim and stays
 * guarded;
 * - an owner that is the right one already is left out of the request. A source that runs on after a failed
 * migration keeps its uid while its vCPUs run: for that one, to take the disks back late would be a second
 * writer;
 * - a guest that brings its memory along takes the disks from the one start whose memory it has. Another
 * owner has written since, or is about to: a start of another host with the same number.
 */
#define GUARDED_TRIES 4
#define GRANT_TRIES 100

static bool owned(const struct fs_attr *a, const struct fs_taking *t)
{
        return (t->take == FS_TAKE_NOTHING || a->uid == t->uid) && a->gid == t->gid && a->mode == t->mode;
}

/* May `t` have it from that owner? first: no request of ours has been sent yet. */
static int takes_from(const struct fs_taking *t, uint32_t owner, bool first)
{
        if (t->take == FS_TAKE_ANY && owner == t->uid && first)
                return -EEXIST;
        if (t->take == FS_TAKE_FROM && owner != t->uid && owner != t->from)
                return -EPERM;
        return 0;
}

static int own_one(struct fs_nfs *n, struct nfs_conn *c, const char *path, const struct fs_taking *t)
{
        int64_t deadline = clock_ms() + nfs_server_timeout_ms(n->conns);
        int tries = t->take == FS_TAKE_NOTHING ? GRANT_TRIES : GUARDED_TRIES + 1;
        bool first = true;

        for (int i = 0; i < tries;) {
                struct nfs_change wanted = {.uid = -1, .gid = t->gid, .mode = t->mode, .size = -1};
                struct nfs_found found;
                struct fs_attr now;
                bool guarded;
                int r = nfs_lookup_path(n, c, path, &found);

                if (r >= 0)
                        r = takes_from(t, found.attr.uid, first);
                if (r == -EBUSY && nfs_pause(deadline)) /* the LOOKUP was not done; no try of ours */
                        continue;
                if (r < 0)
                        return r;
                if (t->take != FS_TAKE_NOTHING && found.attr.uid != t->uid)
                        wanted.uid = t->uid;
                /* Unguarded it may come after another start's: only where that does no harm. */
                guarded = i < GUARDED_TRIES || t->take == FS_TAKE_NOTHING ||
                          (t->take == FS_TAKE_FROM && wanted.uid >= 0);
                r = nfs3_setattr(c, &found.fh, &wanted, guarded ? &found.attr : NULL);
                first = false;
                if (r >= 0)
                        r = nfs3_getattr(c, &found.fh, &now);
                if (r == -EBUSY && nfs_pause(deadline)) /* not done; no try of ours */
                        continue;
                if (r < 0 && r != -EAGAIN)
                        return r;
                if (r >= 0 && owned(&now, t))
                        return 0;
                i++; /* the guard did not hold, somebody's request came between, or the server did a part
                        only */
        }
        return -EBUSY;
}

int fs_nfs_own(struct fs *fs, const char *const *paths, size_t n_paths, const struct fs_taking *t,
               struct err *err)
{
        struct fs_nfs *n = nfs_of(fs);
        struct nfs_conn *c;
        int r = nfs_conn_new(n->conns, 0, 0, &c, err);

        if (r < 0)
                return r;
        for (size_t i = 0; i < n_paths && r >= 0; i++) {
                r = own_one(n, c, paths[i], t);
                if (r == -ESTALE) { /* a folder's cached handle died with its server's file system */
                        nfs_forget(n, NULL);
                        r = own_one(n, c, paths[i], t);
                }
                if (r == -ESTALE)
                        r = -ENOENT;
                if (r == -EEXIST || r == -EPERM)
                        err_set(err, r, "%s: user %u may not take it: it belongs to another start", paths[i],
                                t->uid);
                else if (r < 0)
                        nfs_fail(fs, "change the owner", paths[i], r, err);
        }
        nfs_conn_free(c);
        return r;
}

/* --- who may write
 * ---------------------------------------------------------------------------------------- */

/* The names are looked up as root, who sees them whatever their folders' modes are. */
static int may_write_one(struct fs_nfs *n, struct nfs_conn *root, struct nfs_conn *user, uint32_t uid,
                         const char *path)
{
        const uint32_t wanted = ACCESS3_MODIFY | ACCESS3_EXTEND;
        struct nfs_found found;
        uint32_t granted = 0;
        int r = nfs_lookup_path(n, root, path, &found);

        if (r >= 0)
                r = nfs3_access(user, &found.fh, wanted, &granted);
        if (r < 0 || (granted & wanted) == wanted)
                return r;
        /* The owner's own right cannot be gone while the file is his: the server lets nobody write. */
        return found.attr.uid == uid && (found.attr.mode & 0200) ? -EROFS : -EACCES;
}

int fs_nfs_may_write(struct fs *fs, const char *const *paths, size_t n_paths, uint32_t uid, uint32_t gid,
                     struct err *err)
{
        struct fs_nfs *n = nfs_of(fs);
        struct nfs_conn *root = NULL, *user = NULL;
        int r = nfs_conn_new(n->conns, 0, 0, &root, err);

        if (r >= 0)
                r = nfs_conn_new(n->conns, uid, gid, &user, err);
        for (size_t i = 0; i < n_paths && user && r >= 0; i++) {
                r = may_write_one(n, root, user, uid, paths[i]);
                if (r == -ESTALE) { /* a folder's cached handle died with its server's file system */
                        nfs_forget(n, NULL);
                        r = may_write_one(n, root, user, uid, paths[i]);
                }
                if (r == -ESTALE)
                        r = -ENOENT;
                if (r < 0)
                        nfs_fail(fs, "ask for the right to write", paths[i], r, err);
        }
        nfs_conn_free(user);
        nfs_conn_free(root);
        return r;
}

/* --- the self-test's writer
 * ---------------------------------------------------------------------------------------- */

int fs_nfs_try_write(struct fs *fs, const char *path, uint32_t uid, struct fs_nfs_writer *w, struct err *err)
{
        struct fs_nfs *n = nfs_of(fs);
        uint64_t verifier;
        uint32_t len;
        int r;

        if (!w->conn) {
                struct nfs_found found;

                r = nfs_conn_new(n->conns, uid, 0, &w->conn, err);
                if (r < 0)
                        return r;
                r = nfs_lookup_path(n, w->conn, path, &found);
                if (r < 0)
                        return nfs_fail(fs, "open", path, r, err);
                w->fh_len = found.fh.len;
                memcpy(w->fh, found.fh.val, found.fh.len);
        }
        struct nfs_fh fh = {.len = w->fh_len};

        memcpy(fh.val, w->fh, w->fh_len);
        r = nfs3_write(w->conn, &fh, 0, "x", 1, true, &len, &verifier);
        return r < 0 ? nfs_fail(fs, "write", path, r, err) : 0;
}

void fs_nfs_writer_done(struct fs_nfs_writer *w)
{
        w->conn = nfs_conn_free(w->conn);
}
