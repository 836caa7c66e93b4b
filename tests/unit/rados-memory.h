/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <time.h>

#include "imaged/store/rbd-gate.h"

/*
 * librados and librbd in memory, as far as the store calls them: objects with omaps, RBD images with their directory,
 * watchers, a blocklist. It defines the libraries' own functions, so a program linked with it uses these. The clock is
 * the test's, and moves only when somebody sleeps. The real cluster has its own suite, tests/store.
 */
struct memory_image {
        char id[64], parent[64];
        uint64_t size, features, order, format, clone_format;
        bool there, sealed; /* sealed: it has a snapshot */
        char data[2048];    /* its first bytes */
        char watcher[80][64];
        size_t n_watchers;
        struct timespec written;
};
struct memory {
        struct memory_image image[16];
        size_t n_images;
        char log[8192];       /* "CALL:OBJECT " of each call that changes something, in order */
        char blocked[80][64]; /* addresses on the blocklist */
        size_t n_blocked;
        bool blocklist_idle; /* it stops nobody */
        const char *answer;  /* of the monitors, to any command; NULL: "[]" */
        char command[512];   /* the last one to them */
        char settings[1024]; /* "NAME=VALUE " of the last client */
        const char *keyring; /* Ceph's setting of that name */
        unsigned page;       /* entries of a scan, 0: as many as were asked for */
        unsigned clients;    /* open ones */
        size_t read_max;     /* bytes that one read gives, 0: all */
        struct {
                uint64_t offset, len;
                int exists;
        } diff[4]; /* of rbd_diff_iterate2() */
        size_t n_diffs;
        int64_t now_ms;
        /* Before each call, also those that only read. 0: it is done; < 0: it is not, and that is the answer; > 0: it
         * is done, and the answer is the negative of this. */
        int (*hook)(const char *call, const char *object);
};
extern struct memory memory;

void memory_clear(void);
/* cmocka: a store on an empty cluster, in *state. */
int memory_setup(void **state);
int memory_teardown(void **state);
/* One call fails: the `skip`-th after the next of that name on an object that begins so. r as the hook's. */
void memory_fail(const char *call, const char *object, int r, int skip);
/* "NAMESPACE/OBJECT"; the omap's value, or NULL */
const char *memory_get(const char *object, const char *key);
void memory_set(const char *object, const char *key, const char *val);
void memory_drop(const char *object);
bool memory_exists(const char *object);
/* An image with that name, of 1 MiB; sealed or not. */
struct memory_image *memory_add(const char *name, bool sealed);
struct memory_image *memory_find(const char *name); /* by the directory, or NULL */
void memory_watch(const char *name, const char *address);
