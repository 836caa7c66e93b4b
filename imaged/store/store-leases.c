/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/engine.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "imaged/store/store-call.h"

#define DISKS_MAX 32
#define CONTENT_MAX ((size_t)16 << 20) /* bytes of a small read-only disk */

static int check_instance(struct store *s, const char *instance, struct err *err)
{
        if (!store_id_valid(instance))
                return err_set(err, -EINVAL,
                               "instance id \"%.80s\": not 1 to %d characters of A-Z a-z 0-9 _ -",
                               instance ? instance : "", STORE_ID_MAX);
        if (!s->engine->leases)
                return err_set(err, -EOPNOTSUPP, "%s: the engine keeps no instance disks", s->url);
        return 0;
}

static bool disk_name_valid(const char *name)
{
        size_t n = name ? strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789") : 0;

        return n >= 1 && n <= 15 && name[n] == '\0';
}

static int check_disks(const char *instance, const struct disk_spec *disks, size_t n, struct err *err)
{
        if (n < 1 || n > DISKS_MAX || !disks)
                return err_set(err, -EINVAL, "instance %s: %zu disks, not 1 to %d", instance, n, DISKS_MAX);
        for (size_t i = 0; i < n; i++) {
                const struct disk_spec *d = &disks[i];

                if (!disk_name_valid(d->name))
                        return err_set(err, -EINVAL,
                                       "instance %s: disk name \"%.40s\": not 1 to 15 of a-z 0-9", instance,
                                       d->name ? d->name : "");
                for (size_t k = 0; k < i; k++)
                        if (streq(disks[k].name, d->name))
                                return err_set(err, -EINVAL, "instance %s: two disks named %s", instance,
                                               d->name);
                if (d->image && !store_id_valid(d->image))
                        return err_set(err, -EINVAL, "instance %s: disk %s: bad image id", instance,
                                       d->name);
                if (d->content && d->n_content > CONTENT_MAX)
                        return err_set(err, -EINVAL, "instance %s: disk %s: content of %zu bytes, limit %zu",
                                       instance, d->name, d->n_content, CONTENT_MAX);
        }
        return 0;
}

static int check(struct store *s, const char *instance, const struct disk_spec *disks, size_t n_disks,
                 struct err *err)
{
        int r = check_instance(s, instance, err);

        return r < 0 ? r : check_disks(instance, disks, n_disks, err);
}

static int check_start(const char *instance, const struct start *start, struct err *err)
{
        if (!start || !uuid_valid(start->id))
                return err_set(err, -EINVAL, "instance %s: a start without a valid id", instance);
        return 0;
}

/* Only a disk that is made needs a size; later calls name it alone. */
static int check_sizes(struct store *s, const char *instance, const struct disk_spec *disks, size_t n,
                       struct err *err)
{
        for (size_t i = 0; i < n; i++) {
                const struct disk_spec *d = &disks[i];

                if (d->content)
                        continue;
                if (d->size == 0 || d->size % 512)
                        return err_set(err, -EINVAL,
                                       "instance %s: disk %s: size %" PRIu64 " is no multiple of 512",
                                       instance, d->name, d->size);
        }
        return 0;
}

int lease_create(struct store *s, const char *instance, const struct disk_spec *disks, size_t n_disks,
                 struct err *err)
{
        int r = check(s, instance, disks, n_disks, err);

        if (r >= 0)
                r = check_sizes(s, instance, disks, n_disks, err);
        return r < 0 ? r : ENGINE_CALL(err, s->engine->leases->create(s, instance, disks, n_disks, &own));
}

int lease_find(struct store *s, const char *instance, struct lease *ret, struct err *err)
{
        int r = check_instance(s, instance, err);

        return r < 0 ? r : ENGINE_CALL(err, s->engine->leases->find(s, instance, ret, &own));
}

int lease_list(struct store *s, lease_cb cb, void *arg, struct err *err)
{
        int r = check_instance(s, "list", err);

        return r < 0 ? r : ENGINE_CALL(err, s->engine->leases->list(s, cb, arg, &own));
}

static int check_claim(struct store *s, const char *instance, const struct lease *from, unsigned host,
                       struct err *err)
{
        int r = check_instance(s, instance, err);

        if (r < 0)
                return r;
        if (host == 0)
                return err_set(err, -EINVAL, "instance %s: host 0 is nobody and claims nothing", instance);
        if (from->epoch == UINT64_MAX)
                return err_set(err, -EINVAL, "instance %s: no epoch after %" PRIu64, instance, from->epoch);
        return 0;
}

int lease_claim(struct store *s, const char *instance, const struct lease *from, unsigned host, bool again,
                struct lease *ret, struct err *err)
{
        int r = check_claim(s, instance, from, host, err);

        return r < 0 ? r
                     : ENGINE_CALL(err, s->engine->leases->claim(s, instance, from, host, again, ret, &own));
}

int lease_fence(struct store *s, const char *instance, const struct lease *mine, const struct start *start,
                const struct disk_spec *disks, size_t n_disks, struct err *err)
{
        int r = check(s, instance, disks, n_disks, err);

        if (r >= 0)
                r = check_start(instance, start, err);
        return r < 0 ? r
                     : ENGINE_CALL(err,
                                   s->engine->leases->fence(s, instance, mine, start, disks, n_disks, &own));
}

int lease_grant(struct store *s, const char *instance, const struct lease *mine,
                const struct start *destination, const struct disk_spec *disks, size_t n_disks,
                struct err *err)
{
        int r = check(s, instance, disks, n_disks, err);

        if (r >= 0)
                r = check_start(instance, destination, err);
        return r < 0 ? r
                     : ENGINE_CALL(err, s->engine->leases->grant(s, instance, mine, destination, disks,
                                                                 n_disks, &own));
}

int lease_gate(struct store *s, const char *instance, const struct lease *mine, const struct start *start,
               const struct disk_spec *disks, size_t n_disks, struct err *err)
{
        int r = check(s, instance, disks, n_disks, err);

        if (r >= 0)
                r = check_start(instance, start, err);
        return r < 0 ? r
                     : ENGINE_CALL(err,
                                   s->engine->leases->gate(s, instance, mine, start, disks, n_disks, &own));
}

int lease_may_write(struct store *s, const char *instance, const struct lease *mine,
                    const struct start *start, const struct disk_spec *disks, size_t n_disks,
                    struct err *err)
{
        int r = check(s, instance, disks, n_disks, err);

        if (r >= 0)
                r = check_start(instance, start, err);
        return r < 0 ? r
                     : ENGINE_CALL(err, s->engine->leases->may_write(s, instance, mine, start, disks,
                                                                     n_disks, &own));
}

int lease_commit(struct store *s, const char *instance, const struct commit_claim *c,
                 const struct disk_spec *disks, size_t n_disks, struct lease *ret, struct err *err)
{
        int r = check_claim(s, instance, &c->from, c->host, err);

        if (r >= 0)
                r = check_disks(instance, disks, n_disks, err);
        if (r >= 0)
                r = check_start(instance, c->start, err);
        if (r >= 0 && s->engine->leases->commit)
                return ENGINE_CALL(err,
                                   s->engine->leases->commit(s, instance, c, disks, n_disks, ret, &own));
        if (r >= 0)
                r = lease_claim(s, instance, &c->from, c->host, c->again, ret, err);
        if (r >= 0)
                r = lease_fence(s, instance, ret, c->start, disks, n_disks, err);
        return r < 0 ? r : lease_gate(s, instance, ret, c->start, disks, n_disks, err);
}

int lease_attach(struct store *s, const char *instance, const struct lease *lease, const struct start *start,
                 const struct disk_spec *disks, size_t n_disks, struct attach *ret, struct err *err)
{
        struct attach a[DISKS_MAX] = {};
        int r = check(s, instance, disks, n_disks, err);

        if (r >= 0)
                r = check_start(instance, start, err);
        if (r >= 0 && !s->engine->starts)
                r = err_set(err, -EOPNOTSUPP, "%s: QEMU cannot open what this engine keeps", s->url);
        if (r >= 0)
                r = ENGINE_CALL(
                    err, s->engine->starts->attach(s, instance, lease, start, disks, n_disks, a, &own));
        if (r >= 0)
                memcpy(ret, a, n_disks * sizeof(*a));
        return r;
}

int lease_lock_path(struct store *s, const char *instance, char **ret, struct err *err)
{
        int r = check_instance(s, instance, err);

        if (r < 0)
                return r;
        if (s->engine->starts && s->engine->starts->lock_path)
                return ENGINE_CALL(err, s->engine->starts->lock_path(s, instance, ret, &own));
        *ret = strdup("/dev/null");
        return *ret ? 0 : err_set(err, -ENOMEM, "instance %s: out of memory", instance);
}

void start_forget(struct store *s, const char *instance, const struct start *start)
{
        if (check_instance(s, instance, NULL) < 0 || check_start(instance, start, NULL) < 0)
                return;
        if (s->engine->starts && s->engine->starts->forget)
                s->engine->starts->forget(s, instance, start);
}

static int check_lift(struct store *s, const char *instance, struct err *err)
{
        int r = check_instance(s, instance, err);

        if (r >= 0 && !s->engine->lifts)
                r = err_set(err, -EOPNOTSUPP, "%s: a fence leaves nothing behind here", s->url);
        return r;
}

int lease_fenced(struct store *s, const char *instance, fenced_cb cb, void *arg, struct err *err)
{
        int r = check_lift(s, instance, err);

        return r < 0 ? r : ENGINE_CALL(err, s->engine->lifts->fenced(s, instance, cb, arg, &own));
}

int lease_lift(struct store *s, const char *instance, const struct fenced_client *client, struct err *err)
{
        int r = check_lift(s, instance, err);

        return r < 0 ? r : ENGINE_CALL(err, s->engine->lifts->lift(s, instance, client, &own));
}

int lease_remove(struct store *s, const char *instance, const struct lease *mine,
                 const struct disk_spec *disks, size_t n_disks, struct err *err)
{
        int r = check(s, instance, disks, n_disks, err);

        return r < 0 ? r
                     : ENGINE_CALL(err, s->engine->leases->remove(s, instance, mine, disks, n_disks, &own));
}
