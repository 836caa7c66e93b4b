/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>

#include "imaged/daemon.h"

/*
 * What the daemon itself asks of all instances, kept in memory by version: a list of 100,000 records then
 * parses only those that changed. It lags behind the store as lists do. Any thread.
 */
struct index;

struct indexed {
        char id[UUID_LEN + 1], image[UUID_LEN + 1]; /* image: or ISO */
        uint64_t version;
        unsigned host,
            move_to; /* which host's room it takes, and which one's too while it migrates; 0: none */
        unsigned cpus;
        uint64_t memory;
        int priority;
        bool wanted;        /* it should run */
        char *name, *group; /* group: "OWNER/GROUP", no two of them on a host; NULL: none */
        bool attention;     /* half-made, being deleted, or waiting for a host: the collector looks at it */
        unsigned round;     /* of the last list that had it */
        struct indexed *next;
};

int index_new(struct store *store, struct index **ret, struct err *err);
struct index *index_free(struct index *x);

/* cb for each, from a list that is at most max_age_ms old. cb must not call index_*; what it returns but 0
 * ends it. */
int index_each(struct index *x, int64_t max_age_ms, int (*cb)(void *arg, const struct indexed *e), void *arg,
               struct err *err);
/* Was it in the last list? */
bool index_has(struct index *x, const char *id);

/* "OWNER/GROUP" of a record, in fresh memory; NULL: it is in no group. */
char *index_group(const json_t *record);

/* The host that an instance is or will be on, as far as its record tells; 0: none. */
unsigned index_host(const json_t *record);
/* The host whose room it takes now; 0: none, it is stopped and should be. */
unsigned index_seat(const json_t *record);
