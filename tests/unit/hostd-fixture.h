/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "hostd/context.h"
#include "hostd/guests/guest.h"
#include "hostd/guests/table.h"
#include "hostd/ring/internal.h"
#include "hostd/self.h"

/*
 * hostd's files on the memory engine and a clock of the test's own. The linker's --wrap puts this in the
 * place of the clock, poll(), threads, other hosts, libvirt's signals and the log of events: one thread, no
 * waiting.
 */
struct fixture {
        struct context ctx;
        struct self self;
        struct config config;
        struct ring ring;
        struct ring_identity identity;
        int64_t now_ms;
        void (*on_poll)(struct fixture *f,
                        int ms); /* after each poll(NULL, 0, ms), which has passed the time */
        unsigned polls;

        /* What was asked of the others, and what they answer. */
        char looks[512]; /* "HOST:INSTANCE'S FIRST DIGIT " for each */
        int look_answer[8];
        char woken[512];  /* as looks, of this host's guests */
        char events[512]; /* "KIND " */
        pid_t killed;     /* the last one */
        unsigned kills;
        int kill_answer;
        void (*spawned)(void *arg); /* kept and not run where spawn_later is set */
        void *spawned_arg;
        bool spawn_later;
        void *(*thread)(void *arg); /* the last pthread_create(), not run */
        void *thread_arg;
        int (*beat)(struct fixture *f, uint64_t counter); /* beat_write(); NULL: works at once */
        int (*beat_of)(struct fixture *f, unsigned host, uint64_t *ret); /* beat_read(); NULL: the store's */
};
extern struct fixture fixture;

int fixture_begin(void **state);
int fixture_end(void **state);
/* An instance's record and disks at epoch 0: id is of one hexadecimal digit, more goes into the record. */
void fixture_instance(char digit, const char *more);
const char *fixture_id(char digit);
void fixture_host(unsigned number, const char *state, uint64_t epoch, const char *more);
/* The next epoch of its disks, by that host. */
struct lease fixture_claim(char digit, unsigned host);
/* Its disks are the start's. */
void fixture_fence(char digit, const struct lease *lease, const char *start);
/* A member of the record, "a.b.c", as compact JSON. The text lives until the next call. */
const char *fixture_field(enum record_kind kind, const char *id, const char *path);
/* Writes a member of the record: `value` is JSON. */
void fixture_set(enum record_kind kind, const char *id, const char *path, const char *value);
struct guest *fixture_guest(char digit);
