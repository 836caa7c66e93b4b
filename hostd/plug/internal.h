/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hostd/plug/plug.h"
#include "migrate/isolation.h"

#define PEER_URL_LEN 128

struct peer {
        unsigned number;
        char api[PEER_URL_LEN];
        bool asking;      /* a question is on its way: never two at a time */
        int64_t asked_ms; /* the last question */
        int64_t first_ms; /* the first one since its last answer; 0: there is none */
        struct isolation_peer view;
};

struct announcement {
        struct announcement *next;
        char instance[UUID_LEN + 1], mac[18], address[16];
        unsigned told;  /* how often */
        int64_t due_ms; /* the next time */
};

/* Shared by the files of this folder. */
struct plug {
        pthread_t thread;
        bool running;

        /* lock */
        pthread_mutex_t lock;
        struct peer peers[ISOLATION_PEERS];
        size_t n_peers;
        struct announcement *announcements;

        /* the thread's own */
        bool shut; /* it has said that the plugs are shut */
        struct uplink_watch uplink;
        int64_t last_write; /* self->own_write_ms at the last look */
        int64_t looked_ms;  /* that look */
};

/* announce.c: sends what is due. The thread; ends a list that is left. */
void announce_due(struct context *ctx);
void announce_drop(struct plug *p);
