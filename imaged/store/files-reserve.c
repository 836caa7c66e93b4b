/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/files.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"

/*
 * Where the storage is full, whoever wants to remove something has to change a record first, and there is no
 * room for it. So the store keeps some: files that hold nothing, one of which is given up for a record that
 * does not fit otherwise. Each has room for the largest record, and for many as they usually are.
 */
#define FOLDER "reserve"
#define PIECES 8
#define PIECE ((size_t)512 << 10)
#define FREE_MIN (2 * PIECES * (uint64_t)PIECE) /* it is not made of the last room there is */

static void piece_path(unsigned i, char ret[FILES_PATH_MAX])
{
        snprintf(ret, FILES_PATH_MAX, FOLDER "/%u", i);
}

bool files_reserve_use(struct files *f)
{
        char path[FILES_PATH_MAX];

        for (unsigned i = 0; i < PIECES; i++) {
                piece_path(i, path);
                if (f->fs->ops->remove(f->fs, path, NULL) == 0)
                        return true;
        }
        return false;
}

/* Not zeros, which some file systems store in no room at all. */
static uint8_t *noise(void)
{
        uint64_t *p = malloc(PIECE);

        for (size_t i = 0; p && i < PIECE / sizeof(*p); i++)
                p[i] = random_u64();
        return (uint8_t *)p;
}

int files_reserve_fill(struct files *f, struct err *err)
{
        static const struct fs_owner owner = {.mode = 0600};
        _cleanup_(freep) uint8_t *data = NULL;
        int r = files_mkdir(f, FOLDER, 0700, err);

        for (unsigned i = 0; i < PIECES && r == 0; i++) {
                char path[FILES_PATH_MAX];
                uint64_t total, left;
                struct fs_attr a;

                piece_path(i, path);
                r = f->fs->ops->stat(f->fs, path, &a, err);
                if (r != -ENOENT)
                        continue;
                r = f->fs->ops->space(f->fs, &total, &left, err);
                if (r < 0 || left < FREE_MIN)
                        return r;
                if (!data)
                        data = noise();
                r = data ? f->fs->ops->put(f->fs, path, data, PIECE, &owner, true, err)
                         : err_set(err, -ENOMEM, "out of memory");
                if (r == -EEXIST) /* another made it */
                        r = 0;
        }
        return r == -ENOSPC ? 0 : r; /* no room after all: another time */
}
