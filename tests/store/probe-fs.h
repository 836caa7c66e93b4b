/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "imaged/store/files.h"

/*
 * A store on a temporary folder, with a layer between engine and file system that notes each operation and lets one of
 * them fail. One thread.
 */
struct probe {
        struct store *store;
        struct fs *fs;
        char folder[64];
        char log[16384]; /* "op path\n", since probe_clear() */

        const char *op; /* the operation that meets the fault: "rename"; NULL: none */
        unsigned skip;  /* so many of them before it do not */
        unsigned times; /* so many do */
        int answer;     /* < 0 */
        bool done;      /* it happens all the same, before it is answered so */
        void (*before)(void);
        struct fs_attr change; /* added to what `attr` says of an open file */
        uint64_t left;         /* what is free; UINT64_MAX: the real one's */
};
extern struct probe probe;

int probe_begin(void **state);
int probe_end(void **state);
void probe_clear(void); /* no fault, an empty log */
/* The next `op` is answered so. */
void probe_fail(const char *op, int answer);
bool probe_logged(const char *text);
unsigned probe_names(const char *path); /* how many names a folder of the store has */
int probe_shell(const char *command);   /* in the store's folder */
