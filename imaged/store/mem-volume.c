/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/mem-engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int mem_create(struct volume *v, struct err *err)
{
        _cleanup_(mem_unlockp) struct mem *m = mem_lock(v->store);
        struct item *part = NULL;

        if (*item_find(&m->images, v->image))
                return err_set(err, -EEXIST, "image %s exists already", v->image);
        if (!item_add(&part, v->image))
                return err_set(err, -ENOMEM, "image %s: out of memory", v->image);
        part->size = v->size;
        part->data = calloc(1, v->size);
        if (!part->data) {
                item_drop(&part);
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
        _cleanup_(mem_unlockp) struct mem *m = mem_lock(v->store);
        struct item *i = v->state;

        if (*item_find(&m->images, v->image))
                return err_set(err, -EEXIST, "image %s exists already", v->image);
        i->next = m->images;
        m->images = i;
        return 0;
}

static int mem_open_volume(struct volume *v, struct err *err)
{
        _cleanup_(mem_unlockp) struct mem *m = mem_lock(v->store);
        struct item *i = *item_find(&m->images, v->image);

        if (!i)
                return err_set(err, -ENOENT, "image %s: no such image", v->image);
        v->size = i->size;
        v->sealed = true;
        return 0;
}

static int mem_read(struct volume *v, void *buf, size_t len, uint64_t offset, struct err *err)
{
        _cleanup_(mem_unlockp) struct mem *m = mem_lock(v->store);
        struct item *i = v->sealed ? *item_find(&m->images, v->image) : v->state;

        if (!i || i->size != v->size)
                return err_set(err, -ENOENT, "image %s was removed", v->image);
        memcpy(buf, i->data + offset, len);
        return 0;
}

static void mem_close_volume(struct volume *v)
{
        struct item *i = v->state;

        if (i && !v->sealed)
                item_drop(&i);
}

static int mem_remove_volume(struct store *s, const char *image, struct err *err)
{
        _cleanup_(mem_unlockp) struct mem *m = mem_lock(s);
        struct item **i = item_find(&m->images, image);

        if (!*i)
                return err_set(err, -ENOENT, "image %s: no such image", image);
        if ((*i)->users > 0)
                return err_set(err, -EBUSY, "image %s: %u disk(s) copy it on write", image, (*i)->users);
        item_drop(i);
        return 0;
}

const struct engine_volumes mem_volumes = {
    .create = mem_create,
    .write = mem_write,
    .resize = mem_resize,
    .seal = mem_seal,
    .open = mem_open_volume,
    .read = mem_read,
    .close = mem_close_volume,
    .remove = mem_remove_volume,
};
