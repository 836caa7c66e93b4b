/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/mem-engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct mem *mem_lock(struct store *s)
{
        struct mem *m = s->state;

        pthread_mutex_lock(&m->lock);
        return m;
}

void mem_unlockp(struct mem **m)
{
        pthread_mutex_unlock(&(*m)->lock);
}

struct item **item_find(struct item **list, const char *id)
{
        while (*list && !streq((*list)->id, id))
                list = &(*list)->next;
        return list;
}

struct item *item_add(struct item **list, const char *id)
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

void item_drop(struct item **p)
{
        struct item *i = *p;

        *p = i->next;
        free(i->id);
        free(i->text);
        free(i->data);
        free(i);
}

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
                        item_drop(lists[i]);
        pthread_mutex_destroy(&m->lock);
        free(m);
}

const struct engine engine_mem = {
    .name = "mem",
    .prefix = "mem:",
    .open = mem_open,
    .close = mem_close,
    .records = &mem_records,
    .volumes = &mem_volumes,
    .leases = &mem_leases,
};
