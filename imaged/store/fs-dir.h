/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <sys/stat.h>

#include "imaged/store/fs.h"

/* Inside the file operations of a directory: fs-dir.c (names, small files), fs-dir-file.c (large files,
 * heartbeats). */

/* A local or mounted file system, relative to a file descriptor of the store's root. */
struct fs_dir {
        struct fs fs;
        char *path;
        int root;
};

static inline struct fs_dir *dir_of(struct fs *fs)
{
        return (struct fs_dir *)fs;
}

/* fs-dir.c */
void fs_dir_attr(const struct stat *st, struct fs_attr *ret);
int fs_dir_fail(struct fs *fs, const char *path, const char *what, int code, struct err *err);

extern const struct fs_file_ops fs_dir_file_ops;
