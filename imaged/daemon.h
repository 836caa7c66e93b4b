/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "common/http-server.h"
#include "common/jobs.h"
#include "imaged/imaged.h"
#include "imaged/store/store.h"

struct accounts;
struct catalog;
struct hosts;
struct events;
struct collector;
struct places;
struct index;
struct upload;

/* What the parts of imaged share. Set up by imaged_new() before any thread runs, and constant but for what
 * is marked. */
struct imaged {
        struct store *store;
        char *hostd_token;
        char *public_url;   /* where clients reach us; NULL: where each says it does */
        bool allow_private; /* members' downloads may go to private addresses */
        unsigned stale_ms;
        int64_t undelete_s;
        struct accounts *accounts;
        struct catalog *catalog;
        struct hosts *hosts;
        struct index *index;
        struct places *places;
        struct events *events;
        struct collector *collector;
        struct jobs *imports; /* downloads, which may take hours */
        struct jobs *nudges;  /* short calls to hostds */
        struct http_server *server;
        sem_t looks; /* places for helpers that look which system is on an image */
        atomic_bool stopping;

        pthread_mutex_t lock;   /* over what follows */
        struct upload *uploads; /* those that run, for their sign of life */
};

extern const struct http_route imaged_routes[];
extern const size_t imaged_n_routes;
