/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "tests/store/power-fs.h"

/* power-node.c: folders, files and what of them is durable. power-fs.c makes a file system of it. */
#define POWER_NAME 160 /* bytes of a name */
#define POWER_NAMES 32 /* names in a folder */
#define POWER_NODES 512

struct names {
        size_t n;
        struct {
                char name[POWER_NAME];
                unsigned node;
        } at[POWER_NAMES];
};

struct bytes {
        char *data; /* and a NUL behind it */
        size_t len;
};

struct node {
        bool used, folder;
        struct fs_attr attr;
        struct names *now, *durable; /* a folder's */
        struct bytes content, kept;  /* a file's; kept: what a power cut leaves */
};
extern struct node power_nodes[POWER_NODES]; /* 0: the root */

unsigned node_new(bool folder, uint32_t mode);
void node_free(struct node *n);
int node_find(const char *path, unsigned *ret);
/* The folder that `path` lies in, and its last part. */
int node_folder(const char *path, struct node **ret, const char **ret_name);
int node_name(const char *path, unsigned node);                /* a further name of it; -EEXIST */
void node_write(struct node *n, const void *data, size_t len); /* all of its content */
void node_keep(struct node *n);                                /* durable from here on */
void node_touch(struct node *n);                               /* its change time */
void nodes_reset(void);
void nodes_cut(enum power_loss what);

size_t names_find(const struct names *l, const char *name); /* l->n: it is not there */
void names_add(struct names *l, const char *name, unsigned node);
void names_remove(struct names *l, size_t i);
