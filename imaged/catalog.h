/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>

#include "imaged/daemon.h"

/*
 * All image records in memory, in the order of their age, so that a page of 100,000 costs what the page
 * costs. It lags behind the store by 1 s, or by twice what a look at all records takes, but for this
 * imaged's own changes, which show at once. A thread of its own follows the store while somebody asks. Any
 * thread.
 */
struct catalog;

enum visibility { VISIBILITY_PRIVATE, VISIBILITY_SHARED, VISIBILITY_COMMUNITY, VISIBILITY_PUBLIC };

struct cataloged {
        char id[UUID_LEN + 1], owner[UUID_LEN + 1];
        char created[25], updated[25];
        enum visibility visibility;
        bool hidden, members;        /* members: it has some */
        bool active, deleted;        /* deleted: waits to be removed, or to be undeleted */
        bool attention;              /* the collector looks at it */
        int64_t size;                /* -1: none yet */
        const char *name;            /* "" where it has none */
        const char *os, *os_version; /* the same; by our own or by OpenStack's names of the properties */
        const char *text;            /* the record */
        uint64_t version;            /* 0: a change made here, which no list of the store showed yet */

        unsigned round; /* catalog.c's */
        int64_t touched_ms;
        struct cataloged *next;
};

int catalog_new(struct store *store, struct catalog **ret, struct err *err);
struct catalog *catalog_free(struct catalog *c);

/*
 * Holds the catalog still for reading, at most max_age_ms (or that lag) old, with 0 as it is now, the oldest
 * image first; deleted ones too. catalog_close() lets go. Between the two: no other call of this catalog,
 * and nothing that blocks.
 */
int catalog_open(struct catalog *c, int64_t max_age_ms, const struct cataloged *const **ret, size_t *ret_n,
                 struct err *err);
void catalog_close(struct catalog *c);
/* The same around a call for each; what cb returns but 0 ends it. */
int catalog_each(struct catalog *c, int64_t max_age_ms, int (*cb)(void *arg, const struct cataloged *e),
                 void *arg, struct err *err);

/* A change that this imaged made. record NULL: gone. */
void catalog_put(struct catalog *c, const char *id, const json_t *record);

/* Does the record's text hold this member as a string of this value? What it denies is so; what it affirms
 * is to be looked at again in the parsed record. */
struct catalog_needle {
        char *text; /* owned */
};
int catalog_needle(const char *key, const char *value, struct catalog_needle *ret);
bool catalog_may_have(const struct cataloged *e, const struct catalog_needle *n);
