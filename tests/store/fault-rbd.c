/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/faults.h"

#include <errno.h>
#include <pthread.h>
#include <rados/librados.h>
#include <rbd/librbd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Around the calls of librados and librbd that the rbd engine makes: the linker (--wrap) leads each of them
 * here. What Ceph did not answer within rados_osd_op_timeout comes back as -ETIMEDOUT, and an OSD may still
 * do it afterwards; that is what is injected. Linked into a program, it does nothing until told to.
 */
static int before(const char *op, enum fault *ret)
{
        *ret = fault_next(op);
        switch (*ret) {
        case FAULT_DELAY:
                fault_pause();
                return 0;
        case FAULT_FAIL:
                return -EIO;
        case FAULT_DROP:
        case FAULT_LATE:
                return -ETIMEDOUT;
        default:
                return 0;
        }
}

#define CHANGE(op, call)                                                                                    \
        __extension__({                                                                                     \
                enum fault f_;                                                                              \
                int r_ = before(op, &f_);                                                                   \
                if (r_ == 0)                                                                                \
                        r_ = (int)(call);                                                                   \
                f_ == FAULT_LOSE ? -ETIMEDOUT : r_;                                                         \
        })
/* What only reads, or hands out something that would have to be given back. */
#define LOOK(op, call)                                                                                      \
        __extension__({                                                                                     \
                enum fault f_;                                                                              \
                int r_ = before(op, &f_);                                                                   \
                r_ < 0 ? r_ : f_ == FAULT_LOSE ? -ETIMEDOUT : (int)(call);                                  \
        })

/* A function NAME of librados or librbd: the real one, and ours in its place. */
#define WRAP(type, name, params)                                                                            \
        type __real_##name params;                                                                          \
        type __wrap_##name params;                                                                          \
        type __wrap_##name params

/* --- what a write operation's single steps return: kept beside the caller's stack, which a late one
 * outlives */

struct aside {
        struct aside *next;
        rados_write_op_t op;
        int *user, value;
};

static pthread_mutex_t asides_lock = PTHREAD_MUTEX_INITIALIZER;
static struct aside *asides;

static int *aside_new(rados_write_op_t op, int *user)
{
        struct aside *a;

        if (!user || !faults)
                return user;
        a = calloc(1, sizeof(*a));
        if (!a)
                abort();
        a->op = op;
        a->user = user;
        pthread_mutex_lock(&asides_lock);
        a->next = asides;
        asides = a;
        pthread_mutex_unlock(&asides_lock);
        return &a->value;
}

/* The operation is done while its caller waits: hand out what its steps returned. */
static void asides_hand_out(rados_write_op_t op)
{
        pthread_mutex_lock(&asides_lock);
        for (const struct aside *a = asides; a; a = a->next)
                if (a->op == op)
                        *a->user = a->value;
        pthread_mutex_unlock(&asides_lock);
}

static void asides_free(rados_write_op_t op)
{
        pthread_mutex_lock(&asides_lock);
        for (struct aside **p = &asides; *p;) {
                struct aside *a = *p;

                if (a->op == op) {
                        *p = a->next;
                        free(a);
                } else {
                        p = &a->next;
                }
        }
        pthread_mutex_unlock(&asides_lock);
}

WRAP(void, rados_write_op_omap_cmp2,
     (rados_write_op_t op, const char *key, uint8_t how, const char *val, size_t key_len, size_t val_len,
      int *prval))
{
        __real_rados_write_op_omap_cmp2(op, key, how, val, key_len, val_len, aside_new(op, prval));
}

WRAP(void, rados_write_op_exec,
     (rados_write_op_t op, const char *cls, const char *method, const char *in, size_t in_len, int *prval))
{
        __real_rados_write_op_exec(op, cls, method, in, in_len, aside_new(op, prval));
}

/* --- late operations: two hold one, whoever called it and the thread that carries it out */

struct late {
        struct late *next;
        rados_write_op_t op;
        rados_ioctx_t io;
        char oid[256];
        unsigned holders;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards these two */
static struct late *all;
static unsigned under_way;

WRAP(void, rados_release_write_op, (rados_write_op_t op));
WRAP(int, rados_write_op_operate,
     (rados_write_op_t op, rados_ioctx_t io, const char *oid, time_t *mtime, int flags));

static void late_put(rados_write_op_t op)
{
        struct late *gone = NULL;

        pthread_mutex_lock(&lock);
        for (struct late **p = &all; *p; p = &(*p)->next)
                if ((*p)->op == op) {
                        if (--(*p)->holders == 0) {
                                gone = *p;
                                *p = gone->next;
                        }
                        op = NULL;
                        break;
                }
        pthread_mutex_unlock(&lock);
        if (gone)
                op = gone->op;
        free(gone);
        if (op) {
                __real_rados_release_write_op(op);
                asides_free(op);
        }
}

static void *late_run(void *arg)
{
        struct late *l = arg;
        rados_ioctx_t io = l->io;

        fault_pause_late();
        (void)__real_rados_write_op_operate(l->op, io, l->oid, NULL, 0);
        late_put(l->op);
        rados_ioctx_destroy(io);
        __atomic_sub_fetch(&under_way, 1, __ATOMIC_SEQ_CST);
        return NULL;
}

static void late_start(rados_write_op_t op, rados_ioctx_t io, const char *oid)
{
        struct late *l = calloc(1, sizeof(*l));
        char pool[128], ns[128] = "";
        pthread_t thread;

        if (!l || rados_ioctx_get_pool_name(io, pool, sizeof(pool)) < 0 ||
            rados_ioctx_get_namespace(io, ns, sizeof(ns)) < 0 ||
            rados_ioctx_create(rados_ioctx_get_cluster(io), pool, &l->io) < 0)
                abort();
        rados_ioctx_set_namespace(l->io, ns);
        snprintf(l->oid, sizeof(l->oid), "%s", oid);
        l->op = op;
        l->holders = 2;
        __atomic_add_fetch(&under_way, 1, __ATOMIC_SEQ_CST);
        pthread_mutex_lock(&lock);
        l->next = all;
        all = l;
        pthread_mutex_unlock(&lock);
        if (pthread_create(&thread, NULL, late_run, l) != 0)
                abort();
        pthread_detach(thread);
}

WRAP(void, rados_release_write_op, (rados_write_op_t op))
{
        late_put(op);
}

WRAP(int, rados_write_op_operate,
     (rados_write_op_t op, rados_ioctx_t io, const char *oid, time_t *mtime, int flags))
{
        enum fault f;
        int r = before("write-op", &f);

        if (f == FAULT_LATE)
                late_start(op, io, oid);
        if (r == 0) {
                r = __real_rados_write_op_operate(op, io, oid, mtime, flags);
                asides_hand_out(op);
        }
        return f == FAULT_LOSE ? -ETIMEDOUT : r;
}

/* An operation that was refused at once is one that its caller does not wait for. */
WRAP(int, rados_aio_write_op_operate,
     (rados_write_op_t op, rados_ioctx_t io, rados_completion_t done, const char *oid, time_t *mtime,
      int flags))
{
        enum fault f;
        int r = before("write-op", &f);

        if (f == FAULT_LATE)
                late_start(op, io, oid);
        if (r == 0)
                r = __real_rados_aio_write_op_operate(op, io, done, oid, mtime, flags);
        if (r == 0 && f == FAULT_LOSE) {
                rados_aio_wait_for_complete(done);
                r = -ETIMEDOUT;
        }
        return r;
}

WRAP(void, rados_shutdown, (rados_t cluster))
{
        /* in a forked process the threads of its parent do not exist, and their number stays as it was */
        for (int i = 0; i < 20 && __atomic_load_n(&under_way, __ATOMIC_SEQ_CST) > 0; i++)
                fault_pause_late();
        __real_rados_shutdown(cluster);
}

/* --- librados */

WRAP(int, rados_read_op_operate, (rados_read_op_t op, rados_ioctx_t io, const char *oid, int flags))
{
        return LOOK("read-op", __real_rados_read_op_operate(op, io, oid, flags));
}

WRAP(int, rados_aio_read_op_operate,
     (rados_read_op_t op, rados_ioctx_t io, rados_completion_t done, const char *oid, int flags))
{
        return LOOK("read-op", __real_rados_aio_read_op_operate(op, io, done, oid, flags));
}

WRAP(int, rados_read, (rados_ioctx_t io, const char *oid, char *buf, size_t len, uint64_t offset))
{
        return LOOK("read", __real_rados_read(io, oid, buf, len, offset));
}

WRAP(int, rados_write_full, (rados_ioctx_t io, const char *oid, const char *buf, size_t len))
{
        return CHANGE("write-full", __real_rados_write_full(io, oid, buf, len));
}

WRAP(int, rados_remove, (rados_ioctx_t io, const char *oid))
{
        return CHANGE("remove", __real_rados_remove(io, oid));
}

WRAP(int, rados_exec,
     (rados_ioctx_t io, const char *oid, const char *cls, const char *method, const char *in, size_t in_len,
      char *out, size_t out_len))
{
        return CHANGE("exec", __real_rados_exec(io, oid, cls, method, in, in_len, out, out_len));
}

WRAP(int, rados_blocklist_add, (rados_t cluster, char *address, uint32_t seconds))
{
        return CHANGE("blocklist", __real_rados_blocklist_add(cluster, address, seconds));
}

WRAP(int, rados_wait_for_latest_osdmap, (rados_t cluster))
{
        return LOOK("wait-osdmap", __real_rados_wait_for_latest_osdmap(cluster));
}

/* --- librbd */

WRAP(int, rbd_create4, (rados_ioctx_t io, const char *name, uint64_t size, rbd_image_options_t opts))
{
        return CHANGE("rbd-create", __real_rbd_create4(io, name, size, opts));
}

WRAP(int, rbd_clone3,
     (rados_ioctx_t p_io, const char *p_name, const char *p_snap, rados_ioctx_t io, const char *name,
      rbd_image_options_t opts))
{
        return CHANGE("rbd-clone", __real_rbd_clone3(p_io, p_name, p_snap, io, name, opts));
}

WRAP(int, rbd_remove, (rados_ioctx_t io, const char *name))
{
        return CHANGE("rbd-remove", __real_rbd_remove(io, name));
}

WRAP(int, rbd_open, (rados_ioctx_t io, const char *name, rbd_image_t *image, const char *snap))
{
        return LOOK("rbd-open", __real_rbd_open(io, name, image, snap));
}

WRAP(int, rbd_open_by_id_read_only, (rados_ioctx_t io, const char *id, rbd_image_t *image, const char *snap))
{
        return LOOK("rbd-open", __real_rbd_open_by_id_read_only(io, id, image, snap));
}

WRAP(int, rbd_open_read_only, (rados_ioctx_t io, const char *name, rbd_image_t *image, const char *snap))
{
        return LOOK("rbd-open", __real_rbd_open_read_only(io, name, image, snap));
}

WRAP(int, rbd_snap_create, (rbd_image_t image, const char *name))
{
        return CHANGE("rbd-snap", __real_rbd_snap_create(image, name));
}

WRAP(int, rbd_snap_remove, (rbd_image_t image, const char *name))
{
        return CHANGE("rbd-snap", __real_rbd_snap_remove(image, name));
}

WRAP(int, rbd_flush, (rbd_image_t image))
{
        return CHANGE("rbd-flush", __real_rbd_flush(image));
}

WRAP(ssize_t, rbd_read, (rbd_image_t image, uint64_t offset, size_t len, char *buf))
{
        return LOOK("rbd-read", __real_rbd_read(image, offset, len, buf));
}

WRAP(ssize_t, rbd_write, (rbd_image_t image, uint64_t offset, size_t len, const char *buf))
{
        return CHANGE("rbd-write", __real_rbd_write(image, offset, len, buf));
}

/* One that was refused at once is one that its caller does not wait for. */
WRAP(int, rbd_aio_write,
     (rbd_image_t image, uint64_t offset, size_t len, const char *buf, rbd_completion_t done))
{
        enum fault f;
        int r = before("rbd-write", &f);

        if (r == 0)
                r = __real_rbd_aio_write(image, offset, len, buf, done);
        if (r == 0 && f == FAULT_LOSE) {
                rbd_aio_wait_for_complete(done);
                r = -ETIMEDOUT;
        }
        return r;
}

WRAP(int, rbd_watchers_list, (rbd_image_t image, rbd_image_watcher_t *watchers, size_t *n))
{
        return LOOK("rbd-watchers", __real_rbd_watchers_list(image, watchers, n));
}
