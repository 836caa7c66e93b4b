/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/fs-nfs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"

/* --- small files
 * --------------------------------------------------------------------------------------------------- */

struct put_arg {
        const char *path;
        const void *data;
        size_t len;
        struct nfs_change change;
        bool exclusive, sync;
};

/* libnfs copies what it sends: in parts of this size the copy is still in the CPU's cache when it goes out.
 */
#define WRITE_MAX ((uint32_t)256 * 1024)
/* The server flushes for each write that asks for stability, so a new disk's tables go out in one. */
#define STABLE_WRITE_MAX ((uint32_t)512 * 1024)

/* A write that asks for stability needs no COMMIT behind it. */
static int write_all(struct fs_nfs *n, struct nfs_conn *c, const struct nfs_fh *fh, const void *data,
                     size_t len, uint64_t offset, bool sync, uint64_t *ret_verifier)
{
        uint32_t max = MIN_OF(nfs_server_write_max(n->conns), sync ? STABLE_WRITE_MAX : WRITE_MAX);

        while (len > 0) {
                uint32_t done;
                int r = nfs3_write(c, fh, offset, data, (uint32_t)MIN_OF(len, (size_t)max), sync, &done,
                                   ret_verifier);

                if (r < 0)
                        return r;
                data = (const uint8_t *)data + done;
                offset += done;
                len -= done;
        }
        return 0;
}

static int run_put(struct fs_nfs *n, struct nfs_conn *c, void *arg)
{
        struct put_arg *a = arg;
        struct nfs_found found;
        uint64_t verifier;
        struct nfs_fh parent;
        const char *name;
        int r = nfs_parent(n, c, a->path, &parent, &name);

        if (r >= 0)
                r = nfs3_create(c, &parent, name, &a->change, a->exclusive, &found);
        if (r < 0)
                return r;
        r = write_all(n, c, &found.fh, a->data, a->len, 0, a->sync, &verifier);
        if (r < 0 && a->exclusive && !nfs_conn_broken(c))
                nfs3_remove(c, &parent, name);
        return r;
}

int fs_nfs_put(struct fs *fs, const char *path, const void *data, size_t len, const struct fs_owner *owner,
               bool durable, struct err *err)
{
        struct put_arg a = {
            .path = path,
            .data = data,
            .len = len,
            .change = {.uid = owner->uid, .gid = owner->gid, .mode = owner->mode, .size = -1},
            .exclusive = true,
            .sync = true};

        return nfs_run(fs, &(struct nfs_op){.what = "write", .path = path, .run = run_put, .arg = &a}, err);
}

/* A heartbeat says that its writer lives and reaches the storage; after a crash of the server its value is
 * worth nothing, so it need not be durable. */
static int run_poke(struct fs_nfs *n, struct nfs_conn *c, void *arg)
{
        struct put_arg *a = arg;
        struct nfs_found found;
        uint64_t verifier;
        int r = nfs_lookup_path(n, c, a->path, &found);

        if (r == -ENOENT)
                return run_put(n, c, arg);
        return r < 0 ? r : write_all(n, c, &found.fh, a->data, a->len, 0, false, &verifier);
}

static int fs_nfs_poke(struct fs *fs, const char *path, const void *data, size_t len, struct err *err)
{
        struct put_arg a = {.path = path,
                            .data = data,
                            .len = len,
                            .change = {.uid = -1, .gid = -1, .mode = 0600, .size = -1}};

        return nfs_run(fs, &(struct nfs_op){.what = "write", .path = path, .run = run_poke, .arg = &a}, err);
}

/* Many small files: all LOOKUPs of a batch are under way together, then all READs. */
#define BATCH 32

struct small {
        struct nfs_reply reply;
        struct nfs_found found;
        struct nfs_data data;
        int r;
};

struct batch_arg {
        const char *folder;
        const char *const *names;
        size_t n, max;
        struct small file[BATCH];
};

static void batch_done(struct batch_arg *a)
{
        for (size_t i = 0; i < a->n; i++) {
                free(a->file[i].data.buf);
                a->file[i] = (struct small){};
        }
}

static void start_read(struct fs_nfs *n, struct nfs_conn *c, struct small *f, size_t max, unsigned *pending)
{
        f->r = f->reply.r;
        if (f->r < 0)
                return;
        if (f->found.has_attr && f->found.attr.size > max) {
                f->r = -EFBIG;
                return;
        }
        f->data.room =
            (uint32_t)MIN_OF(f->found.has_attr ? f->found.attr.size : max, nfs_server_read_max(n->conns));
        f->data.buf = malloc((size_t)f->data.room + 1);
        if (!f->data.buf) {
                f->r = -ENOMEM;
                return;
        }
        if (f->data.room == 0) {
                f->data.eof = true;
                return;
        }
        f->reply = (struct nfs_reply){.conn = c, .pending = pending, .out = &f->data};
        nfs3_read_start(&f->reply, &f->found.fh, 0, f->data.room);
}

/* What one READ did not bring. */
static int read_rest(struct nfs_conn *c, struct small *f, size_t max)
{
        while (!f->data.eof && !(f->found.has_attr && f->data.len >= f->found.attr.size)) {
                uint32_t more = 65536, len;
                void *bigger = realloc(f->data.buf, (size_t)f->data.len + more + 1);
                int r;

                if (!bigger)
                        return -ENOMEM;
                f->data.buf = bigger;
                r = nfs3_read(c, &f->found.fh, f->data.len, (uint8_t *)f->data.buf + f->data.len, more, &len,
                              &f->data.eof);
                if (r < 0)
                        return r;
                f->data.len += len;
                if (f->data.len > max)
                        return -EFBIG;
                if (len == 0)
                        break;
        }
        return 0;
}

static int run_batch(struct fs_nfs *n, struct nfs_conn *c, void *arg)
{
        struct batch_arg *a = arg;
        unsigned pending = 0;
        struct nfs_fh folder;
        int r = nfs_folder(n, c, a->folder, &folder);

        batch_done(a);
        if (r == -ENOENT) {
                for (size_t i = 0; i < a->n; i++)
                        a->file[i].r = r;
                return 0;
        }
        if (r < 0)
                return r;
        for (size_t i = 0; i < a->n; i++) {
                a->file[i].reply =
                    (struct nfs_reply){.conn = c, .pending = &pending, .out = &a->file[i].found};
                nfs3_lookup_start(&a->file[i].reply, &folder, a->names[i]);
        }
        nfs_conn_wait(c, &pending);
        for (size_t i = 0; i < a->n && !nfs_conn_broken(c); i++)
                start_read(n, c, &a->file[i], a->max, &pending);
        if (!nfs_conn_broken(c))
                nfs_conn_wait(c, &pending);
        for (size_t i = 0; i < a->n && !nfs_conn_broken(c); i++) {
                struct small *f = &a->file[i];

                if (f->r == 0 && f->reply.r < 0)
                        f->r = f->reply.r;
                if (f->r == 0)
                        f->r = read_rest(c, f, a->max);
                if (f->r == -EBUSY)
                        return f->r;
                if (f->r == -ESTALE) /* removed between LOOKUP and READ */
                        f->r = -ENOENT;
        }
        return nfs_conn_broken(c) ? -ETIMEDOUT : 0;
}

int fs_nfs_read(struct fs *fs, const char *folder, const char *const *names, size_t n, size_t max,
                fs_text_cb cb, void *arg, struct err *err)
{
        _cleanup_(freep) struct batch_arg *a = calloc(1, sizeof(*a));
        int r = 0;

        if (!a)
                return err_set(err, -ENOMEM, "%s: out of memory", folder);
        a->folder = folder;
        a->max = max;
        for (size_t done = 0; r == 0 && done < n; done += a->n) {
                a->names = names + done;
                a->n = MIN_OF(n - done, (size_t)BATCH);
                r = nfs_run(fs,
                            &(struct nfs_op){
                                .what = "read", .path = folder, .again = true, .run = run_batch, .arg = a},
                            err);
                for (size_t i = 0; r == 0 && i < a->n; i++) {
                        struct small *f = &a->file[i];

                        if (f->r == 0)
                                ((char *)f->data.buf)[f->data.len] = '\0';
                        r = cb(arg, done + i, f->r, f->r < 0 ? NULL : f->data.buf,
                               f->r < 0 ? 0 : f->data.len);
                }
                batch_done(a);
        }
        return r;
}

/* --- large files
 * --------------------------------------------------------------------------------------------------- */

struct file_arg {
        const char *path;
        uint64_t size;
        struct fs_file *file;
        void *buf;
        const void *data;
        size_t len;
        uint64_t offset;
        const struct fs_owner *owner;
        bool restarted;
};

static int run_file_create(struct fs_nfs *n, struct nfs_conn *c, void *arg)
{
        struct file_arg *a = arg;
        struct nfs_change change = {.uid = -1, .gid = -1, .mode = 0600, .size = -1};
        struct nfs_found found;
        struct nfs_fh parent;
        const char *name;
        int r = nfs_parent(n, c, a->path, &parent, &name);

        if (r >= 0)
                r = nfs3_create(c, &parent, name, &change, true, &found);
        if (r < 0)
                return r;
        a->file->fh = found.fh;
        change.mode = -1;
        change.size = (int64_t)a->size;
        r = nfs3_setattr(c, &found.fh, &change, NULL);
        if (r < 0 && !nfs_conn_broken(c))
                nfs3_remove(c, &parent, name);
        return r;
}

static int run_file_open(struct fs_nfs *n, struct nfs_conn *c, void *arg)
{
        struct file_arg *a = arg;
        struct nfs_found found;
        int r = nfs_lookup_path(n, c, a->path, &found);

        if (r < 0)
                return r;
        a->file->fh = found.fh;
        a->size = found.attr.size;
        return 0;
}

static void file_close(struct fs_file *f)
{
        if (!f)
                return;
        fs_nfs_commit_end(f);
        pthread_cond_destroy(&f->more);
        pthread_mutex_destroy(&f->lock);
        free(f);
}

/* What the server has not made durable yet it may lose, and nobody would know whose write that was. */
static int run_file_open_again(struct fs_nfs *n, struct nfs_conn *c, void *arg)
{
        struct file_arg *a = arg;
        uint64_t verifier;
        int r = run_file_open(n, c, arg);

        return r < 0 ? r : nfs3_commit(c, &a->file->fh, &verifier);
}

struct fs_file *fs_nfs_file_new(struct fs *fs)
{
        struct fs_file *f = calloc(1, sizeof(*f));

        if (!f)
                return NULL;
        f->fs = fs;
        pthread_mutex_init(&f->lock, NULL);
        pthread_cond_init(&f->more, NULL);
        return f;
}

static int make_file(struct fs *fs, const struct nfs_op *op, struct fs_file **ret, struct err *err)
{
        struct fs_file *f = fs_nfs_file_new(fs);
        int r;

        if (!f)
                return err_set(err, -ENOMEM, "%s: out of memory", op->path);
        ((struct file_arg *)op->arg)->file = f;
        r = nfs_run(fs, op, err);
        if (r < 0) {
                file_close(f);
                return r;
        }
        *ret = f;
        return 0;
}

static int file_create(struct fs *fs, const char *path, uint64_t size, struct fs_file **ret, struct err *err)
{
        struct file_arg a = {.path = path, .size = size};

        return make_file(fs,
                         &(struct nfs_op){.what = "create", .path = path, .run = run_file_create, .arg = &a},
                         ret, err);
}

static int file_open(struct fs *fs, const char *path, bool write, struct fs_file **ret, uint64_t *ret_size,
                     struct err *err)
{
        struct file_arg a = {.path = path};
        int r = make_file(fs,
                          &(struct nfs_op){.what = "open",
                                           .path = path,
                                           .again = true,
                                           .run = write ? run_file_open_again : run_file_open,
                                           .arg = &a},
                          ret, err);

        if (r >= 0)
                *ret_size = a.size;
        return r;
}

static int run_file_read(struct fs_nfs *n, struct nfs_conn *c, void *arg)
{
        struct file_arg *a = arg;
        size_t done = 0;

        while (done < a->len) {
                uint32_t len;
                bool eof;
                int r =
                    nfs3_read(c, &a->file->fh, a->offset + done, (uint8_t *)a->buf + done,
                              (uint32_t)MIN_OF(a->len - done, nfs_server_read_max(n->conns)), &len, &eof);

                if (r < 0)
                        return r;
                if (len == 0)
                        return -EIO; /* the file ends early */
                done += len;
        }
        return 0;
}

static int file_read_at(struct fs_file *f, void *buf, size_t len, uint64_t offset, struct err *err)
{
        struct file_arg a = {.file = f, .buf = buf, .len = len, .offset = offset};

        return nfs_run(
            f->fs,
            &(struct nfs_op){
                .what = "read", .path = "(image)", .again = true, .run = run_file_read, .arg = &a},
            err);
}

static int run_file_write(struct fs_nfs *n, struct nfs_conn *c, void *arg)
{
        struct file_arg *a = arg;
        uint64_t verifier;
        int r = write_all(n, c, &a->file->fh, a->data, a->len, a->offset, false, &verifier);

        if (r < 0)
                return r;
        pthread_mutex_lock(&a->file->lock);
        a->restarted = a->file->written && verifier != a->file->verifier;
        a->file->written = true;
        a->file->verifier = verifier;
        fs_nfs_commit_soon(a->file, a->len);
        pthread_mutex_unlock(&a->file->lock);
        return 0;
}

/* What was not committed when the server was restarted may be lost, and nobody has it any more. */
static int lost(struct err *err)
{
        return err_set(err, -EIO,
                       "the NFS server was restarted while the image was written; write it again");
}

static int file_write_at(struct fs_file *f, const void *buf, size_t len, uint64_t offset, struct err *err)
{
        struct file_arg a = {.file = f, .data = buf, .len = len, .offset = offset};
        int r = nfs_run(
            f->fs, &(struct nfs_op){.what = "write", .path = "(image)", .run = run_file_write, .arg = &a},
            err);

        return r >= 0 && a.restarted ? lost(err) : r;
}

static int run_resize(struct fs_nfs *n, struct nfs_conn *c, void *arg)
{
        struct file_arg *a = arg;
        const struct nfs_change change = {.uid = -1, .gid = -1, .mode = -1, .size = (int64_t)a->size};

        return nfs3_setattr(c, &a->file->fh, &change, NULL);
}

/* Nobody writes meanwhile, so that a size that is set late, or twice, cannot cut what was written since:
 * the call comes back before the next write. */
static int file_resize(struct fs_file *f, uint64_t size, struct err *err)
{
        struct file_arg a = {.file = f, .size = size};

        return nfs_run(
            f->fs, &(struct nfs_op){.what = "resize", .path = "(image)", .run = run_resize, .arg = &a}, err);
}

static int run_seal(struct fs_nfs *n, struct nfs_conn *c, void *arg)
{
        struct file_arg *a = arg;
        const struct nfs_change change = {
            .uid = a->owner->uid, .gid = a->owner->gid, .mode = a->owner->mode, .size = -1};
        uint64_t verifier;
        int r = nfs3_commit(c, &a->file->fh, &verifier);

        if (r < 0)
                return r;
        a->restarted = a->file->written && verifier != a->file->verifier;
        return a->restarted ? 0 : nfs3_setattr(c, &a->file->fh, &change, NULL);
}

static int file_seal(struct fs_file *f, const struct fs_owner *owner, struct err *err)
{
        struct file_arg a = {.file = f, .owner = owner};
        int r = nfs_run(
            f->fs, &(struct nfs_op){.what = "make durable", .path = "(image)", .run = run_seal, .arg = &a},
            err);

        return r >= 0 && a.restarted ? lost(err) : r;
}

const struct fs_file_ops fs_nfs_file_ops = {
    .create = file_create,
    .open = file_open,
    .read = file_read_at,
    .write = file_write_at,
    .resize = file_resize,
    .seal = file_seal,
    .close = file_close,
    .poke = fs_nfs_poke,
    .open_import = fs_nfs_open_import,
    .attr = fs_nfs_attr,
};
