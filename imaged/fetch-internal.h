/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <curl/curl.h>

#include "imaged/fetch.h"

#define FETCH_BLOCK ((size_t)256 << 10) /* what is kept comes in such blocks */
#define FETCH_BLOCKS 64                 /* so many of them */
#define FETCH_VALIDATOR 256

struct fetch_block {
        uint64_t number;
        uint64_t used; /* when, by f->clock */
        uint8_t *data; /* inside of f->kept; NULL: empty */
};

struct fetch {
        CURL *curl;
        char *url, *effective; /* as given; where its redirects led the last time, or NULL */
        bool outside, ranges;
        const atomic_bool *stopping;
        uint64_t size;
        char etag[FETCH_VALIDATOR], modified[FETCH_VALIDATOR]; /* empty: none */

        struct fetch_block blocks[FETCH_BLOCKS];
        uint64_t clock, next; /* the block behind the last one that was asked for */
        unsigned ahead;       /* how many blocks the last request asked for */
        uint8_t *kept, *buf;  /* FETCH_BLOCK * FETCH_BLOCKS; * FETCH_AHEAD; NULL until they are needed */
};
#define FETCH_AHEAD 16u
#define FETCH_MEMORY ((FETCH_BLOCKS + FETCH_AHEAD) * FETCH_BLOCK)

/* fetch.c: [first, last] of the file, in order, with as many tries as it takes while it moves. */
int fetch_range(struct fetch *f, uint64_t first, uint64_t last,
                int (*data)(void *state, const void *buf, size_t len, struct err *err), void *state,
                struct err *err);
