/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "imaged/store/store.h"

/*
 * What a storage engine supplies. Small tables of operations and the calls of its life; store.c
 * checks all arguments (ids, sizes, NULLs), finds the engine by the URL's prefix and answers "not supported"
 * (-EOPNOTSUPP) for an operation that is NULL. So an engine may take for granted that ids match
 * [A-Za-z0-9_-]{1,64}, disk names [a-z0-9]{1,15}, sizes are multiples of 512, offsets lie inside the volume,
 * and records are at most RECORD_MAX bytes. Every operation may be called by many threads at once (a volume:
 * one thread at a time, but for write). What each call means, its errors and its durability are in store.h.
 */
struct engine;

#define RECORD_MAX (256 * 1024) /* bytes of one record's text */
#define STORE_ID_MAX 64

/* An opened store. Everything but `state` is set by store.c before open() and freed by it after close(). */
struct store {
        const struct engine *engine;
        char *url;   /* as given */
        char *place; /* url behind the prefix: "PATH", "SERVER/EXPORT", "POOL[/NAMESPACE]" */
        struct store_options options; /* own copies of the strings; timeout_ms never 0 */
        void *state;                  /* the engine's own */
        struct record_cache *cache;   /* see record-cache.h; made by store.c, for an engine's record list */
};

/* An opened golden image. Allocated and freed by store.c; `state` is the engine's own. */
struct volume {
        struct store *store;
        char image[STORE_ID_MAX + 1];
        uint64_t size; /* create: given; open: filled by the engine */
        bool sealed;   /* set by the engine in open, and by store.c after a seal that worked */
        bool left;     /* close: unsealed it stays, for a volume_resume() */
        void *state;
};

struct engine_records {
        int (*get)(struct store *s, enum record_kind kind, const char *id, char **ret_text,
                   uint64_t *ret_version, struct err *err);
        int (*put)(struct store *s, enum record_kind kind, const char *id, uint64_t expected,
                   const char *text, uint64_t *ret_version,
                   struct err *err); /* ret_version is never NULL here */
        int (*list)(struct store *s, enum record_kind kind, record_cb cb, void *arg, struct err *err);
        int (*beat_write)(struct store *s, unsigned host, uint64_t counter, struct err *err);
        int (*beat_read)(struct store *s, unsigned host, uint64_t *ret_counter, struct err *err);
};

struct engine_volumes {
        int (*create)(struct volume *v, struct err *err); /* image and size are set */
        int (*write)(struct volume *v, const void *buf, size_t len, uint64_t offset,
                     struct err *err); /* unsealed; several threads at once */
        int (*resize)(struct volume *v, uint64_t size,
                      struct err *err);                 /* unsealed; v->size is set after it */
        int (*seal)(struct volume *v, struct err *err); /* not called again once it worked */
        int (*open)(struct volume *v, struct err *err); /* image is set; fills size */
        /* Optional: nothing unsealed outlives its process. As open; without take the handle only reads, and
         * counts as sealed. */
        int (*resume)(struct volume *v, bool take, struct err *err);
        int (*read)(struct volume *v, void *buf, size_t len, uint64_t offset, struct err *err);
        void (*close)(struct volume *v); /* an unsealed one is removed; also after a failed create or open:
                                            state NULL */
        int (*remove)(struct store *s, const char *image, struct err *err);
        int (*attach)(struct store *s, const char *image, struct attach *ret,
                      struct err *err);                                                   /* ret is zeroed */
        int (*location)(struct store *s, const char *image, char **ret, struct err *err); /* optional */
};

/* An instance's disk being read. Allocated and freed by store-disks.c; `state` is the engine's own. */
struct disk_reader {
        struct store *store;
        char instance[STORE_ID_MAX + 1];
        uint64_t size;     /* filled by the engine in open, as the next two */
        bool qcow2;        /* the bytes are an overlay's */
        char backing[128]; /* its backing file's name as the engine wrote it; empty: none */
        void *state;
};

struct engine_disks {
        int (*open)(struct disk_reader *d, const struct lease *lease, const struct disk_spec *disk,
                    struct err *err);
        int (*read)(struct disk_reader *d, void *buf, size_t len, uint64_t offset, struct err *err);
        void (*close)(struct disk_reader *d); /* also after a failed open: state NULL */
};

/* A volume of others being read. Allocated and freed by store-foreign.c; `state` is the engine's own. */
struct foreign {
        struct store *store;
        char *name;    /* as given */
        uint64_t size; /* filled by the engine in open */
        void *state;
};

struct engine_foreign {
        int (*open)(struct foreign *f, struct err *err); /* checks the name, too */
        int (*read)(struct foreign *f, void *buf, size_t len, uint64_t offset, struct err *err);
        uint64_t (*hole)(struct foreign *f, uint64_t offset); /* optional: none is known */
        int (*unchanged)(struct foreign *f, struct err *err);
        void (*close)(struct foreign *f); /* also after a failed open: state may be NULL or half-built */
};

/* store-foreign-names.c: what a name of a volume of others may be; -EINVAL says why not. */
int foreign_path_check(const char *path, struct err *err);
#define FOREIGN_RBD_MAX 128 /* a buffer for each part */
struct foreign_rbd {
        char pool[FOREIGN_RBD_MAX], ns[FOREIGN_RBD_MAX]; /* pool empty: the store's own, and its namespace */
        char image[FOREIGN_RBD_MAX], snap[FOREIGN_RBD_MAX]; /* snap empty: none */
};
int foreign_rbd_parse(const char *name, struct foreign_rbd *ret, struct err *err);

struct engine_leases {
        int (*create)(struct store *s, const char *instance, const struct disk_spec *disks, size_t n_disks,
                      struct err *err);
        int (*find)(struct store *s, const char *instance, struct lease *ret, struct err *err);
        int (*list)(struct store *s, lease_cb cb, void *arg, struct err *err);
        int (*claim)(struct store *s, const char *instance, const struct lease *from, unsigned host,
                     bool again, struct lease *ret, struct err *err);
        int (*fence)(struct store *s, const char *instance, const struct lease *mine,
                     const struct start *start, const struct disk_spec *disks, size_t n_disks,
                     struct err *err);
        int (*grant)(struct store *s, const char *instance, const struct lease *mine,
                     const struct start *destination, const struct disk_spec *disks, size_t n_disks,
                     struct err *err);
        int (*gate)(struct store *s, const char *instance, const struct lease *mine,
                    const struct start *start, const struct disk_spec *disks, size_t n_disks,
                    struct err *err);
        int (*may_write)(struct store *s, const char *instance, const struct lease *mine,
                         const struct start *start, const struct disk_spec *disks, size_t n_disks,
                         struct err *err);
        int (*remove)(struct store *s, const char *instance, const struct lease *mine,
                      const struct disk_spec *disks, size_t n_disks, struct err *err);
        int (*commit)(struct store *s, const char *instance, const struct commit_claim *c,
                      const struct disk_spec *disks, size_t n_disks, struct lease *ret,
                      struct err *err); /* optional: claim, fence, gate in turn */
};

/* How the QEMU of one start opens the disks. */
struct engine_starts {
        int (*attach)(struct store *s, const char *instance, const struct lease *lease,
                      const struct start *start, const struct disk_spec *disks, size_t n_disks,
                      struct attach *ret, struct err *err); /* ret is zeroed */
        int (*lock_path)(struct store *s, const char *instance, char **ret,
                         struct err *err); /* optional: /dev/null */
        void (*forget)(struct store *s, const char *instance, const struct start *start); /* optional */
};

/* What fences leave on the storage's list of those it refuses. */
struct engine_lifts {
        int (*fenced)(struct store *s, const char *instance, fenced_cb cb, void *arg, struct err *err);
        int (*lift)(struct store *s, const char *instance, const struct fenced_client *client,
                    struct err *err);
};

struct engine {
        const char *name;   /* "dir" */
        const char *prefix; /* of the URL: "dir:" */
        int (*open)(struct store *s, struct err *err);
        void (*close)(struct store *s); /* also after a failed open: state may be NULL or half-built */
        int (*space)(struct store *s, uint64_t *ret_total, uint64_t *ret_free, struct err *err);
        int (*room)(struct store *s, struct err *err); /* optional: by `space` */
        int (*prepare)(struct store *s, struct err *err);
        int (*upkeep)(struct store *s, struct err *err); /* optional: nothing to do */
        int (*selftest)(struct store *s, struct err *err);
        int (*secret)(struct store *s, char **ret_key, struct err *err); /* optional: QEMU needs no key */
        int (*diagnose)(struct store *s, bool many_machines, store_finding_cb cb, void *arg,
                        struct err *err); /* optional: nothing to find; as is the next */
        int (*diagnose_host)(struct store *s, store_finding_cb cb, void *arg, struct err *err);
        const struct engine_records *records;
        const struct engine_volumes *volumes;
        const struct engine_leases *leases;
        const struct engine_starts *starts;   /* optional: QEMU cannot open what it keeps */
        const struct engine_lifts *lifts;     /* optional: a fence leaves nothing behind */
        const struct engine_disks *disks;     /* optional: instances' disks cannot be read */
        const struct engine_foreign *foreign; /* optional: others' volumes cannot be read */
};

extern const struct engine engine_mem; /* mem-engine.c */
extern const struct engine engine_dir; /* files-engine.c */
extern const struct engine engine_nfs; /* files-engine.c */
extern const struct engine engine_rbd; /* rbd-*.c; in store.c's table where HAVE_RBD is defined */

/*
 * The name is the lease: "<instance>.e<epoch>.h<host>" (store-names.c, for every engine). Buffers hold
 * LEASE_NAME_MAX + 1. parse: 0, or -EINVAL for what is no such name (leading zeros and signs included, so
 * that a name has one spelling).
 */
#define LEASE_NAME_MAX (STORE_ID_MAX + 2 + 20 + 2 + 10)
void lease_name_format(const char *instance, const struct lease *lease, char ret[LEASE_NAME_MAX + 1]);
int lease_name_parse(const char *name, char ret_instance[STORE_ID_MAX + 1], struct lease *ret);
bool store_id_valid(const char *id);

/* The user of a start on nfs, store-names.c; see start_init(). */
uint32_t start_uid(const char *instance, uint64_t epoch, const char *attempt, const char *id);
