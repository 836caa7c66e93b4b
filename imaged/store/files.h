/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "imaged/store/engine.h"
#include "imaged/store/fs.h"

/*
 * What the engines dir and nfs have in common. The tree below the store's root; <xx> is the first two
 * characters of the id, so that no folder grows beyond some hundred names:
 *
 *   records/<kind>/<xx>/<id>.v<N>                one file per version
 *   beats/<host>                                 20 digits, overwritten in place
 *   images/<id>.raw                              sealed
 *   images/<id>.<nonce>.part                     being written
 *   images/<id>.<nonce>.gone                     being removed
 *   instances/<xx>/<instance>.e<N>.h<H>/         the lease is this folder's name
 *       disk0.qcow2 seed.iso                     content disks are .iso
 *       image-<id>                               hard link to the golden image: its link count says how many
 * disks use it starts/<xx>/<start id>                       dir: symbolic link to the folder above
 *   locks/<xx>/<instance>                        dir: the lock driver's second lock
 *   tmp/                                         what is not finished; swept by prepare() when it is an hour
 * old
 *   reserve/<N>                                  room for changes of records once there is none
 *   import/                                      files of others, to be read from there
 */
struct files {
        struct fs *fs;
};

#define FILES_PATH_MAX 400
#define FILES_IMPORT "import"

static inline struct files *files_of(struct store *s)
{
        return s->state;
}

/* "<base>/<xx>" for an id. */
void files_shard(const char *base, const char *id, char ret[FILES_PATH_MAX]);
/* A fresh name "tmp/<what>-<random>". */
void files_temporary(const char *what, char ret[FILES_PATH_MAX]);
/* One file or folder: fs_ops' sync. */
int files_sync(struct files *f, const char *path, struct err *err);
/* Makes a folder durable in its parent; one that exists is fine. */
int files_mkdir(struct files *f, const char *path, uint32_t mode, struct err *err);
/* Removes a folder and the files in it. */
int files_rmtree(struct files *f, const char *path, struct err *err);
/* One whole small file; the caller frees. */
int files_read(struct files *f, const char *folder, const char *name, size_t max, char **ret,
               size_t *ret_len, struct err *err);

/* files-lease.c: the name of a golden image as its overlays have it: relative, so that the tree may be
 * mounted anywhere. */
void files_backing_name(const char *image, char *ret, size_t len);
/* files-lease-dir.c: -EBUSY where a QEMU holds its image lock for writing. */
int files_unwritten_dir(struct store *s, const char *path, struct err *err);

/* files-volume.c: the golden image's owner on nfs, so that a backing node may open it read-write (DESIGN 5).
 */
uint32_t files_image_uid(const char *image);
/* "images/<id>.raw" */
void files_image_path(const char *image, char ret[FILES_PATH_MAX]);
/* Puts back or finishes what a crash inside volume_remove() left. */
int files_volume_recover(struct files *f, struct err *err);

/* files-lease.c: "instances/<xx>/<instance>.e<N>.h<H>" and a disk's file name. */
void files_lease_path(const char *instance, const struct lease *lease, char ret[FILES_PATH_MAX]);
void files_disk_name(const struct disk_spec *d, char ret[24]);
/* -ESTALE with the current owner in err unless the name is `mine`. */
int files_lease_mine(struct store *s, const char *instance, const struct lease *mine, struct err *err);

/* files-reserve.c: makes what is missing of it, where there is room; gives up a piece: false, it is used up.
 */
int files_reserve_fill(struct files *f, struct err *err);
bool files_reserve_use(struct files *f);

/* files-record-list.c */
int files_record_list(struct store *s, enum record_kind kind, record_cb cb, void *arg, struct err *err);
/* Calls each("<base>/<xx>") for every shard there is; non-zero ends it and is returned. */
int files_each_shard(struct files *f, const char *base, int (*each)(void *arg, const char *folder),
                     void *arg, struct err *err);
/* files-record.c: the name "<id>.v<N>"; the text inside such a file, or NULL for what is none. */
bool files_record_name(const char *name, char ret_id[STORE_ID_MAX + 1], uint64_t *ret_version);
const char *files_record_text(const char *file, bool *ret_deleted);
#define FILES_RECORD_MAX (RECORD_MAX + 512)

extern const struct engine_records files_records;
extern const struct engine_volumes files_volumes_dir, files_volumes_nfs;
extern const struct engine_disks files_disks_dir, files_disks_nfs;       /* files-disk.c */
extern const struct engine_foreign files_foreign_dir, files_foreign_nfs; /* files-foreign.c */

int files_lease_create(struct store *s, const char *instance, const struct disk_spec *disks, size_t n_disks,
                       struct err *err);
int files_lease_find(struct store *s, const char *instance, struct lease *ret, struct err *err);
int files_lease_list(struct store *s, lease_cb cb, void *arg, struct err *err);
int files_lease_claim(struct store *s, const char *instance, const struct lease *from, unsigned host,
                      bool again, struct lease *ret, struct err *err);
int files_lease_remove(struct store *s, const char *instance, const struct lease *mine,
                       const struct disk_spec *disks, size_t n_disks, struct err *err);

extern const struct engine_leases files_leases_dir; /* files-lease-dir.c */
extern const struct engine_leases files_leases_nfs; /* files-lease-nfs.c */
extern const struct engine_starts files_starts_dir, files_starts_nfs;
int files_selftest_dir(struct store *s, struct err *err);
int files_selftest_nfs(struct store *s, struct err *err);

/* diagnose-dir.c: how far the locks of a mounted file system reach, by its type and its options as
 * /proc/self/mountinfo has them. */
enum locks_reach {
        LOCKS_LOCAL,   /* one machine */
        LOCKS_CLUSTER, /* all machines that mount it */
        LOCKS_UNKNOWN
};
enum locks_reach locks_reach(const char *type, const char *options);
int files_diagnose_dir(struct store *s, bool many_machines, store_finding_cb cb, void *arg, struct err *err);
int files_diagnose_nfs(struct store *s, bool many_machines, store_finding_cb cb, void *arg,
                       struct err *err); /* diagnose-nfs.c */
