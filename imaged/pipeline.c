/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/pipeline.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "imaged/digest.h"
#include "imaged/store/store.h"

/*
 * Pieces have numbers; piece n is in slot n % PIPELINE_SLOTS. The caller fills them, any writer takes the
 * next one to write, the hasher the next one to hash; a slot is free again when both are through with it.
 */
struct slot {
        uint8_t *data;
        size_t len;
        uint64_t offset;
        unsigned users; /* of write and hash, how many are still to be done */
};

/* One kind of work on the pieces. */
struct stage {
        int (*work)(struct pipeline *p, const struct slot *s, struct err *err);
        uint64_t next; /* number of the piece */
        pthread_cond_t more;
};

struct pipeline {
        struct volume *volume;
        struct digest *digest;
        pthread_t writers[PIPELINE_WRITERS], hasher;
        unsigned n_writers;
        bool hashes;

        pthread_mutex_t lock; /* over what follows; the piece being filled is the caller's */
        pthread_cond_t freed;
        struct stage write, hash;
        struct slot slots[PIPELINE_SLOTS];
        uint64_t filled; /* pieces that were passed on */
        bool stopping;
        int failed; /* the first failure, and its text */
        struct err err;
};

/* Waits for the next piece; NULL: the end. Called and returns with the lock held. */
static struct slot *piece_next(struct pipeline *p, struct stage *stage)
{
        while (!p->stopping && stage->next == p->filled)
                pthread_cond_wait(&stage->more, &p->lock);
        return p->stopping ? NULL : &p->slots[stage->next++ % PIPELINE_SLOTS];
}

/* Pieces go by without work after a failure, so that nobody waits for them. */
static void stage_run(struct pipeline *p, struct stage *stage)
{
        struct slot *s;

        pthread_mutex_lock(&p->lock);
        while ((s = piece_next(p, stage))) {
                struct err err = {0};
                int r = 0;

                if (!p->failed) {
                        pthread_mutex_unlock(&p->lock);
                        r = stage->work(p, s, &err);
                        pthread_mutex_lock(&p->lock);
                }
                if (r < 0 && !p->failed) {
                        p->failed = r;
                        p->err = err;
                }
                if (--s->users == 0) {
                        s->len = 0;
                        pthread_cond_signal(&p->freed);
                }
        }
        pthread_mutex_unlock(&p->lock);
}

static int piece_write(struct pipeline *p, const struct slot *s, struct err *err)
{
        return volume_write(p->volume, s->data, s->len, s->offset, err);
}

static int piece_hash(struct pipeline *p, const struct slot *s, struct err *err)
{
        return digest_data(p->digest, s->data, s->len, s->offset, err);
}

static void *writer_run(void *arg)
{
        struct pipeline *p = arg;

        stage_run(p, &p->write);
        return NULL;
}

static void *hasher_run(void *arg)
{
        struct pipeline *p = arg;

        stage_run(p, &p->hash);
        return NULL;
}

int pipeline_new(struct volume *v, struct digest *d, struct pipeline **ret, struct err *err)
{
        struct pipeline *p = calloc(1, sizeof(*p));
        int r = 0;

        if (!p)
                return err_set(err, -ENOMEM, "out of memory");
        p->volume = v;
        p->digest = d;
        pthread_mutex_init(&p->lock, NULL);
        pthread_cond_init(&p->freed, NULL);
        p->write.work = piece_write;
        p->hash.work = piece_hash;
        pthread_cond_init(&p->write.more, NULL);
        pthread_cond_init(&p->hash.more, NULL);
        while (r == 0 && p->n_writers < PIPELINE_WRITERS) {
                r = -pthread_create(&p->writers[p->n_writers], NULL, writer_run, p);
                p->n_writers += r == 0;
        }
        if (r == 0)
                r = -pthread_create(&p->hasher, NULL, hasher_run, p);
        p->hashes = r == 0;
        if (r < 0) {
                pipeline_free(p);
                return err_set(err, r, "thread: %s", strerror(-r));
        }
        *ret = p;
        return 0;
}

struct pipeline *pipeline_free(struct pipeline *p)
{
        if (!p)
                return NULL;
        pthread_mutex_lock(&p->lock);
        p->stopping = true;
        pthread_cond_broadcast(&p->write.more);
        pthread_cond_broadcast(&p->hash.more);
        pthread_mutex_unlock(&p->lock);
        for (unsigned i = 0; i < p->n_writers; i++)
                pthread_join(p->writers[i], NULL);
        if (p->hashes)
                pthread_join(p->hasher, NULL);
        for (size_t i = 0; i < PIPELINE_SLOTS; i++)
                free(p->slots[i].data);
        pthread_mutex_destroy(&p->lock);
        pthread_cond_destroy(&p->write.more);
        pthread_cond_destroy(&p->hash.more);
        pthread_cond_destroy(&p->freed);
        free(p);
        malloc_trim(0);
        return NULL;
}

static int failure(struct pipeline *p, struct err *err)
{
        if (p->failed && err)
                *err = p->err;
        return p->failed;
}

/* The slot that is being filled, once it is free. */
static int slot_get(struct pipeline *p, struct slot **ret, struct err *err)
{
        struct slot *s = &p->slots[p->filled % PIPELINE_SLOTS];
        int r;

        pthread_mutex_lock(&p->lock);
        while (s->users > 0)
                pthread_cond_wait(&p->freed, &p->lock);
        r = failure(p, err);
        pthread_mutex_unlock(&p->lock);
        if (r == 0 && !s->data) {
                s->data =
                    aligned_alloc(4096, PIPELINE_PIECE); /* a directory's files are written past the cache */
                if (!s->data)
                        r = err_set(err, -ENOMEM, "out of memory");
        }
        *ret = s;
        return r;
}

static void slot_pass_on(struct pipeline *p, struct slot *s)
{
        if (s->len == 0)
                return;
        pthread_mutex_lock(&p->lock);
        s->users = 2;
        p->filled++;
        pthread_cond_signal(&p->write.more);
        pthread_cond_signal(&p->hash.more);
        pthread_mutex_unlock(&p->lock);
}

int pipeline_write(struct pipeline *p, const void *buf, size_t len, uint64_t offset, struct err *err)
{
        const uint8_t *from = buf;

        while (len > 0) {
                struct slot *s;
                size_t n;
                int r = slot_get(p, &s, err);

                if (r < 0)
                        return r;
                if (s->len > 0 && offset != s->offset + s->len) {
                        slot_pass_on(p, s);
                        continue;
                }
                if (s->len == 0)
                        s->offset = offset;
                /* pieces end where whole blocks of the storage do */
                n = MIN_OF(len, PIPELINE_PIECE - (size_t)(offset % PIPELINE_PIECE));
                memcpy(s->data + s->len, from, n);
                s->len += n;
                from += n;
                offset += n;
                len -= n;
                if (offset % PIPELINE_PIECE == 0)
                        slot_pass_on(p, s);
        }
        return 0;
}

int pipeline_drain(struct pipeline *p, struct err *err)
{
        struct slot *s = NULL;
        int r = slot_get(p, &s, err);

        if (r < 0)
                return r;
        slot_pass_on(p, s);
        pthread_mutex_lock(&p->lock);
        for (size_t i = 0; i < PIPELINE_SLOTS; i++)
                while (p->slots[i].users > 0)
                        pthread_cond_wait(&p->freed, &p->lock);
        r = failure(p, err);
        pthread_mutex_unlock(&p->lock);
        return r;
}
