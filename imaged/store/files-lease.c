/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/files.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "formats/formats.h"

/* The name of an instance's folder is its lease; one rename takes all disks in it. */

void files_lease_path(const char *instance, const struct lease *lease, char ret[FILES_PATH_MAX])
{
        char name[LEASE_NAME_MAX + 1];

        lease_name_format(instance, lease, name);
        snprintf(ret, FILES_PATH_MAX, "instances/%.2s/%s", instance, name);
}

void files_disk_name(const struct disk_spec *d, char ret[24])
{
        snprintf(ret, 24, "%.15s.%s", d->name, d->content ? "iso" : "qcow2");
}

void files_backing_name(const char *image, char *ret, size_t len)
{
        snprintf(ret, len, "../../../images/%s.raw", image);
}

struct search {
        const char *instance;
        struct lease found;
        size_t n;
};

static int search_name(void *arg, const char *name)
{
        struct search *s = arg;
        char instance[STORE_ID_MAX + 1];
        struct lease l;

        if (lease_name_parse(name, instance, &l) < 0 || !streq(instance, s->instance))
                return 0;
        /* Two names can only be a second creation that lost (see files_lease_create): the higher epoch is
         * the lease. */
        if (s->n == 0 || l.epoch > s->found.epoch)
                s->found = l;
        s->n++;
        return 0;
}

/* search.n 0: no disks */
static int search(struct store *s, const char *instance, struct search *ret, struct err *err)
{
        struct fs *fs = files_of(s)->fs;
        char folder[FILES_PATH_MAX];
        int r;

        files_shard("instances", instance, folder);
        *ret = (struct search){.instance = instance};
        r = fs->ops->list(fs, folder, search_name, ret, err);
        return r == -ENOENT ? 0 : r;
}

int files_lease_find(struct store *s, const char *instance, struct lease *ret, struct err *err)
{
        struct search found;
        int r = search(s, instance, &found, err);

        if (r < 0)
                return err_wrap(err, r, "instance %s", instance);
        if (found.n == 0)
                return err_set(err, -ENOENT, "instance %s: no disks", instance);
        *ret = found.found;
        return 0;
}

int files_lease_mine(struct store *s, const char *instance, const struct lease *mine, struct err *err)
{
        char path[FILES_PATH_MAX];
        struct fs_attr a;
        int r;

        files_lease_path(instance, mine, path);
        r = files_of(s)->fs->ops->stat(files_of(s)->fs, path, &a, err);
        if (r == -ENOENT)
                return err_set(err, -ESTALE, "instance %s: epoch %" PRIu64 " of host %u has passed",
                               instance, mine->epoch, mine->host);
        return r;
}

struct named {
        char instance[STORE_ID_MAX + 1];
        struct lease lease;
};

struct list_arg {
        struct store *store;
        lease_cb cb;
        void *arg;
        struct err *err;
        struct named *named; /* those of one folder */
        size_t n, room;
};

static int list_name(void *arg, const char *name)
{
        struct list_arg *a = arg;

        if (a->n == a->room) {
                size_t room = a->room ? a->room * 2 : 64;
                struct named *bigger = realloc(a->named, room * sizeof(*bigger));

                if (!bigger)
                        return err_set(a->err, -ENOMEM, "instances: out of memory");
                a->named = bigger;
                a->room = room;
        }
        if (lease_name_parse(name, a->named[a->n].instance, &a->named[a->n].lease) == 0)
                a->n++;
        return 0;
}

static int by_instance_newest_first(const void *a, const void *b)
{
        const struct named *x = a, *y = b;
        int r = strcmp(x->instance, y->instance);

        return r ? r : x->lease.epoch > y->lease.epoch ? -1 : x->lease.epoch < y->lease.epoch;
}

/* Of two names of one instance the higher epoch, as search() does it. */
static int list_folder(void *arg, const char *folder)
{
        struct list_arg *a = arg;
        struct fs *fs = files_of(a->store)->fs;
        int r;

        a->n = 0;
        r = fs->ops->list(fs, folder, list_name, a, a->err);
        if (a->n > 1)
                qsort(a->named, a->n, sizeof(*a->named), by_instance_newest_first);
        for (size_t i = 0; r == 0 && i < a->n; i++)
                if (i == 0 || !streq(a->named[i].instance, a->named[i - 1].instance))
                        r = a->cb(a->arg, a->named[i].instance, &a->named[i].lease);
        return r;
}

int files_lease_list(struct store *s, lease_cb cb, void *arg, struct err *err)
{
        struct list_arg a = {.store = s, .cb = cb, .arg = arg, .err = err};
        int r = files_each_shard(files_of(s), "instances", list_folder, &a, err);

        free(a.named);
        return r;
}

/* --- making disks
 * -------------------------------------------------------------------------------------------------- */

static int check_image_size(struct files *f, const struct disk_spec *d, struct err *err)
{
        char path[FILES_PATH_MAX];
        struct fs_attr a;
        int r;

        files_image_path(d->image, path);
        r = f->fs->ops->stat(f->fs, path, &a, err);
        if (r == -ENOENT)
                return err_set(err, r, "image %s: no such image", d->image);
        if (r == 0 && d->size < a.size)
                return err_set(err, -EINVAL, "disk %s: %" PRIu64 " bytes, its image has %" PRIu64, d->name,
                               d->size, a.size);
        return r;
}

/* Counts this disk as a user of the image. Beyond the file system's limit of links (65,000 on ext4) nobody
 * counts. */
static int count_image(struct files *f, const char *folder, const char *image, struct err *err)
{
        char from[FILES_PATH_MAX], to[FILES_PATH_MAX * 2];
        int r;

        files_image_path(image, from);
        snprintf(to, sizeof(to), "%s/image-%s", folder, image);
        r = f->fs->ops->link(f->fs, from, to, err);
        if (r == -ENOENT)
                return err_set(err, r, "image %s: no such image", image);
        return r == -EMLINK || r == -EEXIST ? 0 : r;
}

static int make_disk(struct files *f, const char *folder, const struct disk_spec *d, struct err *err)
{
        /* root's until a start takes it: on nfs its fence, on a directory hostd for the QEMU */
        static const struct fs_owner owner = {.mode = 0600};
        _cleanup_(freep) uint8_t *text = NULL;
        char name[24], path[FILES_PATH_MAX * 2], backing[FILES_PATH_MAX];
        size_t len = 0;
        int r;

        files_disk_name(d, name);
        snprintf(path, sizeof(path), "%s/%s", folder, name);
        if (d->content)
                return f->fs->ops->put(f->fs, path, d->content, d->n_content, &owner, false, err);
        if (d->image) {
                r = check_image_size(f, d, err);
                if (r >= 0)
                        r = count_image(f, folder, d->image, err);
                if (r < 0)
                        return r;
                files_backing_name(d->image, backing, sizeof(backing));
        }
        r = qcow2_overlay(d->size, d->image ? backing : NULL, &text, &len, err);
        if (r < 0)
                return r;
        return f->fs->ops->put(f->fs, path, text, len, &owner, false, err);
}

/*
 * A rename whose answer got lost: the folder is moved out of its way. Where that works the rename has not
 * happened and never will, however late it arrives: a later one would put a second name of epoch 0 beside
 * the true one. Where it finds nothing the rename has happened, for nobody else knows that folder.
 */
static int publish_settle(struct files *f, const char *temporary, struct err *err)
{
        char given_up[FILES_PATH_MAX];
        int r;

        files_temporary("given-up", given_up);
        r = f->fs->ops->rename(f->fs, temporary, given_up, NULL);
        if (r == -ENOENT)
                return 0;
        if (r == 0)
                files_rmtree(f, given_up, NULL);
        return err_set(err, -ETIMEDOUT, "%s: no answer", temporary);
}

/* The finished folder gets its name. Two creators may meet here: one of them finds the name taken, or a
 * later epoch of it. */
static int publish(struct store *s, const char *instance, const char *temporary, const char *path,
                   struct err *err)
{
        struct files *f = files_of(s);
        struct search found;
        int r;

        r = f->fs->ops->rename(f->fs, temporary, path, err);
        if (r == -ETIMEDOUT || r == -ENOENT)
                r = publish_settle(f, temporary, err);
        if (r < 0)
                return r == -EEXIST ? err_set(err, r, "instance %s has disks already", instance) : r;
        r = search(s, instance, &found, err);
        if (r < 0)
                return r;
        if (found.n > 1) {
                files_rmtree(f, path, NULL);
                return err_set(err, -EEXIST, "instance %s has disks already", instance);
        }
        return 0;
}

/*
 * The disks' content and names, the folder's own name and that of its shard (whoever made it may not have
 * come to that yet), all at once: one flush of the device. A power cut before it may leave the name with
 * half a disk below it; nobody was told then that the instance exists, and its maker's record has it
 * removed.
 */
static int sync_disks(struct files *f, const char *folder, const char *shard, const struct disk_spec *disks,
                      size_t n_disks, struct err *err)
{
        char text[FS_SYNC_MAX][FILES_PATH_MAX + 32], name[24];
        const char *paths[FS_SYNC_MAX];
        size_t n = 0;
        int r = 0;

        for (size_t i = 0; i < n_disks && r >= 0; i++) {
                files_disk_name(&disks[i], name);
                snprintf(text[n], sizeof(text[n]), "%s/%s", folder, name);
                paths[n] = text[n];
                if (++n == FS_SYNC_MAX - 3) {
                        r = f->fs->ops->sync(f->fs, paths, n, err);
                        n = 0;
                }
        }
        paths[n++] = folder;
        paths[n++] = shard;
        paths[n++] = "instances";
        return r < 0 ? r : f->fs->ops->sync(f->fs, paths, n, err);
}

int files_lease_create(struct store *s, const char *instance, const struct disk_spec *disks, size_t n_disks,
                       struct err *err)
{
        static const struct lease nobody = {};
        struct files *f = files_of(s);
        char temporary[FILES_PATH_MAX], path[FILES_PATH_MAX], shard[FILES_PATH_MAX];
        struct search found;
        int r;

        r = search(s, instance, &found, err);
        if (r < 0)
                return err_wrap(err, r, "instance %s", instance);
        if (found.n > 0)
                return err_set(err, -EEXIST, "instance %s has disks already", instance);
        files_shard("instances", instance, shard);
        r = f->fs->ops->mkdir(f->fs, shard, 0711, err);
        if (r < 0 && r != -EEXIST)
                return err_wrap(err, r, "instance %s", instance);
        files_lease_path(instance, &nobody, path);
        files_temporary("disks", temporary);
        r = f->fs->ops->mkdir(f->fs, temporary, 0711, err);
        for (size_t i = 0; r >= 0 && i < n_disks; i++)
                r = make_disk(f, temporary, &disks[i], err);
        if (r < 0) {
                files_rmtree(f, temporary, NULL);
                return err_wrap(err, r, "instance %s", instance);
        }
        r = publish(s, instance, temporary, path, err);
        if (r < 0) {
                /* unknown: it may carry the instance's name by now; the sweep takes what remains */
                if (r != -ETIMEDOUT)
                        files_rmtree(f, temporary, NULL);
                return err_wrap(err, r, "instance %s", instance);
        }
        r = sync_disks(f, path, shard, disks, n_disks, err);
        if (r < 0 && r != -ETIMEDOUT)
                files_rmtree(f, path, NULL);
        return r < 0 ? err_wrap(err, r, "instance %s", instance) : 0;
}

/* --- owning them
 * --------------------------------------------------------------------------------------------------- */

/*
 * A rename that did not work: 0: it is won all the same; else -ESTALE or -ETIMEDOUT. Only a rename without
 * an answer may have been mine: one that was answered "not there" was not, even if the new name is there.
 * Then another process with this host's number made it.
 */
static int claim_judge(struct files *f, const char *old, const char *new, bool unanswered, bool again)
{
        struct fs_attr a;
        int r = f->fs->ops->stat(f->fs, new, &a, NULL);

        if (r == 0)
                return unanswered || again ? 0 : -ESTALE;
        if (!unanswered)
                return -ESTALE;
        if (r == -ENOENT && f->fs->ops->stat(f->fs, old, &a, NULL) == -ENOENT)
                return -ESTALE;
        return -ETIMEDOUT;
}

int files_lease_claim(struct store *s, const char *instance, const struct lease *from, unsigned host,
                      bool again, struct lease *ret, struct err *err)
{
        const struct lease to = {.epoch = from->epoch + 1, .host = host};
        struct files *f = files_of(s);
        char old[FILES_PATH_MAX], new[FILES_PATH_MAX], shard[FILES_PATH_MAX];
        struct err lost = {};
        int r;

        files_lease_path(instance, from, old);
        files_lease_path(instance, &to, new);
        files_shard("instances", instance, shard);
        r = f->fs->ops->rename(f->fs, old, new, &lost);
        if (r == -ENOENT || r == -ETIMEDOUT || r == -EEXIST)
                r = claim_judge(f, old, new, r == -ETIMEDOUT, again);
        if (r == -ESTALE)
                return err_set(err, r, "instance %s: epoch %" PRIu64 " of host %u has passed", instance,
                               from->epoch, from->host);
        if (r < 0)
                return err_set(err, r, "instance %s: claim of epoch %" PRIu64 ": %s", instance, to.epoch,
                               err_text(&lost));
        r = files_sync(f, shard, err);
        if (r < 0)
                return err_wrap(err, r, "instance %s", instance);
        *ret = to;
        return 0;
}

/* After my folder has gone: another name can only be what a creation that was given up left behind, see
 * publish_settle(). was_mine false: nothing of mine was there, so what is there is somebody else's. */
static int remove_others(struct store *s, const char *instance, bool was_mine, struct err *err)
{
        struct search found;
        int r;

        while ((r = search(s, instance, &found, err)) >= 0 && found.n > 0) {
                char path[FILES_PATH_MAX];

                if (!was_mine || found.found.epoch > 0)
                        return err_set(err, -ESTALE,
                                       "instance %s: it is at epoch %" PRIu64 " of host %u now", instance,
                                       found.found.epoch, found.found.host);
                files_lease_path(instance, &found.found, path);
                r = files_rmtree(files_of(s), path, err);
                if (r < 0)
                        return r;
        }
        return r;
}

/* Takes the folder out of everybody's sight. 0: it was there; -ENOENT: it was not; -ETIMEDOUT: unknown. */
static int take_away(struct files *f, const char *path, const char *gone, struct err *err)
{
        struct fs_attr a;
        int q, r = f->fs->ops->rename(f->fs, path, gone, err);

        if (r == -EEXIST) { /* the rest of disks that had the same name, made anew since */
                r = files_rmtree(f, gone, err);
                if (r >= 0)
                        r = f->fs->ops->rename(f->fs, path, gone, err);
        }
        if (r != -ETIMEDOUT && r != -ENOENT)
                return r;
        q = f->fs->ops->stat(f->fs, gone, &a, NULL);
        return q == -ENOENT ? r : q;
}

/* The name that the folder takes on its way out is always the same, so that who asks again finds the rest.
 */
int files_lease_remove(struct store *s, const char *instance, const struct lease *mine,
                       const struct disk_spec *disks, size_t n_disks, struct err *err)
{
        struct files *f = files_of(s);
        char path[FILES_PATH_MAX], gone[FILES_PATH_MAX], shard[FILES_PATH_MAX], name[LEASE_NAME_MAX + 1];
        bool was_mine;
        int r;

        files_lease_path(instance, mine, path);
        lease_name_format(instance, mine, name);
        snprintf(gone, sizeof(gone), "tmp/removed-%s", name);
        r = take_away(f, path, gone, err);
        if (r < 0 && r != -ENOENT)
                return err_wrap(err, r, "instance %s", instance);
        was_mine = r == 0;
        r = was_mine ? files_rmtree(f, gone, err) : 0;
        if (r >= 0)
                r = remove_others(s, instance, was_mine, err);
        if (r < 0)
                return err_wrap(err, r, "instance %s", instance);
        files_shard("instances", instance, shard);
        r = files_sync(f, shard, err);
        return r == -ENOENT ? 0 : r; /* never any disks in this shard */
}
