/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Write-back of a large file while it is still written. A server keeps unstable WRITEs in memory until a
 * COMMIT; left to the end, its disk would stand idle during the whole upload, and one COMMIT of a large
 * image could last longer than a call may. What these COMMITs say is of no consequence: the one of the seal
 * decides.
 */
#include <errno.h>

#include "common/log.h"
#include "imaged/store/fs-nfs.h"

#define COMMIT_EVERY ((uint64_t)64 << 20) /* bytes */

static int run_commit(struct fs_nfs *n, struct nfs_conn *c, void *arg)
{
        struct fs_file *f = arg;
        uint64_t verifier;

        return nfs3_commit(c, &f->fh, &verifier);
}

static void *committer_run(void *arg)
{
        struct fs_file *f = arg;
        const struct nfs_op op = {
            .what = "commit", .path = "(image)", .again = true, .run = run_commit, .arg = f};

        pthread_mutex_lock(&f->lock);
        while (!f->closing) {
                struct err err = {0};

                if (f->unstable < COMMIT_EVERY) {
                        pthread_cond_wait(&f->more, &f->lock);
                        continue;
                }
                f->unstable = 0;
                pthread_mutex_unlock(&f->lock);
                if (nfs_run(f->fs, &op, &err) < 0)
                        log_debug("early commit: %s", err_text(&err));
                pthread_mutex_lock(&f->lock);
        }
        pthread_mutex_unlock(&f->lock);
        return NULL;
}

void fs_nfs_commit_soon(struct fs_file *f, uint64_t written)
{
        f->unstable += written;
        if (f->unstable < COMMIT_EVERY)
                return;
        if (!f->commits) /* small files never come here; without the thread the seal does it all */
                f->commits = pthread_create(&f->committer, NULL, committer_run, f) == 0;
        pthread_cond_signal(&f->more);
}

void fs_nfs_commit_end(struct fs_file *f)
{
        pthread_mutex_lock(&f->lock);
        f->closing = true;
        pthread_cond_signal(&f->more);
        pthread_mutex_unlock(&f->lock);
        if (f->commits)
                pthread_join(f->committer, NULL);
}
