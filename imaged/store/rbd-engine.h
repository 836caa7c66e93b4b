/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <rados/librados.h>
#include <rbd/librbd.h>
#include <pthread.h>

#include "common/err.h"
#include "common/machine.h"
#include "imaged/store/engine.h"
#include "imaged/store/rbd-op.h"

/*
 * The rbd engine's own parts: rbd-engine.c (life), rbd-client.c (connection), rbd-pool.c and rbd-op.c
 * (librados), rbd-record.c, rbd-volume.c, rbd-disk.c (images of instances), rbd-make.c (making and removing
 * them), rbd-read.c (reading them), rbd-lease.c (names), rbd-gate.c and rbd-register.c (who may write),
 * rbd-fence.c (blocklist, self-test), rbd-commit.c (claim, fence and gate at once), rbd-lift.c (clients that
 * are dead).
 *
 * What lies in the pool, beside RBD's own objects:
 *
 *   record.<kind>.<bucket>   omap, see rbd-record.c; accounts in a RADOS namespace of their own
 *   beat.<host>              8 bytes, little endian
 *   golden                   omap: image id -> "<size> <RBD image>"; an entry is what seals an image
 *   gate.<instance>          omap, see rbd-gate.c
 *   RBD images               golden.<image>.<nonce>   <instance>.e<N>.h<H>   <instance>.<disk>
 */

/* rbd-client.c. One for all threads (librados is thread-safe); each call holds it while it runs. */
struct pool_client {
        struct pool *pool;
        rados_t cluster;
        char *own;      /* its address "ADDRESS:0/NONCE", as a watcher's is written */
        unsigned users; /* under the pool's lock */
};

struct pool {
        char *name;
        char *ns;         /* RADOS namespace; "" is the default one */
        char *account_ns; /* where accounts lie, out of reach for hosts */
        char *address;    /* this host's on the storage network, without the port */
        struct machine machine;
        pthread_mutex_t lock;
        struct pool_client *client; /* under lock; NULL: the next call opens one */
        unsigned refusals_seen;     /* under lock: pool_refusals() when it was last found in order */
        char monitors[512];         /* under lock; empty until first asked for */
};

#define RBD_DIRECTORY "rbd_directory" /* librbd's own: omap "name_<image>" -> id, "id_<id>" -> name */
#define POOL_GOLDEN "golden"          /* the object that lists sealed images */
#define POOL_SNAP "sealed"            /* the snapshot that clones hang on */
#define POOL_NAME_MAX 192             /* a buffer for any RBD image or object name here */
#define POOL_FOREVER                                                                                        \
        630720000U /* seconds (20 years): how long a blocklist entry lasts that nobody lifts, "for ever" in \
                      a 32 bit time */

static inline struct pool *pool_of(const struct store *s)
{
        return s->state;
}

/* Connects a client of its own; also for the self-test. ret is to be rados_shutdown() by the caller. */
int pool_connect(const struct store *s, rados_t *ret, struct err *err);
/* The client's address as the OSDs write it; fresh memory. */
int pool_address(rados_t cluster, char **ret, struct err *err);

/* The store's client, held until pool_client_putp(): a new one where the last was put on the blocklist. */
int pool_client_get(const struct store *s, struct pool_client **ret, struct err *err);
void pool_client_putp(struct pool_client **client); /* for _cleanup_, declared before the I/O context */
/* How often Ceph has refused a client of this process as blocklisted: a reason to look whether it was one's
 * own. */
unsigned pool_refusals(void);

/* An I/O context (local work) of the client, which is held with it. */
int pool_io(const struct store *s, struct pool_client **ret_client, rados_ioctx_t *ret, struct err *err);
int pool_io_in(const struct store *s, rados_t cluster, const char *ns, rados_ioctx_t *ret, struct err *err);
void pool_io_donep(rados_ioctx_t *io);          /* for _cleanup_ */
void pool_iter_donep(rados_omap_iter_t *it);    /* for _cleanup_ */
void pool_read_op_donep(rados_read_op_t *op);   /* for _cleanup_ */
void pool_write_op_donep(rados_write_op_t *op); /* for _cleanup_ */

/* librados's code as store.h's: fenced is -EACCES, what nobody can act on is -EIO. */
int pool_code(int r);
/* pool_code() and a message "<fmt>: <reason>". */
int pool_fail(struct err *err, int r, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* An RBD image that is read, with what it was opened by; each may be NULL still. */
struct pool_reading {
        struct pool_client *client;
        rados_ioctx_t io;
        rbd_image_t image;
};
/* All of it, or an error that begins with `what`. */
int pool_reading_read(const struct pool_reading *i, const char *what, void *buf, size_t len, uint64_t offset,
                      struct err *err);
void pool_reading_close(struct pool_reading *i);

/* Calls cb for every RBD image whose name starts with prefix, as the pool's directory says. cb as in
 * record_list. */
typedef int (*pool_name_cb)(void *arg, const char *name, const char *id);
int pool_names(rados_ioctx_t io, const char *prefix, pool_name_cb cb, void *arg, struct err *err);

/* The same as a list, of one moment unless it is longer than a page; begun first, waited for later. */
struct pool_image {
        char name[POOL_NAME_MAX], id[64];
};
struct pool_list {
        struct pool_image *image;
        size_t n;
};
void pool_list_begin(struct pool_scan *s, rados_ioctx_t io, const char *prefix);
int pool_list_wait(struct pool_scan *s, rados_ioctx_t io, const char *prefix, struct pool_list *ret,
                   struct err *err);
int pool_list(rados_ioctx_t io, const char *prefix, struct pool_list *ret, struct err *err);
const char *pool_list_id(const struct pool_list *l, const char *name); /* NULL: not in it */
void pool_list_done(struct pool_list *l);                              /* for _cleanup_ */

/* A JSON answer of a monitor to {"prefix": what, more "format": "json"}; fresh memory. */
int pool_ask(rados_t cluster, const char *what, const char *more, char **ret);
/* "host:port,host:port" of the monitors. */
int pool_monitors(const struct store *s, char *ret, size_t len, struct err *err);
/* "pool/image" or "pool/namespace/image". */
int pool_path(const struct store *s, const char *image, char *ret, size_t len, struct err *err);

/* rbd-volume.c: the sealed image behind an id; name has POOL_NAME_MAX bytes. -ENOENT where there is none. */
int golden_find(rados_ioctx_t io, const char *image, char *name, uint64_t *ret_size, struct err *err);

/* rbd-disk.c: the RBD images of instances. disk_image: the name of a disk's, the lease's for the first. */
void disk_image(const char *instance, const struct lease *lease, const struct disk_spec *disks, size_t i,
                char ret[POOL_NAME_MAX]);
struct golden {
        char name[POOL_NAME_MAX]; /* RBD image */
        uint64_t size;
};
int disk_make(rados_ioctx_t io, const char *name, const struct disk_spec *spec, const struct golden *golden,
              struct err *err); /* golden: of a disk with an image, and then of that image's size */
/* Its own size, for one that disk_make() has just made; and for one that may have it already. */
int disk_grow_made(rados_ioctx_t io, const char *name, uint64_t size);
int disk_grow(rados_ioctx_t io, const char *id, uint64_t size);
static inline bool disk_grows(const struct disk_spec *spec, const struct golden *golden)
{
        return spec->image && !spec->content && spec->size > golden->size;
}
int disk_remove(rados_ioctx_t io, const char *name, struct err *err); /* one that is not there is fine */
/* The object of a name that the directory does not have: a creation begins with it. 0, also where there is
 * none, or -errno of librados. */
int disk_name_remove(rados_ioctx_t io, const char *name);
/* Addresses of the clients that have the image open and come from `address` (NULL: from anywhere), without
 * the client `but`. Calls cb with each; returns their number. id: the image's, or NULL to look it up. */
typedef int (*disk_watcher_cb)(void *arg, const char *client);
int disk_watchers(rados_ioctx_t io, const char *name, const char *id, const char *address, const char *but,
                  disk_watcher_cb cb, void *arg, struct err *err);
/*
 * 0: renamed in the directory, which decides; 1: the same, but the new name may not resolve yet; -ENOENT:
 * not there under the old name; -ETIMEDOUT: unknown. ret_occupied: the new name's own object is the rest of
 * an earlier crash, and names another image. Who has lost takes the new name's object away, unless another
 * has that name now. later: takes the removal of the old name's object, under way; the caller ends it with
 * pool_op_done().
 */
int disk_rename(rados_ioctx_t io, const char *id, const char *old, const char *new, bool *ret_occupied,
                struct pool_op *later);
/* Makes the name of the directory's entry {name, id} resolve. */
int disk_name_mend(rados_ioctx_t io, const char *name, const char *id);
int disk_create_raw(rados_ioctx_t io, const char *name, uint64_t size);

/* rbd-lease.c: all images of an instance. */
void lease_images_begin(struct pool_scan *s, rados_ioctx_t io, const char *instance);
int lease_images_wait(struct pool_scan *s, rados_ioctx_t io, const char *instance, struct pool_list *ret,
                      struct err *err);
/* The name as the directory has it, complete or not. */
int lease_name_find(rados_ioctx_t io, const char *instance, struct lease *ret, struct err *err);
int lease_name_of(const struct pool_list *images, const char *instance, struct lease *ret, struct err *err);
/* Claims by renaming the image `id`. later: as disk_rename() says. */
int lease_claim_image(rados_ioctx_t io, const char *instance, const char *id, const struct lease *from,
                      unsigned host, bool again, struct lease *ret, struct pool_op *later, struct err *err);
/* Is the name `mine`? -ESTALE: it has moved on; -ENOENT. lease_look() lists the images itself. */
int lease_check(const struct pool_list *images, const char *instance, const struct lease *mine,
                struct err *err);
int lease_look(rados_ioctx_t io, const char *instance, const struct lease *mine, struct err *err);

/* -EINVAL where the cluster still allows clients that know no clone v2; err says what to run. */
int pool_check_clone_v2(rados_t cluster, struct err *err);
int rbd_diagnose(struct store *s, bool many_machines, store_finding_cb cb, void *arg,
                 struct err *err);                                                       /* diagnose-rbd.c */
int rbd_diagnose_host(struct store *s, store_finding_cb cb, void *arg, struct err *err); /* rbd-lift.c */

int rbd_secret(struct store *s, char **ret, struct err *err); /* rbd-secret.c */
extern const struct engine_records rbd_records;
extern const struct engine_volumes rbd_volumes;
extern const struct engine_leases rbd_leases;
extern const struct engine_starts rbd_starts;
extern const struct engine_lifts rbd_lifts;
extern const struct engine_disks rbd_disks;     /* rbd-read.c */
extern const struct engine_foreign rbd_foreign; /* rbd-foreign.c: reading those of others */
