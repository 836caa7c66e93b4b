/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/engine.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/*
 * Everything in this process's memory, for unit tests of what stands on a store. Same answers as the real
 * engines; only QEMU cannot open its disks (no attach) and there is no fence to test.
 */
struct item {
        struct item *next;
        char *id; /* a record's is "<kind>/<id>" */
        uint64_t version;
        char *text; /* record: NULL is a tombstone */
        uint8_t *data;
        uint64_t size;
        unsigned users;     /* image: disks that copy it on write */
        struct lease lease; /* instance */
        char start[UUID_LEN + 1], granted[UUID_LEN + 1];
        char images[32][STORE_ID_MAX + 1];
        size_t n_images;
};

struct mem {
        pthread_mutex_t lock; /* guards all below */
        struct item *records, *images, *instances, *beats;
};

static struct mem *lock(struct store *s)
{
        struct mem *m = s->state;

        pthread_mutex_lock(&m->lock);
        return m;
}

static void unlockp(struct mem **m)
{
        pthread_mutex_unlock(&(*m)->lock);
}

static struct item **find(struct item **list, const char *id)
{
        while (*list && !streq((*list)->id, id))
                list = &(*list)->next;
        return list;
}

static struct item *add(struct item **list, const char *id)
{
        struct item *i = calloc(1, sizeof(*i));

        if (!i)
                return NULL;
        i->id = strdup(id);
        if (!i->id) {
                free(i);
                return NULL;
        }
        i->next = *list;
        *list = i;
        return i;
}

static void drop(struct item **p)
{
        struct item *i = *p;

        *p = i->next;
        free(i->id);
        free(i->text);
        free(i->data);
        free(i);
}

static void record_key(enum record_kind kind, const char *id, char ret[STORE_ID_MAX + 16])
{
        snprintf(ret, STORE_ID_MAX + 16, "%s/%s", record_kind_name(kind), id);
}

static int mem_get(struct store *s, enum record_kind kind, const char *id, char **ret_text,
                   uint64_t *ret_version, struct err *err)
{
        _cleanup_(unlockp) struct mem *m = lock(s);
        char key[STORE_ID_MAX + 16];
        struct item *i;

        record_key(kind, id, key);
        i = *find(&m->records, key);
        if (!i || !i->text)
                return err_set(err, -ENOENT, "%s: no such record", key);
        *ret_text = strdup(i->text);
        if (!*ret_text)
                return err_set(err, -ENOMEM, "%s: out of memory", key);
        *ret_version = i->version;
        return 0;
}

static int mem_put(struct store *s, enum record_kind kind, const char *id, uint64_t expected,
                   const char *text, uint64_t *ret_version, struct err *err)
{
        _cleanup_(unlockp) struct mem *m = lock(s);
        char key[STORE_ID_MAX + 16];
        char *copy = NULL;
        struct item *i;

        record_key(kind, id, key);
        i = *find(&m->records, key);
        if (expected == 0 ? i && i->text : !i || i->version != expected)
                return err_set(err, -ESTALE, "%s: newest is version %" PRIu64 ", not %" PRIu64, key,
                               i ? i->version : 0, expected);
        if (!text && (!i || !i->text))
                return err_set(err, -ENOENT, "%s: no such record", key);
        if (text)
                copy = strdup(text);
        if (!i)
                i = add(&m->records, key);
        if (!i || (text && !copy)) {
                free(copy);
                return err_set(err, -ENOMEM, "%s: out of memory", key);
        }
        free(i->text);
        i->text = copy;
        *ret_version = ++i->version;
        return 0;
}

static int mem_list(struct store *s, enum record_kind kind, record_cb cb, void *arg, struct err *err)
{
        struct item *copies = NULL;
        char prefix[STORE_ID_MAX + 16];
        int r = 0;

        record_key(kind, "", prefix);
        { /* the callback may use the store, so it is called without the lock */
                _cleanup_(unlockp) struct mem *m = lock(s);

                for (struct item *i = m->records; i && r == 0; i = i->next) {
                        struct item *c;

                        if (!i->text || strncmp(i->id, prefix, strlen(prefix)) != 0)
                                continue;
                        c = add(&copies, i->id + strlen(prefix));
                        if (c) {
                                c->version = i->version;
                                c->text = strdup(i->text);
                        }
                        if (!c || !c->text)
                                r = err_set(err, -ENOMEM, "out of memory");
                }
        }
        while (copies) {
                if (r == 0)
                        r = cb(arg, copies->id, copies->version, copies->text);
                drop(&copies);
        }
        return r;
}

static int mem_beat_write(struct store *s, unsigned host, uint64_t counter, struct err *err)
{
        _cleanup_(unlockp) struct mem *m = lock(s);
        char key[16];
        struct item *i;

        snprintf(key, sizeof(key), "%u", host);
        i = *find(&m->beats, key);
        if (!i)
                i = add(&m->beats, key);
        if (!i)
                return err_set(err, -ENOMEM, "out of memory");
        i->version = counter;
        return 0;
}

static int mem_beat_read(struct store *s, unsigned host, uint64_t *ret_counter, struct err *err)
{
        _cleanup_(unlockp) struct mem *m = lock(s);
        char key[16];
        struct item *i;

        snprintf(key, sizeof(key), "%u", host);
        i = *find(&m->beats, key);
        if (!i)
                return err_set(err, -ENOENT, "heartbeat of host %u: not written yet", host);
        *ret_counter = i->version;
        return 0;
}

/* --- golden images: an unsealed one belongs to its handle alone
 * --------------------------------------------------- */

static int mem_create(struct volume *v, struct err *err)
{
        _cleanup_(unlockp) struct mem *m = lock(v->store);
        struct item *part = NULL;

        if (*find(&m->images, v->image))
                return err_set(err, -EEXIST, "image %s exists already", v->image);
        if (!add(&part, v->image))
                return err_set(err, -ENOMEM, "image %s: out of memory", v->image);
        part->size = v->size;
        part->data = calloc(1, v->size);
        if (!part->data) {
                drop(&part);
                return err_set(err, -ENOMEM, "image %s: out of memory", v->image);
        }
        v->state = part;
        return 0;
}

static int mem_write(struct volume *v, const void *buf, size_t len, uint64_t offset, struct err *err)
{
        memcpy(((struct item *)v->state)->data + offset, buf, len);
        return 0;
}

static int mem_resize(struct volume *v, uint64_t size, struct err *err)
{
        struct item *i = v->state;
        uint8_t *data = realloc(i->data, size);

        if (!data)
                return err_set(err, -ENOMEM, "image %s: out of memory", v->image);
        if (size > i->size)
                memset(data + i->size, 0, size - i->size);
        i->data = data;
        i->size = size;
        return 0;
}

static int mem_seal(struct volume *v, struct err *err)
{
        _cleanup_(unlockp) struct mem *m = lock(v->store);
        struct item *i = v->state;

        if (*find(&m->images, v->image))
                return err_set(err, -EEXIST, "image %s exists already", v->image);
        i->next = m->images;
        m->images = i;
        return 0;
}

static int mem_open_volume(struct volume *v, struct err *err)
{
        _cleanup_(unlockp) struct mem *m = lock(v->store);
        struct item *i = *find(&m->images, v->image);

        if (!i)
                return err_set(err, -ENOENT, "image %s: no such image", v->image);
        v->size = i->size;
        v->sealed = true;
        return 0;
}

static int mem_read(struct volume *v, void *buf, size_t len, uint64_t offset, struct err *err)
{
        _cleanup_(unlockp) struct mem *m = lock(v->store);
        struct item *i = v->sealed ? *find(&m->images, v->image) : v->state;

        if (!i || i->size != v->size)
                return err_set(err, -ENOENT, "image %s was removed", v->image);
        memcpy(buf, i->data + offset, len);
        return 0;
}

static void mem_close_volume(struct volume *v)
{
        struct item *i = v->state;

        if (i && !v->sealed)
                drop(&i);
}

static int mem_remove_volume(struct store *s, const char *image, struct err *err)
{
        _cleanup_(unlockp) struct mem *m = lock(s);
        struct item **i = find(&m->images, image);

        if (!*i)
                return err_set(err, -ENOENT, "image %s: no such image", image);
        if ((*i)->users > 0)
                return err_set(err, -EBUSY, "image %s: %u disk(s) copy it on write", image, (*i)->users);
        drop(i);
        return 0;
}

/* --- instance disks: names only
 * ------------------------------------------------------------------------------------ */

static int mem_lease_create(struct store *s, const char *instance, const struct disk_spec *disks,
                            size_t n_disks, struct err *err)
{
        _cleanup_(unlockp) struct mem *m = lock(s);
        struct item *i;

        if (*find(&m->instances, instance))
                return err_set(err, -EEXIST, "instance %s has disks already", instance);
        for (size_t d = 0; d < n_disks; d++) {
                struct item *image = disks[d].image ? *find(&m->images, disks[d].image) : NULL;

                if (disks[d].image && !image)
                        return err_set(err, -ENOENT, "image %s: no such image", disks[d].image);
                if (image && !disks[d].content && disks[d].size < image->size)
                        return err_set(err, -EINVAL, "instance %s: disk %s is smaller than its image",
                                       instance, disks[d].name);
        }
        i = add(&m->instances, instance);
        if (!i)
                return err_set(err, -ENOMEM, "instance %s: out of memory", instance);
        for (size_t d = 0; d < n_disks; d++) {
                if (!disks[d].image)
                        continue;
                (*find(&m->images, disks[d].image))->users++;
                strcpy(i->images[i->n_images++], disks[d].image);
        }
        return 0;
}

static int mem_find(struct store *s, const char *instance, struct lease *ret, struct err *err)
{
        _cleanup_(unlockp) struct mem *m = lock(s);
        struct item *i = *find(&m->instances, instance);

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
                _cleanup_(unlockp) struct mem *m = lock(s);

                for (struct item *i = m->instances; i && r == 0; i = i->next) {
                        if (add(&copies, i->id))
                                copies->lease = i->lease;
                        else
                                r = err_set(err, -ENOMEM, "out of memory");
                }
        }
        while (copies) {
                if (r == 0)
                        r = cb(arg, copies->id, &copies->lease);
                drop(&copies);
        }
        return r;
}

static bool is(const struct item *i, uint64_t epoch, unsigned host)
{
        return i && i->lease.epoch == epoch && i->lease.host == host;
}

static int mem_claim(struct store *s, const char *instance, const struct lease *from, unsigned host,
                     struct lease *ret, struct err *err)
{
        _cleanup_(unlockp) struct mem *m = lock(s);
        struct item *i = *find(&m->instances, instance);

        if (!is(i, from->epoch, from->host) && !is(i, from->epoch + 1, host))
                return err_set(err, -ESTALE, "instance %s: epoch %" PRIu64 " of host %u has passed",
                               instance, from->epoch, from->host);
        i->lease = (struct lease){.epoch = from->epoch + 1, .host = host};
        *ret = i->lease;
        return 0;
}

static int mine_or(struct mem *m, const char *instance, const struct lease *mine, int code,
                   struct item **ret, struct err *err)
{
        *ret = *find(&m->instances, instance);
        if (is(*ret, mine->epoch, mine->host))
                return 0;
        return err_set(err, code, "instance %s: epoch %" PRIu64 " of host %u has passed", instance,
                       mine->epoch, mine->host);
}

static int mem_fence(struct store *s, const char *instance, const struct lease *mine,
                     const struct start *start, const struct disk_spec *disks, size_t n_disks,
                     struct err *err)
{
        _cleanup_(unlockp) struct mem *m = lock(s);
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
        _cleanup_(unlockp) struct mem *m = lock(s);
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
        _cleanup_(unlockp) struct mem *m = lock(s);
        struct item *i;
        int r = mine_or(m, instance, mine, -EACCES, &i, err);

        if (r == 0 && !streq(i->start, start->id))
                r = err_set(err, -EACCES, "instance %s: the fence is another start's", instance);
        return r;
}

static int mem_lease_remove(struct store *s, const char *instance, const struct lease *mine,
                            const struct disk_spec *disks, size_t n_disks, struct err *err)
{
        _cleanup_(unlockp) struct mem *m = lock(s);
        struct item *i;
        int r;

        if (!*find(&m->instances, instance))
                return 0;
        r = mine_or(m, instance, mine, -ESTALE, &i, err);
        if (r < 0)
                return r;
        for (size_t k = 0; k < i->n_images; k++) {
                struct item *image = *find(&m->images, i->images[k]);

                if (image)
                        image->users--;
        }
        drop(find(&m->instances, instance));
        return 0;
}

/* --- life
 * ----------------------------------------------------------------------------------------------------------
 */

static int mem_open(struct store *s, struct err *err)
{
        struct mem *m = calloc(1, sizeof(*m));

        if (!m)
                return err_set(err, -ENOMEM, "%s: out of memory", s->url);
        pthread_mutex_init(&m->lock, NULL);
        s->state = m;
        return 0;
}

static void mem_close(struct store *s)
{
        struct mem *m = s->state;

        if (!m)
                return;
        struct item **lists[] = {&m->records, &m->images, &m->instances, &m->beats};

        for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
                while (*lists[i])
                        drop(lists[i]);
        pthread_mutex_destroy(&m->lock);
        free(m);
}

static const struct engine_records mem_records = {
    .get = mem_get,
    .put = mem_put,
    .list = mem_list,
    .beat_write = mem_beat_write,
    .beat_read = mem_beat_read,
};

static const struct engine_volumes mem_volumes = {
    .create = mem_create,
    .write = mem_write,
    .resize = mem_resize,
    .seal = mem_seal,
    .open = mem_open_volume,
    .read = mem_read,
    .close = mem_close_volume,
    .remove = mem_remove_volume,
};

static const struct engine_leases mem_leases = {
    .create = mem_lease_create,
    .find = mem_find,
    .list = mem_lease_list,
    .claim = mem_claim,
    .fence = mem_fence,
    .grant = mem_grant,
    .gate = mem_gate,
    .remove = mem_lease_remove,
};

const struct engine engine_mem = {
    .name = "mem",
    .prefix = "mem:",
    .open = mem_open,
    .close = mem_close,
    .records = &mem_records,
    .volumes = &mem_volumes,
    .leases = &mem_leases,
};
