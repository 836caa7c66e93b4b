/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/nfs3.h"

#include <errno.h>
#include <string.h>

#include "common/util.h"

/* RFC 1813 names; what a server may answer that libnfs's own table does not keep apart as we need it. */
static int status_errno(int status)
{
        switch (status) {
        case NFS3_OK:
                return 0;
        case NFS3ERR_PERM:
        case NFS3ERR_ACCES:
                return -EACCES;
        case NFS3ERR_STALE:
        case NFS3ERR_BADHANDLE:
                return -ESTALE;
        case NFS3ERR_NOT_SYNC:
                return -EAGAIN;
        case NFS3ERR_NOTEMPTY:
                return -EEXIST;
        case NFS3ERR_DQUOT:
                return -ENOSPC;
        case NFS3ERR_JUKEBOX: /* "try again later": not done */
                return -EBUSY;
        case NFS3ERR_SERVERFAULT:
                return -EIO;
        default:
                return nfsstat3_to_errno(status);
        }
}

static void on_reply(struct rpc_context *rpc, int status, void *data, void *private_data)
{
        struct nfs_reply *reply = private_data;

        (*reply->pending)--;
        if (status != RPC_STATUS_SUCCESS)
                return;
        reply->r = status_errno(*(const nfsstat3 *)data); /* every NFSv3 result begins with it */
        if (reply->r == 0 && reply->copy)
                reply->copy(reply, data);
}

/* queued: what the rpc_nfs3_*_async() call returned */
static void started(struct nfs_reply *reply, int queued)
{
        if (queued != 0)
                (*reply->pending)--;
}

/* Every start counts itself first, so that a callback may run at once. */
static struct rpc_context *start(struct nfs_reply *reply)
{
        (*reply->pending)++;
        reply->r = -ETIMEDOUT; /* until an answer says otherwise */
        return nfs_conn_rpc(reply->conn);
}

#define CALL(reply, name, args)                                                                             \
        do {                                                                                                \
                struct rpc_context *rpc_ = start(reply);                                                    \
                started(reply, rpc_ ? rpc_nfs3_##name##_async(rpc_, on_reply, args, reply) : -1);           \
        } while (0)

/* One call and its answer. */
#define CALL_WAIT(c, name, args, copy_, out_)                                                               \
        __extension__({                                                                                     \
                unsigned pending_ = 0;                                                                      \
                struct nfs_reply reply_ = {                                                                 \
                    .conn = (c), .pending = &pending_, .copy = (copy_), .out = (out_)};                     \
                CALL(&reply_, name, args);                                                                  \
                nfs_conn_wait(c, &pending_);                                                                \
                reply_.r;                                                                                   \
        })

static nfs_fh3 fh_of(const struct nfs_fh *fh)
{
        return (nfs_fh3){.data = {.data_len = fh->len, .data_val = (char *)fh->val}};
}

static int fh_take(const nfs_fh3 *from, struct nfs_fh *ret)
{
        if (from->data.data_len > NFS_FH_MAX)
                return -EIO;
        ret->len = from->data.data_len;
        memcpy(ret->val, from->data.data_val, from->data.data_len);
        return 0;
}

static void attr_take(const fattr3 *a, struct fs_attr *ret)
{
        *ret = (struct fs_attr){.uid = a->uid,
                                .gid = a->gid,
                                .mode = a->mode & 07777,
                                .nlink = a->nlink,
                                .size = a->size,
                                .ctime_s = a->ctime.seconds,
                                .ctime_ns = a->ctime.nseconds,
                                .mtime_s = a->mtime.seconds,
                                .plain = a->type == NF3REG};
}

static bool post_attr_take(const post_op_attr *a, struct fs_attr *ret)
{
        if (a->attributes_follow)
                attr_take(&a->post_op_attr_u.attributes, ret);
        return a->attributes_follow;
}

static diropargs3 place_of(const struct nfs_fh *dir, const char *name)
{
        return (diropargs3){.dir = fh_of(dir), .name = (char *)name};
}

static void lookup_take(struct nfs_reply *reply, void *res)
{
        const LOOKUP3resok *ok = &((LOOKUP3res *)res)->LOOKUP3res_u.resok;
        struct nfs_found *f = reply->out;

        reply->r = fh_take(&ok->object, &f->fh);
        f->has_fh = reply->r == 0;
        f->has_attr = post_attr_take(&ok->obj_attributes, &f->attr);
}

void nfs3_lookup_start(struct nfs_reply *reply, const struct nfs_fh *dir, const char *name)
{
        LOOKUP3args args = {.what = place_of(dir, name)};

        reply->copy = lookup_take;
        CALL(reply, lookup, &args);
}

int nfs3_lookup(struct nfs_conn *c, const struct nfs_fh *dir, const char *name, struct nfs_found *ret)
{
        LOOKUP3args args = {.what = place_of(dir, name)};
        int r;

        *ret = (struct nfs_found){};
        r = CALL_WAIT(c, lookup, &args, lookup_take, ret);
        if (r == 0 && !ret->has_attr) {
                r = nfs3_getattr(c, &ret->fh, &ret->attr);
                ret->has_attr = r == 0;
        }
        return r;
}

static void getattr_take(struct nfs_reply *reply, void *res)
{
        attr_take(&((GETATTR3res *)res)->GETATTR3res_u.resok.obj_attributes, reply->out);
}

int nfs3_getattr(struct nfs_conn *c, const struct nfs_fh *fh, struct fs_attr *ret)
{
        GETATTR3args args = {.object = fh_of(fh)};

        return CALL_WAIT(c, getattr, &args, getattr_take, ret);
}

static void access_take(struct nfs_reply *reply, void *res)
{
        *(uint32_t *)reply->out = ((ACCESS3res *)res)->ACCESS3res_u.resok.access;
}

int nfs3_access(struct nfs_conn *c, const struct nfs_fh *fh, uint32_t wanted, uint32_t *ret)
{
        ACCESS3args args = {.object = fh_of(fh), .access = wanted};

        return CALL_WAIT(c, access, &args, access_take, ret);
}

static sattr3 change_of(const struct nfs_change *c)
{
        sattr3 a = {};

        if (c->uid >= 0) {
                a.uid.set_it = 1;
                a.uid.set_uid3_u.uid = (uint32_t)c->uid;
        }
        if (c->gid >= 0) {
                a.gid.set_it = 1;
                a.gid.set_gid3_u.gid = (uint32_t)c->gid;
        }
        if (c->mode >= 0) {
                a.mode.set_it = 1;
                a.mode.set_mode3_u.mode = (uint32_t)c->mode;
        }
        if (c->size >= 0) {
                a.size.set_it = 1;
                a.size.set_size3_u.size = (uint64_t)c->size;
        }
        return a;
}

int nfs3_setattr(struct nfs_conn *c, const struct nfs_fh *fh, const struct nfs_change *change,
                 const struct fs_attr *guard)
{
        SETATTR3args args = {.object = fh_of(fh), .new_attributes = change_of(change)};

        if (guard) {
                args.guard.check = 1;
                args.guard.sattrguard3_u.obj_ctime =
                    (nfstime3){.seconds = (uint32_t)guard->ctime_s, .nseconds = guard->ctime_ns};
        }
        return CALL_WAIT(c, setattr, &args, NULL, NULL);
}

static void made_take(struct nfs_reply *reply, const post_op_fh3 *fh, const post_op_attr *attr)
{
        struct nfs_found *f = reply->out;

        if (fh->handle_follows)
                reply->r = fh_take(&fh->post_op_fh3_u.handle, &f->fh);
        f->has_fh = fh->handle_follows && reply->r == 0;
        f->has_attr = post_attr_take(attr, &f->attr);
}

static void mkdir_take(struct nfs_reply *reply, void *res)
{
        const MKDIR3resok *ok = &((MKDIR3res *)res)->MKDIR3res_u.resok;

        made_take(reply, &ok->obj, &ok->obj_attributes);
}

static void create_take(struct nfs_reply *reply, void *res)
{
        const CREATE3resok *ok = &((CREATE3res *)res)->CREATE3res_u.resok;

        made_take(reply, &ok->obj, &ok->obj_attributes);
}

/* A server need not return the new handle. */
static int with_handle(struct nfs_conn *c, const struct nfs_fh *dir, const char *name, int r,
                       struct nfs_found *found)
{
        return r < 0 || found->has_fh ? r : nfs3_lookup(c, dir, name, found);
}

int nfs3_mkdir(struct nfs_conn *c, const struct nfs_fh *dir, const char *name, uint32_t mode,
               struct nfs_found *ret)
{
        const struct nfs_change change = {.uid = -1, .gid = -1, .mode = mode, .size = -1};
        MKDIR3args args = {.where = place_of(dir, name), .attributes = change_of(&change)};
        int r;

        *ret = (struct nfs_found){};
        r = CALL_WAIT(c, mkdir, &args, mkdir_take, ret);
        return with_handle(c, dir, name, r, ret);
}

int nfs3_create(struct nfs_conn *c, const struct nfs_fh *dir, const char *name,
                const struct nfs_change *change, bool exclusive, struct nfs_found *ret)
{
        CREATE3args args = {.where = place_of(dir, name), .how = {.mode = exclusive ? GUARDED : UNCHECKED}};
        int r;

        args.how.createhow3_u.obj_attributes = change_of(change); /* the same place in both modes */
        *ret = (struct nfs_found){};
        r = CALL_WAIT(c, create, &args, create_take, ret);
        return with_handle(c, dir, name, r, ret);
}

int nfs3_remove(struct nfs_conn *c, const struct nfs_fh *dir, const char *name)
{
        REMOVE3args args = {.object = place_of(dir, name)};

        return CALL_WAIT(c, remove, &args, NULL, NULL);
}

int nfs3_rmdir(struct nfs_conn *c, const struct nfs_fh *dir, const char *name)
{
        RMDIR3args args = {.object = place_of(dir, name)};

        return CALL_WAIT(c, rmdir, &args, NULL, NULL);
}

int nfs3_rename(struct nfs_conn *c, const struct nfs_fh *from, const char *old, const struct nfs_fh *to,
                const char *new)
{
        RENAME3args args = {.from = place_of(from, old), .to = place_of(to, new)};

        return CALL_WAIT(c, rename, &args, NULL, NULL);
}

int nfs3_link(struct nfs_conn *c, const struct nfs_fh *file, const struct nfs_fh *dir, const char *name)
{
        LINK3args args = {.file = fh_of(file), .link = place_of(dir, name)};

        return CALL_WAIT(c, link, &args, NULL, NULL);
}

static void read_take(struct nfs_reply *reply, void *res)
{
        const READ3resok *ok = &((READ3res *)res)->READ3res_u.resok;
        struct nfs_data *d = reply->out;

        d->len = MIN_OF(ok->data.data_len, d->room);
        memcpy(d->buf, ok->data.data_val, d->len);
        d->eof = ok->eof;
}

void nfs3_read_start(struct nfs_reply *reply, const struct nfs_fh *fh, uint64_t offset, uint32_t len)
{
        READ3args args = {.file = fh_of(fh), .offset = offset, .count = len};

        reply->copy = read_take;
        CALL(reply, read, &args);
}

int nfs3_read(struct nfs_conn *c, const struct nfs_fh *fh, uint64_t offset, void *buf, uint32_t len,
              uint32_t *ret_len, bool *ret_eof)
{
        READ3args args = {.file = fh_of(fh), .offset = offset, .count = len};
        struct nfs_data d = {.buf = buf, .room = len};
        int r = CALL_WAIT(c, read, &args, read_take, &d);

        if (r < 0)
                return r;
        *ret_len = d.len;
        *ret_eof = d.eof;
        return 0;
}

struct written {
        uint32_t len;
        uint64_t verifier;
};

static void write_take(struct nfs_reply *reply, void *res)
{
        const WRITE3resok *ok = &((WRITE3res *)res)->WRITE3res_u.resok;
        struct written *w = reply->out;

        w->len = ok->count;
        memcpy(&w->verifier, ok->verf, sizeof(w->verifier));
}

int nfs3_write(struct nfs_conn *c, const struct nfs_fh *fh, uint64_t offset, const void *buf, uint32_t len,
               bool sync, uint32_t *ret_len, uint64_t *ret_verifier)
{
        WRITE3args args = {.file = fh_of(fh),
                           .offset = offset,
                           .count = len,
                           .stable = sync ? FILE_SYNC : UNSTABLE,
                           .data = {.data_len = len, .data_val = (char *)buf}};
        struct written w = {};
        int r = CALL_WAIT(c, write, &args, write_take, &w);

        if (r < 0)
                return r;
        if (w.len == 0 || w.len > len)
                return -EIO;
        *ret_len = w.len;
        *ret_verifier = w.verifier;
        return 0;
}

static void commit_take(struct nfs_reply *reply, void *res)
{
        memcpy(reply->out, ((COMMIT3res *)res)->COMMIT3res_u.resok.verf, sizeof(uint64_t));
}

int nfs3_commit(struct nfs_conn *c, const struct nfs_fh *fh, uint64_t *ret_verifier)
{
        COMMIT3args args = {.file = fh_of(fh)};

        return CALL_WAIT(c, commit, &args, commit_take, ret_verifier);
}

struct listing_arg {
        struct nfs_listing *listing;
        fs_name_cb cb;
        void *arg;
        int r;
};

static void readdir_take(struct nfs_reply *reply, void *res)
{
        const READDIR3resok *ok = &((READDIR3res *)res)->READDIR3res_u.resok;
        struct listing_arg *a = reply->out;
        uint64_t cookie = a->listing->cookie;

        a->listing->has_attr = post_attr_take(&ok->dir_attributes, &a->listing->attr);
        memcpy(a->listing->verifier, ok->cookieverf, sizeof(a->listing->verifier));
        a->listing->eof = ok->reply.eof;
        /* libnfs does not align what it decodes */
        for (const void *at = ok->reply.entries; at && a->r == 0;) {
                entry3 e;

                memcpy(&e, at, sizeof(e));
                at = e.nextentry;
                cookie = e.cookie;
                if (!streq(e.name, ".") && !streq(e.name, ".."))
                        a->r = a->cb(a->arg, e.name);
        }
        if (!a->listing->eof && cookie == a->listing->cookie)
                reply->r = -EIO; /* a server that does not get on would be asked for ever */
        a->listing->cookie = cookie;
}

#define READDIR_BYTES (64 * 1024)

int nfs3_readdir(struct nfs_conn *c, const struct nfs_fh *dir, struct nfs_listing *listing, fs_name_cb cb,
                 void *arg)
{
        READDIR3args args = {.dir = fh_of(dir), .cookie = listing->cookie, .count = READDIR_BYTES};
        struct listing_arg a = {.listing = listing, .cb = cb, .arg = arg};
        int r;

        memcpy(args.cookieverf, listing->verifier, sizeof(args.cookieverf));
        r = CALL_WAIT(c, readdir, &args, readdir_take, &a);
        return r < 0 ? r : a.r;
}

static void fsstat_take(struct nfs_reply *reply, void *res)
{
        const FSSTAT3resok *ok = &((FSSTAT3res *)res)->FSSTAT3res_u.resok;
        uint64_t *out = reply->out;

        out[0] = ok->tbytes;
        out[1] = ok->abytes;
}

int nfs3_fsstat(struct nfs_conn *c, const struct nfs_fh *fh, uint64_t *ret_total, uint64_t *ret_free)
{
        FSSTAT3args args = {.fsroot = fh_of(fh)};
        uint64_t out[2];
        int r = CALL_WAIT(c, fsstat, &args, fsstat_take, out);

        if (r < 0)
                return r;
        *ret_total = out[0];
        *ret_free = out[1];
        return 0;
}

static void fsinfo_take(struct nfs_reply *reply, void *res)
{
        const FSINFO3resok *ok = &((FSINFO3res *)res)->FSINFO3res_u.resok;
        uint32_t *out = reply->out;

        out[0] = ok->rtmax;
        out[1] = ok->wtmax;
}

#define XFER_MIN 4096u
#define XFER_MAX (1u << 20) /* libnfs 4.0 takes no larger message */

int nfs3_fsinfo(struct nfs_conn *c, const struct nfs_fh *fh, uint32_t *ret_read_max, uint32_t *ret_write_max)
{
        FSINFO3args args = {.fsroot = fh_of(fh)};
        uint32_t out[2];
        int r = CALL_WAIT(c, fsinfo, &args, fsinfo_take, out);

        if (r < 0)
                return r;
        *ret_read_max = MAX_OF(XFER_MIN, MIN_OF(XFER_MAX, out[0]));
        *ret_write_max = MAX_OF(XFER_MIN, MIN_OF(XFER_MAX, out[1]));
        return 0;
}
