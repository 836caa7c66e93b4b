/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "hostd/context.h"
#include "hostd/virt/virt.h"

struct guest;

/* Every instance that concerns this host, by id. */
struct guests {
        pthread_mutex_t lock; /* of the list; taken before any guest's own */
        struct guest **list;
        size_t n;
        bool scanned; /* the first scan has found everything that concerns this host */
};

int guests_new(struct guests **ret);
struct guests *guests_free(struct guests *t); /* every guest's thread has ended; returns NULL */

/* Looks at that instance soon; makes its guest when there is none. Any thread, never blocks. */
void guests_wake(struct context *ctx, const char *instance);
/* This host goes down: the guest powers off here, or is ended at_once, and does not start here again. */
void guests_leave(struct context *ctx, const char *instance, bool at_once);
/* Is its thread in the middle of something? Then a QEMU of it may be about to begin. */
bool guests_busy(struct context *ctx, const char *instance);
/* Does it run here, as far as its thread has seen? */
bool guests_movable(struct context *ctx, const char *instance);
/* At the end: wakes every thread, so that it sees that hostd ends. */
void guests_wake_all(struct context *ctx);
/* A scan has woken everything that it found. Main. */
void guests_scanned(struct context *ctx);
/* An event of libvirt about one guest: leaves a note and wakes its thread. On libvirt's event thread. */
void guests_event(struct context *ctx, enum virt_event_kind kind, const char *instance, const char *detail);
/* With the table's lock held; NULL where there is none. */
struct guest *guests_find(struct guests *t, const char *instance);
/* With the table's lock held: woken, or made where there is none. NULL: hostd ends, or is out of memory. */
struct guest *guests_get(struct context *ctx, const char *instance);
/* With the table's lock held: takes it off the list. */
void guests_drop(struct guests *t, const struct guest *g);
