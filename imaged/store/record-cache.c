/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/record-cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/util.h"

#define BUCKETS 65536 /* chains stay short up to some hundred thousand records */

struct entry {
        struct entry *next;
        uint64_t version;
        size_t size; /* of this struct with its texts */
        enum record_kind kind;
        char *text; /* behind id, in the same memory */
        char id[];
};

struct record_cache {
        pthread_mutex_t lock; /* guards all below */
        size_t max_bytes, bytes;
        size_t hand; /* the bucket that makes room next */
        struct entry *bucket[BUCKETS];
};

struct record_cache *record_cache_new(size_t max_bytes)
{
        struct record_cache *c = calloc(1, sizeof(*c));

        if (!c)
                return NULL;
        pthread_mutex_init(&c->lock, NULL);
        c->max_bytes = max_bytes;
        return c;
}

struct record_cache *record_cache_free(struct record_cache *c)
{
        if (!c)
                return NULL;
        for (size_t i = 0; i < BUCKETS; i++)
                while (c->bucket[i]) {
                        struct entry *e = c->bucket[i];

                        c->bucket[i] = e->next;
                        free(e);
                }
        pthread_mutex_destroy(&c->lock);
        free(c);
        return NULL;
}

static struct entry **find(struct record_cache *c, enum record_kind kind, const char *id)
{
        struct entry **p = &c->bucket[XXH3_64bits_withSeed(id, strlen(id), kind) % BUCKETS];

        while (*p && ((*p)->kind != kind || !streq((*p)->id, id)))
                p = &(*p)->next;
        return p;
}

static void drop(struct record_cache *c, struct entry **p)
{
        struct entry *e = *p;

        *p = e->next;
        c->bytes -= e->size;
        free(e);
}

char *record_cache_get(struct record_cache *c, enum record_kind kind, const char *id, uint64_t version)
{
        char *text = NULL;
        struct entry *e;

        if (!c)
                return NULL;
        pthread_mutex_lock(&c->lock);
        e = *find(c, kind, id);
        if (e && e->version == version)
                text = strdup(e->text);
        pthread_mutex_unlock(&c->lock);
        return text;
}

void record_cache_put(struct record_cache *c, enum record_kind kind, const char *id, uint64_t version,
                      const char *text)
{
        size_t n_id = strlen(id) + 1, n_text = strlen(text) + 1;
        struct entry *e, **p;

        if (!c || n_text > c->max_bytes / 4)
                return;
        e = malloc(sizeof(*e) + n_id + n_text);
        if (!e)
                return;
        e->kind = kind;
        e->version = version;
        e->size = sizeof(*e) + n_id + n_text;
        memcpy(e->id, id, n_id);
        e->text = e->id + n_id;
        memcpy(e->text, text, n_text);
        pthread_mutex_lock(&c->lock);
        p = find(c, kind, id);
        if (*p && (*p)->version >= version) {
                free(e);
        } else {
                if (*p)
                        drop(c, p);
                while (c->bytes + e->size > c->max_bytes) {
                        c->hand = (c->hand + 1) % BUCKETS;
                        while (c->bucket[c->hand])
                                drop(c, &c->bucket[c->hand]);
                }
                p = find(c, kind, id); /* again: what made room may have been before it in the chain */
                e->next = *p;
                *p = e;
                c->bytes += e->size;
        }
        pthread_mutex_unlock(&c->lock);
}
