/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/mem-engine.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static int mem_lease_create(struct store *s, const char *instance, const struct disk_spec *disks,
                            size_t n_disks, struct err *err)
{
        _cleanup_(mem_unlockp) struct mem *m = mem_lock(s);
        struct item *i;

        if (*item_find(&m->instances, instance))
                return err_set(err, -EEXIST, "instance %s has disks already", instance);
        for (size_t d = 0; d < n_disks; d++) {
                struct item *image = disks[d].image ? *item_find(&m->images, disks[d].image) : NULL;

                if (disks[d].image && !image)
                        return err_set(err, -ENOENT, "image %s: no such image", disks[d].image);
                if (image && !disks[d].content && disks[d].size < image->size)
                        return err_set(err, -EINVAL, "instance %s: disk %s is smaller than its image",
                                       instance, disks[d].name);
        }
        i = item_add(&m->instances, instance);
        if (!i)
                return err_set(err, -ENOMEM, "instance %s: out of memory", instance);
        for (size_t d = 0; d < n_disks; d++) {
                if (!disks[d].image)
                        continue;
                (*item_find(&m->images, disks[d].image))->users++;
                strcpy(i->images[i->n_images++], disks[d].image);
        }
        return 0;
}

static int mem_find(struct store *s, const char *instance, struct lease *ret, struct err *err)
{
        _cleanup_(mem_unlockp) struct mem *m = mem_lock(s);
        struct item *i = *item_find(&m->instances, instance);

        if (!i)
                return err_set(err, -ENOENT, "instance %s: no disks", instance);
        *ret = i->lease;
        return 0;
}

static int mem_lease_list(struct store *s, lease_cb cb, void *arg, struct err *err)
{
        struct item *copies = NULL;
        int r = 0;

        {
                _cleanup_(mem_unlockp) struct mem *m = mem_lock(s);

                for (struct item *i = m->instances; i && r == 0; i = i->next) {
                        if (item_add(&copies, i->id))
                                copies->lease = i->lease;
                        else
                                r = err_set(err, -ENOMEM, "out of memory");
                }
        }
        while (copies) {
                if (r == 0)
                        r = cb(arg, copies->id, &copies->lease);
                item_drop(&copies);
        }
        return r;
}

static bool is(const struct item *i, uint64_t epoch, unsigned host)
{
        return i && i->lease.epoch == epoch && i->lease.host == host;
}

static int mem_claim(struct store *s, const char *instance, const struct lease *from, unsigned host,
                     bool again, struct lease *ret, struct err *err)
{
        _cleanup_(mem_unlockp) struct mem *m = mem_lock(s);
        struct item *i = *item_find(&m->instances, instance);

        if (!is(i, from->epoch, from->host) && !(again && is(i, from->epoch + 1, host)))
                return err_set(err, -ESTALE, "instance %s: epoch %" PRIu64 " of host %u has passed",
                               instance, from->epoch, from->host);
        i->lease = (struct lease){.epoch = from->epoch + 1, .host = host};
        *ret = i->lease;
        return 0;
}

static int mine_or(struct mem *m, const char *instance, const struct lease *mine, int code,
                   struct item **ret, struct err *err)
{
        *ret = *item_find(&m->instances, instance);
        if (is(*ret, mine->epoch, mine->host))
                return 0;
        return err_set(err, code, "instance %s: epoch %" PRIu64 " of host %u has passed", instance,
                       mine->epoch, mine->host);
}

static int mem_fence(struct store *s, const char *instance, const struct lease *mine,
                     const struct start *start, const struct disk_spec *disks, size_t n_disks,
                     struct err *err)
{
        _cleanup_(mem_unlockp) struct mem *m = mem_lock(s);
        struct item *i;
        int r = mine_or(m, instance, mine, -ESTALE, &i, err);

        if (r < 0)
                return r;
        memcpy(i->start, start->id, sizeof(i->start));
        i->granted[0] = '\0';
        return 0;
}

static int mem_grant(struct store *s, const char *instance, const struct lease *mine,
                     const struct start *destination, const struct disk_spec *disks, size_t n_disks,
                     struct err *err)
{
        _cleanup_(mem_unlockp) struct mem *m = mem_lock(s);
        struct item *i;
        int r = mine_or(m, instance, mine, -ESTALE, &i, err);

        if (r == 0)
                memcpy(i->granted, destination->id, sizeof(i->granted));
        return r;
}

static int mem_gate(struct store *s, const char *instance, const struct lease *mine,
                    const struct start *start, const struct disk_spec *disks, size_t n_disks,
                    struct err *err)
{
        _cleanup_(mem_unlockp) struct mem *m = mem_lock(s);
        struct item *i;
        int r = mine_or(m, instance, mine, -EACCES, &i, err);

        if (r == 0 && !streq(i->start, start->id))
                r = err_set(err, -EACCES, "instance %s: the fence is another start's", instance);
        return r;
}

static int mem_may_write(struct store *s, const char *instance, const struct lease *mine,
                         const struct start *start, const struct disk_spec *disks, size_t n_disks,
                         struct err *err)
{
        return mem_gate(s, instance, mine, start, disks, n_disks, err);
}

static int mem_lease_remove(struct store *s, const char *instance, const struct lease *mine,
                            const struct disk_spec *disks, size_t n_disks, struct err *err)
{
        _cleanup_(mem_unlockp) struct mem *m = mem_lock(s);
        struct item *i;
        int r;

        if (!*item_find(&m->instances, instance))
                return 0;
        r = mine_or(m, instance, mine, -ESTALE, &i, err);
        if (r < 0)
                return r;
        for (size_t k = 0; k < i->n_images; k++) {
                struct item *image = *item_find(&m->images, i->images[k]);

                if (image)
                        image->users--;
        }
        item_drop(item_find(&m->instances, instance));
        return 0;
}

const struct engine_leases mem_leases = {
    .create = mem_lease_create,
    .find = mem_find,
    .list = mem_lease_list,
    .claim = mem_claim,
    .fence = mem_fence,
    .grant = mem_grant,
    .gate = mem_gate,
    .may_write = mem_may_write,
    .remove = mem_lease_remove,
};
