/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

struct osinfo;

/*
 * What an upload does to its image's record, for records_change(): each but the first asks for the upload's
 * nonce in `import`, so that one that was taken for dead gets -ESTALE. `arg` is a struct import_change.
 */
struct import_change {
        const char *image, *nonce;
        const char *status;   /* begin: what the record says meanwhile */
        const char *text;     /* seize: the new nonce; resume: the old one; queued: why it failed, or NULL */
        const char *hash;     /* active, staged: SHA-256, or "" */
        const char *location; /* active, staged: where other services find the bytes, or NULL */
        const struct osinfo *found; /* active, staged: which system is on it, or NULL */
        unsigned parts;             /* active, staged: records of the manifest */
        bool staged;                /* active: not yet, they wait for import_promote() */
        uint64_t done, total, size;
        uint64_t at;    /* how far into the disk bytes were taken */
        bool resumable; /* a sparse body: its client comes back for it */
        int format;     /* begin: what the record declares */
};

int import_begin(json_t *record, void *arg, struct err *err); /* the image has to be queued */
/* Goes on with an upload to "saving" whose imaged or client is gone; sets `at` and `format`. */
int import_resume(json_t *record, void *arg, struct err *err);
/* Whether there is one to go on with, as far as the record says. */
bool import_open(const json_t *record);
bool import_resumable(const json_t *record);                 /* and whether its client does */
int import_beat(json_t *record, void *arg, struct err *err); /* progress, and a sign of life */
int import_touch(json_t *record, void *arg,
                 struct err *err); /* that alone, from who wants to go on with it */
int import_seize(json_t *record, void *arg,
                 struct err *err); /* takes it from its holder, whose next change fails */
int import_queued(json_t *record, void *arg, struct err *err); /* open for another try */
int import_active(json_t *record, void *arg, struct err *err);
int import_promote(json_t *record, void *arg, struct err *err); /* what was staged is active from here on */
