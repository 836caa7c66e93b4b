/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "formats/formats.h"

/*
 * A btrfs on one device, read only: docs/formats/btrfs.md has the offsets. What is damaged, of another
 * device, or more than the budget pays for is not there. One thread.
 */

#define BTRFS_PACKED_MAX 131072u /* an extent, compressed or uncompressed */
#define BTRFS_COPIES_MAX 2u      /* of a chunk on one device: DUP */
#define BTRFS_CACHE 8u           /* nodes */

enum btrfs_type {
        BTRFS_INODE = 1,
        BTRFS_DIR_ITEM = 84,
        BTRFS_DIR_INDEX = 96,
        BTRFS_EXTENT = 108,
        BTRFS_ROOT = 132,
        BTRFS_CHUNK = 228,
};

struct btrfs_key {
        uint64_t object;
        uint8_t type; /* enum btrfs_type, or one that is not looked for */
        uint64_t offset;
};

/* data is in the cache: gone with the next call that reads. */
struct btrfs_item {
        struct btrfs_key key;
        const uint8_t *data;
        size_t len;
};

struct btrfs_tree {
        uint64_t top; /* logical address of its topmost node */
        unsigned level;
        bool chunks; /* the chunk tree: only the superblock's own chunks say where its nodes are */
};

/* Where logical addresses lie on this device. */
struct btrfs_chunk {
        uint64_t logical, len, copies[BTRFS_COPIES_MAX];
        unsigned n;
};

struct btrfs_node {
        uint64_t logical; /* 0: empty */
        uint64_t used;    /* when: a number that grows */
        uint8_t *data;
};

struct btrfs {
        const struct source *src;
        uint64_t device; /* its number */
        size_t node_size;
        uint64_t root_dir; /* the directory in the root tree */
        struct btrfs_tree roots, chunks;
        struct btrfs_chunk system[24], last;
        size_t n_system;
        struct btrfs_node cache[BTRFS_CACHE];
        uint64_t clock;
        uint64_t budget; /* what may still be read and unpacked, bytes */
        uint8_t *nodes, *packed, *plain;
};

/* 1: it is a btrfs that can be read; 0: it is none; or -ENOMEM. btrfs_end() in any case. */
int btrfs_begin(struct btrfs *fs, const struct source *src);
void btrfs_end(struct btrfs *fs);

/* False: the budget is spent. */
bool btrfs_spend(struct btrfs *fs, uint64_t amount);

/* The first item at key or behind it. */
bool btrfs_search(struct btrfs *fs, const struct btrfs_tree *tree, const struct btrfs_key *key,
                  struct btrfs_item *ret);

/* len bytes at a logical address, inside of one chunk. */
bool btrfs_read(struct btrfs *fs, uint64_t logical, void *buf, size_t len);

/* A file's first bytes by its extents; room is at most its size. Returns how many could be read: the rest is
 * damaged, or compressed with what we have not. */
size_t btrfs_content(struct btrfs *fs, const struct btrfs_tree *tree, uint64_t inode, uint8_t *buf,
                     size_t room);
