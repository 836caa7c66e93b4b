/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

/*
 * The daemon without its main(): what the tests link. All state lies in the store; several may serve one
 * store.
 */
struct imaged;

struct imaged_network {
        const char *bridge, *range, *first, *last, *gateway,
            *nameservers; /* for the record "default", when missing */
};

struct imaged_options {
        const char *store_url, *ceph_conf, *ceph_user;
        const char *listen;
        const char *token;       /* of our callers */
        const char *hostd_token; /* of the cluster, for calls to hostds; NULL: none is sent */
        struct imaged_network network;
        const char *public_url; /* of the service, for clients; NULL: what each client calls it */
        unsigned undelete_s;    /* a deleted image can be undeleted for so long */
        bool allow_private;     /* members may have images fetched from private addresses */
        unsigned stale_ms;      /* what an imaged left half-made and did not move for so long is removed */
};

/* Opens the store and serves. The options are copied where they are needed longer. */
int imaged_new(const struct imaged_options *options, struct imaged **ret, struct err *err);
struct imaged *imaged_free(struct imaged *im); /* ends requests, imports and threads; returns NULL */
unsigned imaged_port(const struct imaged *im);
