/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/*
 * What the dir and nfs engines need of a file system. Paths are relative to the store's root, without a
 * leading slash. Any thread; a fs_file one thread at a time, but for its write. Errors as in store.h;
 * -ETIMEDOUT from a call that changes something means unknown: it may still happen. No operation is ever
 * sent twice unless sending it twice does no harm.
 */
struct fs_attr {
        uint32_t uid, gid, mode, nlink; /* mode: permission bits only */
        uint64_t size;
        int64_t ctime_s, mtime_s; /* by the clock of whoever keeps the files */
        uint32_t ctime_ns;
        bool plain; /* a file: no folder, link, pipe or device */
};

/* Who may use a new file. */
struct fs_owner {
        uint32_t uid, gid, mode;
};

typedef int (*fs_name_cb)(void *arg, const char *name); /* non-zero ends the list and is returned */
/* r < 0: names[i] could not be read (-ENOENT: it has gone), text NULL. text is NUL-terminated and borrowed.
 */
typedef int (*fs_text_cb)(void *arg, size_t i, int r, const char *text, size_t len);

struct fs;
struct fs_file;

#define FS_SYNC_MAX 8

struct fs_ops {
        /* -EEXIST is reported. */
        int (*mkdir)(struct fs *fs, const char *path, uint32_t mode, struct err *err);
        int (*rmdir)(struct fs *fs, const char *path, struct err *err);
        /* All names but "." and "..", as they were at one moment: a listing that took several requests while
         * the folder changed is repeated before the first call of cb. */
        int (*list)(struct fs *fs, const char *path, fs_name_cb cb, void *arg, struct err *err);
        /* A new file with all its content; `durable`: at once, but for its name, else with a later sync.
         * -EEXIST. */
        int (*put)(struct fs *fs, const char *path, const void *data, size_t len,
                   const struct fs_owner *owner, bool durable, struct err *err);
        /* Small files of one folder, each at most max bytes; a longer one is -EFBIG. cb non-zero ends it and
         * is returned. */
        int (*read)(struct fs *fs, const char *folder, const char *const *names, size_t n, size_t max,
                    fs_text_cb cb, void *arg, struct err *err);
        int (*link)(struct fs *fs, const char *from, const char *to,
                    struct err *err); /* exclusive: -EEXIST */
        int (*rename)(struct fs *fs, const char *from, const char *to, struct err *err);
        int (*remove)(struct fs *fs, const char *path, struct err *err);
        int (*stat)(struct fs *fs, const char *path, struct fs_attr *ret, struct err *err);
        /* Makes durable which names folders have, and what files contain: all of them (at most FS_SYNC_MAX)
         * at the same time, so that the device is flushed once for all. */
        int (*sync)(struct fs *fs, const char *const *paths, size_t n, struct err *err);
        int (*space)(struct fs *fs, uint64_t *ret_total, uint64_t *ret_free, struct err *err);
        void (*close)(struct fs *fs);
};

struct fs_file_ops {
        /* A new empty file of that size, all hole, mode 0600. */
        int (*create)(struct fs *fs, const char *path, uint64_t size, struct fs_file **ret, struct err *err);
        /* write: also to be written; what was written to it before, by whomever, is durable with its seal.
         */
        int (*open)(struct fs *fs, const char *path, bool write, struct fs_file **ret, uint64_t *ret_size,
                    struct err *err);
        int (*read)(struct fs_file *f, void *buf, size_t len, uint64_t offset, struct err *err);
        int (*write)(struct fs_file *f, const void *buf, size_t len, uint64_t offset, struct err *err);
        /* Longer by a hole, or cut. */
        int (*resize)(struct fs_file *f, uint64_t size, struct err *err);
        /* All content durable, then the new owner and mode. */
        int (*seal)(struct fs_file *f, const struct fs_owner *owner, struct err *err);
        void (*close)(struct fs_file *f);
        /* Overwrites the first bytes of a file in place, made where it is missing; seen by others at once.
         */
        int (*poke)(struct fs *fs, const char *path, const void *data, size_t len, struct err *err);
        /* A file that others have put there, for reading: no link is followed, at no step of the path, and
         * what is no plain file is -EINVAL. */
        int (*open_import)(struct fs *fs, const char *path, struct fs_file **ret, struct fs_attr *ret_attr,
                           struct err *err);
        /* What the open file is by now, whatever has its name. */
        int (*attr)(struct fs_file *f, struct fs_attr *ret, struct err *err);
        /* Optional: how many bytes from offset (below the file's end) on are a hole. */
        uint64_t (*hole)(struct fs_file *f, uint64_t offset);
};

struct fs {
        const struct fs_ops *ops;
        const struct fs_file_ops *file;
};

/* fs-dir.c. root must be the absolute path of a directory; -ENOENT where there is none: it is not made. */
int fs_dir_new(const char *root, struct fs **ret, struct err *err);
const char *fs_dir_path(struct fs *fs); /* absolute, resolved */
int fs_dir_root(struct fs *fs);         /* a file descriptor, borrowed */
/* Makes or atomically repoints a symbolic link. */
int fs_dir_symlink(struct fs *fs, const char *target, const char *path, struct err *err);

/* fs-nfs.c. place: "SERVER/EXPORT[/PATH]"; connects at once. */
int fs_nfs_new(const char *place, unsigned timeout_ms, struct fs **ret, struct err *err);
const char *fs_nfs_server(struct fs *fs);
const char *fs_nfs_path(struct fs *fs); /* "/EXPORT[/PATH]" */
/*
 * Owner, group and mode of each file in ONE guarded SETATTR, over a fresh connection that is never
 * re-established: the request runs once or not at all, and never after this call has returned 0.
 * docs/ownership.md, "NFS". -ETIMEDOUT: the connection was lost, unknown. -ENOENT: the name has moved on.
 * -EACCES: root is squashed.
 */
enum fs_take {
        FS_TAKE_NOTHING, /* a grant: only group and mode, always guarded */
        FS_TAKE_ANY,     /* from whoever has it, after some tries without the guard; -EEXIST: it is uid's
                            already */
        FS_TAKE_FROM,    /* from `from` or uid itself, always guarded; -EPERM: it is somebody else's */
};
struct fs_taking {
        enum fs_take take;
        uint32_t uid, from, gid, mode;
};
int fs_nfs_own(struct fs *fs, const char *const *paths, size_t n, const struct fs_taking *t,
               struct err *err);

/* Whether the server grants that user and group the right to write each file, by its ACCESS procedure: 0.
 * -EACCES: not. -EROFS: not, and yet the file is the user's own. -ENOENT: the name has moved on. */
int fs_nfs_may_write(struct fs *fs, const char *const *paths, size_t n, uint32_t uid, uint32_t gid,
                     struct err *err);

/* For the self-test: writes a byte with the rights of `uid`, over a connection and with a handle that are
 * kept from the first call on, as a QEMU that has its disk open does. Starts zeroed. */
struct fs_nfs_writer {
        struct nfs_conn *conn;
        uint32_t fh_len;
        char fh[64];
};
int fs_nfs_try_write(struct fs *fs, const char *path, uint32_t uid, struct fs_nfs_writer *w,
                     struct err *err);
void fs_nfs_writer_done(struct fs_nfs_writer *w);
