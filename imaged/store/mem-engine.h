/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <pthread.h>

#include "imaged/store/engine.h"

/*
 * Everything in this process's memory, for unit tests of what stands on a store. Same answers as the real
 * engines; only QEMU cannot open its disks (no attach) and there is no fence to test.
 */
struct item {
        struct item *next;
        char *id; /* a record's is "<kind>/<id>" */
        uint64_t version;
        char *text; /* record: NULL is a tombstone */
        uint8_t *data;
        uint64_t size;
        unsigned users;     /* image: disks that copy it on write */
        struct lease lease; /* instance */
        char start[UUID_LEN + 1], granted[UUID_LEN + 1];
        char images[32][STORE_ID_MAX + 1];
        size_t n_images;
};

struct mem {
        pthread_mutex_t lock; /* guards all below */
        struct item *records, *images, *instances, *beats;
};

struct mem *mem_lock(struct store *s);
void mem_unlockp(struct mem **m); /* for _cleanup_ */
/* All under the lock. item_find(): where its pointer is, or would be. item_add(): NULL is out of memory. */
struct item **item_find(struct item **list, const char *id);
struct item *item_add(struct item **list, const char *id);
void item_drop(struct item **p);

/* mem-record.c; mem-volume.c, where an unsealed image belongs to its handle alone; mem-lease.c, where an
 * instance's disks are names only */
extern const struct engine_records mem_records;
extern const struct engine_volumes mem_volumes;
extern const struct engine_leases mem_leases;
