/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases: the name of an instance's first image. What the name is says the pool's directory alone: a rename
 * is several steps, and only the one in the directory decides. A crash in between leaves the old name
 * resolvable, the new one's "rbd_id" object occupied, or the new name without one; a claim that meets an
 * occupied name goes on to the next epoch, and as every start begins with a claim, none opens a name that
 * does not resolve.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "imaged/store/rbd-gate.h"

#define CLAIM_TRIES 8 /* epochs that earlier crashes may have left occupied */

static void images_prefix(const char *instance, char ret[POOL_NAME_MAX])
{
        snprintf(ret, POOL_NAME_MAX, "%s.", instance);
}

void lease_images_begin(struct pool_scan *s, rados_ioctx_t io, const char *instance)
{
        char prefix[POOL_NAME_MAX];

        images_prefix(instance, prefix);
        pool_list_begin(s, io, prefix);
}

int lease_images_wait(struct pool_scan *s, rados_ioctx_t io, const char *instance, struct pool_list *ret,
                      struct err *err)
{
        char prefix[POOL_NAME_MAX];

        images_prefix(instance, prefix);
        return pool_list_wait(s, io, prefix, ret, err);
}

int lease_name_of(const struct pool_list *images, const char *instance, struct lease *ret, struct err *err)
{
        bool any = false;

        for (size_t i = 0; i < images->n; i++) {
                char owner[STORE_ID_MAX + 1];
                struct lease lease;

                if (lease_name_parse(images->image[i].name, owner, &lease) < 0 || !streq(owner, instance))
                        continue;
                if (!any || lease.epoch > ret->epoch)
                        *ret = lease;
                any = true;
        }
        return any ? 0 : err_set(err, -ENOENT, "instance %s has no disks", instance);
}

int lease_name_find(rados_ioctx_t io, const char *instance, struct lease *ret, struct err *err)
{
        _cleanup_(pool_list_done) struct pool_list images = {0};
        char prefix[POOL_NAME_MAX];
        int r;

        images_prefix(instance, prefix);
        r = pool_list(io, prefix, &images, err);
        return r < 0 ? r : lease_name_of(&images, instance, ret, err);
}

int lease_check(const struct pool_list *images, const char *instance, const struct lease *mine,
                struct err *err)
{
        struct lease now;
        int r = lease_name_of(images, instance, &now, err);

        if (r == 0 && (now.epoch != mine->epoch || now.host != mine->host))
                return err_set(err, -ESTALE, "instance %s is at e%llu.h%u, no longer at e%llu.h%u", instance,
                               (unsigned long long)now.epoch, now.host, (unsigned long long)mine->epoch,
                               mine->host);
        return r;
}

int lease_look(rados_ioctx_t io, const char *instance, const struct lease *mine, struct err *err)
{
        _cleanup_(pool_scan_done) struct pool_scan scan = {0};
        _cleanup_(pool_list_done) struct pool_list images = {0};
        int r;

        lease_images_begin(&scan, io, instance);
        r = lease_images_wait(&scan, io, instance, &images, err);
        return r < 0 ? r : lease_check(&images, instance, mine, err);
}

/* A name at epoch 0 may stand for disks that are still being made, or never will be: the gate knows. 1:
 * complete. */
static int complete(rados_ioctx_t io, const char *instance, const struct lease *lease, struct err *err)
{
        _cleanup_(gate_done) struct gate gate = {0};
        int r;

        if (lease->epoch > 0)
                return 1;
        r = gate_read(io, instance, &gate, err);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        return gate.complete;
}

static int rbd_lease_find(struct store *s, const char *instance, struct lease *ret, struct err *err)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        struct lease lease;
        int r = pool_io(s, &client, &io, err);

        if (r == 0)
                r = lease_name_find(io, instance, &lease, err);
        if (r == 0)
                r = complete(io, instance, &lease, err);
        if (r < 0)
                return r;
        if (r == 0)
                return err_set(err, -ENOENT, "instance %s has no disks yet", instance);
        *ret = lease;
        return 0;
}

struct listing {
        rados_ioctx_t io;
        lease_cb cb;
        void *arg;
        struct err *err;
};

static int list_name(void *arg, const char *name, const char *id _unused_)
{
        const struct listing *l = arg;
        char instance[STORE_ID_MAX + 1];
        struct lease lease;
        int r;

        if (lease_name_parse(name, instance, &lease) < 0)
                return 0;
        r = complete(l->io, instance, &lease, l->err);
        return r <= 0 ? r : l->cb(l->arg, instance, &lease);
}

static int rbd_lease_list(struct store *s, lease_cb cb, void *arg, struct err *err)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        struct listing l = {.cb = cb, .arg = arg, .err = err};
        int r = pool_io(s, &client, &io, err);

        if (r < 0)
                return r;
        l.io = io;
        return pool_names(io, "", list_name, &l, err);
}

/* It is won, and may have been cut off before the name's own object was written. */
static int claim_mend(rados_ioctx_t io, const char *instance, const struct pool_list *images,
                      const struct lease *now, struct lease *ret, struct err *err)
{
        char name[LEASE_NAME_MAX + 1];
        int r;

        lease_name_format(instance, now, name);
        r = disk_name_mend(io, name, pool_list_id(images, name));
        if (r < 0)
                return pool_fail(err, r, "name %s", name);
        *ret = *now;
        return 0;
}

/* How a claim's rename ended that did not work. */
struct renaming {
        bool unanswered; /* it may have been done */
        bool again;      /* a hostd of this host that is dead may have done it */
        bool lost;       /* it was not done, and the object of the new name may be left over */
};

/*
 * Who holds the name now? 0: me, in ret; 1: nobody moved it; else -errno. The new name with my number alone
 * proves nothing: another host may have the same number.
 */
static int claim_judge(rados_ioctx_t io, const char *instance, const struct lease *from,
                       const struct lease *to, const struct renaming *how, struct lease *ret,
                       struct err *err)
{
        char new[LEASE_NAME_MAX + 1];
        _cleanup_(pool_scan_done) struct pool_scan scan = {0};
        _cleanup_(pool_list_done) struct pool_list images = {0};
        struct lease now;
        int r;

        lease_images_begin(&scan, io, instance);
        r = lease_images_wait(&scan, io, instance, &images, err);
        if (r == 0)
                r = lease_name_of(&images, instance, &now, err);
        if (r == -ENOENT)
                return err_set(err, -ESTALE, "instance %s has no disks any more", instance);
        if (r < 0)
                return r;
        if ((how->unanswered || how->again) && now.host == to->host && now.epoch == to->epoch)
                return claim_mend(io, instance, &images, &now, ret, err);
        lease_name_format(instance, to, new);
        if (how->lost && !pool_list_id(&images, new))
                (void)disk_name_remove(io, new);
        if (now.epoch == from->epoch && now.host == from->host)
                return 1;
        return err_set(err, -ESTALE, "instance %s is at e%llu.h%u, claimed from e%llu.h%u", instance,
                       (unsigned long long)now.epoch, now.host, (unsigned long long)from->epoch, from->host);
}

/* A claim goes over epochs whose names are occupied: each of them is won, and left at once for the next. */
int lease_claim_image(rados_ioctx_t io, const char *instance, const char *id, const struct lease *from,
                      unsigned host, bool again, struct lease *ret, struct pool_op *later, struct err *err)
{
        struct lease at = *from;

        for (int i = 0; i < CLAIM_TRIES; i++) {
                const struct lease to = {.epoch = at.epoch + 1, .host = host};
                char old[LEASE_NAME_MAX + 1], new[LEASE_NAME_MAX + 1];
                bool occupied = false;
                int renamed, r;

                lease_name_format(instance, &at, old);
                lease_name_format(instance, &to, new);
                pool_op_done(later);
                renamed = disk_rename(io, id, old, new, &occupied, later);
                if (renamed < 0) {
                        const struct renaming how = {.unanswered = renamed == -ETIMEDOUT,
                                                     .again = again && i == 0,
                                                     .lost = renamed == -ENOENT && !occupied};

                        r = claim_judge(io, instance, &at, &to, &how, ret, err);
                        return r == 1 ? pool_fail(err, renamed, "rename %s to %s", old, new) : r;
                }
                if (!occupied) {
                        *ret = to;
                        if (renamed == 0)
                                return 0;
                        r = disk_name_mend(io, new, id);
                        return r < 0 ? pool_fail(err, r, "name %s", new) : 0;
                }
                at = to;
        }
        return err_set(err, -EIO, "instance %s: the next %d epochs are all occupied by left-overs", instance,
                       CLAIM_TRIES);
}

/* The sizes that a creation may not have come to give its clones; nobody has opened them yet. */
static int claim_sizes(rados_ioctx_t io, const char *instance, const struct lease *from,
                       const struct gate *gate, const struct pool_list *images, struct err *err)
{
        char lease_name[LEASE_NAME_MAX + 1], name[POOL_NAME_MAX];

        lease_name_format(instance, from, lease_name);
        for (size_t i = 0; i < gate->n_sizes; i++) {
                const struct gate_size *s = &gate->sizes[i];
                const char *id;
                int r;

                snprintf(name, sizeof name, "%s.%s", instance, s->disk);
                id = pool_list_id(images, name);
                if (!id) /* the first disk, whose name is the lease */
                        id = pool_list_id(images, lease_name);
                if (!id) /* somebody else has claimed it, and has seen to this before */
                        return 0;
                r = disk_grow(io, id, s->size);
                if (r < 0)
                        return pool_fail(err, r, "give disk %s of instance %s its size", s->disk, instance);
        }
        return 0;
}

static int rbd_lease_claim(struct store *s, const char *instance, const struct lease *from, unsigned host,
                           bool again, struct lease *ret, struct err *err)
{
        const struct renaming not_tried = {.again = again};
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        _cleanup_(pool_scan_done) struct pool_scan scan = {0};
        _cleanup_(pool_list_done) struct pool_list images = {0};
        _cleanup_(pool_op_done) struct pool_op later = {0};
        _cleanup_(gate_done) struct gate gate = {0};
        const struct lease next = {.epoch = from->epoch + 1, .host = host};
        char name[LEASE_NAME_MAX + 1];
        const char *id;
        int r = pool_io(s, &client, &io, err);

        if (r < 0)
                return r;
        lease_images_begin(&scan, io, instance);
        if (from->epoch == 0) {
                r = gate_read(io, instance, &gate, err);
                if (r < 0 && r != -ENOENT)
                        return r;
                if (!gate.complete)
                        return err_set(err, -ESTALE, "instance %s has no disks yet, or no more", instance);
        }
        r = lease_images_wait(&scan, io, instance, &images, err);
        if (r == 0)
                r = claim_sizes(io, instance, from, &gate, &images, err);
        if (r < 0)
                return r;
        lease_name_format(instance, from, name);
        id = pool_list_id(&images, name);
        if (id)
                return lease_claim_image(io, instance, id, from, host, again, ret, &later, err);
        r = claim_judge(io, instance, from, &next, &not_tried, ret, err);
        return r == 1 ? err_set(err, -EIO, "%s was away for a moment", name) : r;
}

/* RBD lets everybody open an image; who may write is the gate's business. Only the recheck of the name is
 * left. */
static int rbd_lease_grant(struct store *s, const char *instance, const struct lease *mine,
                           const struct start *destination _unused_, const struct disk_spec *disks _unused_,
                           size_t n_disks _unused_, struct err *err)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        int r = pool_io(s, &client, &io, err);

        return r < 0 ? r : lease_look(io, instance, mine, err);
}

static int rbd_lease_attach(struct store *s, const char *instance, const struct lease *lease,
                            const struct start *start _unused_, const struct disk_spec *disks,
                            size_t n_disks, struct attach *ret, struct err *err)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        _cleanup_(gate_look_done) struct gate_look look = {0};
        char image[POOL_NAME_MAX];
        int r = pool_io(s, &client, &io, err);

        if (r == 0)
                r = gate_look(&look, io, instance, lease, err);
        for (size_t i = 0; i < n_disks && r == 0; i++) {
                ret[i].kind = ATTACH_RBD;
                ret[i].read_only = !gate_writable(&look.gate, &disks[i]);
                disk_image(instance, lease, disks, i, image);
                r = pool_path(s, image, ret[i].path, sizeof ret[i].path, err);
                if (r == 0)
                        r = pool_monitors(s, ret[i].server, sizeof ret[i].server, err);
        }
        return r;
}

const struct engine_leases rbd_leases = {
    .create = rbd_lease_create,
    .find = rbd_lease_find,
    .list = rbd_lease_list,
    .claim = rbd_lease_claim,
    .fence = rbd_lease_fence,
    .grant = rbd_lease_grant,
    .gate = rbd_lease_gate,
    .may_write = rbd_may_write,
    .commit = rbd_lease_commit,
    .remove = rbd_lease_remove,
};

const struct engine_starts rbd_starts = {
    .attach = rbd_lease_attach,
    .forget = rbd_start_forget,
};

const struct engine_lifts rbd_lifts = {
    .fenced = rbd_lease_fenced,
    .lift = rbd_lease_lift,
};
