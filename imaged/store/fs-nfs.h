/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <pthread.h>

#include "imaged/store/nfs3.h"

/* Inside the nfs file operations: fs-nfs.c (names), fs-nfs-list.c (listings), fs-nfs-file.c
 * (content), fs-nfs-commit.c (its write-back), fs-nfs-own.c (the fence). */
#define FOLDER_BUCKETS 1024

struct folder {
        struct folder *next;
        struct nfs_fh fh;
        char path[];
};

struct fs_nfs {
        struct fs fs;
        char *server, *path;
        struct nfs_server *conns;

        /*
         * Handles of folders by path. Only of folders whose name has no dot: nobody renames those but the
         * one that made them under tmp/, while an instance's folder changes hands by rename and is looked up
         * each time.
         */
        pthread_mutex_t lock;
        struct folder *folders[FOLDER_BUCKETS];
};

static inline struct fs_nfs *nfs_of(struct fs *fs)
{
        return (struct fs_nfs *)fs;
}

/* One operation on one connection: what, for errors, and the step that talks to the server. */
struct nfs_op {
        const char *what, *path;
        bool again; /* harmless to repeat on a new connection */
        int (*run)(struct fs_nfs *n, struct nfs_conn *c, void *arg);
        void *arg;
};
/* Runs it; a dead handle among the cached ones is looked up again, once. Maps -ESTALE, which has a meaning
 * of its own in store.h, to -ENOENT. */
int nfs_run(struct fs *fs, const struct nfs_op *op, struct err *err);
/* After -EBUSY: a little later, while there is time; false: the deadline (clock_ms) has passed. */
bool nfs_pause(int64_t deadline);
/* The folder of `path` by handle, and in *ret_name its last step. */
int nfs_parent(struct fs_nfs *n, struct nfs_conn *c, const char *path, struct nfs_fh *ret,
               const char **ret_name);
int nfs_folder(struct fs_nfs *n, struct nfs_conn *c, const char *path, struct nfs_fh *ret);
void nfs_forget(struct fs_nfs *n, const char *path); /* NULL: all */
void nfs_remember(struct fs_nfs *n, const char *path, const struct nfs_fh *fh);
/* parent and LOOKUP */
int nfs_lookup_path(struct fs_nfs *n, struct nfs_conn *c, const char *path, struct nfs_found *ret);
int nfs_fail(struct fs *fs, const char *what, const char *path, int r, struct err *err);

/* An open large file. */
struct fs_file {
        struct fs *fs;
        struct nfs_fh fh;

        pthread_mutex_t lock; /* over what follows */
        bool written;
        uint64_t verifier; /* of the first write that was not stable */
        uint64_t unstable; /* bytes written since the last early COMMIT began */
        pthread_t committer;
        bool commits, closing; /* commits: the thread was started */
        pthread_cond_t more;
};

/* fs-nfs-commit.c: both with a thread of its own behind them. With the file's lock: so many bytes more were
 * written. */
void fs_nfs_commit_soon(struct fs_file *f, uint64_t written);
/* Waits for a COMMIT that is under way. */
void fs_nfs_commit_end(struct fs_file *f);

/* fs-nfs-list.c */
int fs_nfs_list(struct fs *fs, const char *path, fs_name_cb cb, void *arg, struct err *err);

/* fs-nfs-file.c */
int fs_nfs_put(struct fs *fs, const char *path, const void *data, size_t len, const struct fs_owner *owner,
               bool durable, struct err *err);
int fs_nfs_read(struct fs *fs, const char *folder, const char *const *names, size_t n, size_t max,
                fs_text_cb cb, void *arg, struct err *err);
struct fs_file *fs_nfs_file_new(struct fs *fs); /* without a handle yet; NULL: out of memory */
extern const struct fs_file_ops fs_nfs_file_ops;

/* fs-nfs-import.c */
int fs_nfs_open_import(struct fs *fs, const char *path, struct fs_file **ret, struct fs_attr *ret_attr,
                       struct err *err);
int fs_nfs_attr(struct fs_file *f, struct fs_attr *ret, struct err *err);
