/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "imaged/store/rbd-gate.h"

/*
 * One object with an omap (an instance's gate), a directory of RBD images, who has which open, and a log of what was
 * asked of the cluster: the linker's --wrap puts it in the place of librados and of the files above it that only
 * carry. One thread, but for blocklist entries.
 */
struct fake_rados {
        bool exists;
        uint64_t version;
        struct {
                char key[128], val[GATE_CLIENT_TEXT];
        } entry[32];
        size_t n;
        struct pool_image image[8];
        size_t n_images;
        struct {
                char id[64], address[64];
        } open[8]; /* an address of this host has that image open */
        size_t n_open;
        char log[1024]; /* "raise ", "blocklist ADDRESS SECONDS ", "map ", "drop " ... in their order */
        const char *blocklist_refused; /* an address whose entry is refused */
        int blocklist_answer, map_answer, operate_answer, command_answer;
        char command[256];                         /* the last one to the monitors */
        void (*before_operate)(void);              /* once: what others do in between */
        int (*rename)(const char *, const char *); /* disk_rename(); NULL: it works */
};
extern struct fake_rados fake_rados;

const char *fake_get(const char *key); /* an entry of the gate, or NULL */
void fake_set(const char *key, const char *val);
void fake_image(const char *name, const char *id);
void fake_open(const char *id, const char *address);
/* A store whose engine is rbd's, not connected to anything. */
struct store *fake_store(void);
