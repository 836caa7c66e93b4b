/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/*
 * A file behind a URL, http or https only, redirects too. Where its server gives parts of it (206, with its
 * whole size, and a strong ETag or a Last-Modified) any part can be read, and a broken connection is gone on
 * with; every answer has to be of the same file as the first, by size and by both of these. One thread at a
 * time.
 */
struct fetch;

struct fetch_options {
        const char *url;
        bool outside;                /* public addresses only, -EACCES for others */
        const atomic_bool *stopping; /* ends it with -ECANCELED */
};
/* Asks for the first bytes; a server that cannot be reached now is an error, not waited for. */
int fetch_open(const struct fetch_options *o, struct fetch **ret, struct err *err);
struct fetch *fetch_free(struct fetch *f); /* returns NULL */

/* Whether any part can be read; only then is the size known before it comes. */
bool fetch_has_ranges(const struct fetch *f);
uint64_t fetch_size(const struct fetch *f); /* bytes, UINT64_MAX: not known */

/* The whole of it, in order. begin is told the size (UINT64_MAX: not known) once, before the first data. */
struct fetch_sink {
        int (*begin)(void *state, uint64_t size, struct err *err);
        int (*data)(void *state, const void *buf, size_t len, struct err *err);
        void *state;
};
int fetch_stream(struct fetch *f, const struct fetch_sink *sink, struct err *err);

/* A part; needs ranges. Reads ahead where one part follows the other; keeps 16 MiB. */
int fetch_read(struct fetch *f, void *buf, size_t len, uint64_t offset, struct err *err);
