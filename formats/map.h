/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "formats/formats.h"

/*
 * VMDK, VDI, VHD and VHDX are one idea: the disk in blocks of equal size, and a table that says where in the
 * file each block lies. A format checks its header and looks a block up; reading, extents, the walk over all
 * tables and the stream are the same for all (map.c, map-walk.c, stream-map.c).
 */

#define MAP_BLOCKS_MAX (UINT64_C(1) << 26)
#define MAP_RESERVED_MAX 64u
#define SOURCE_NOT_YET (-ENODATA) /* what a source says of bytes that a stream has not brought yet */

enum mapping_kind { MAPPING_HOLE, MAPPING_DATA, MAPPING_PACKED };
struct mapping {
        enum mapping_kind kind;
        uint64_t host;   /* data, packed: first byte in the file */
        uint64_t blocks; /* hole: at least so many blocks from this one on are holes; 0 counts as 1 */
};

/* A part of a table, kept because the next entry is likely in it too. */
struct window {
        uint8_t *buf;
        uint64_t at;
        size_t len;
};

struct map {
        struct source src;
        uint64_t size;        /* guest bytes */
        uint64_t block;       /* guest bytes of a block */
        uint64_t data_offset; /* of a block's data behind mapping.host: a VHD's sector bitmap */
        uint64_t align;       /* blocks lie at multiples of it; at least 512 */
        bool plain;           /* no table: guest bytes are the file's first bytes */
        struct {
                uint64_t start, len;
        } reserved[MAP_RESERVED_MAX]; /* header and tables: no block lies there */
        size_t n_reserved;
        struct window window;
        const struct map_ops *ops;
        void *state;
        uint8_t *cluster;  /* the block that was unpacked last */
        uint64_t unpacked; /* its number, UINT64_MAX: none */
};

struct map_ops {
        /* Reads and checks the header, a bounded number of bytes; fills size, block, align, reserved.
         * A refusal goes into info; then the map must not be used. stream: the end cannot be read yet. */
        int (*open)(struct map *m, bool stream, struct image_info *info, struct err *err);
        int (*lookup)(struct map *m, uint64_t block, struct mapping *ret,
                      struct err *err); /* -EBADMSG: bad */
        /* The rest is optional. */
        void (*close)(struct map *m);
        int (*reserve)(struct map *m, struct image_info *info, struct err *err); /* the tables' places */
        /* Packed blocks: the file's bytes of one, and its content into m->cluster, given those bytes. */
        int (*packed_len)(struct map *m, uint64_t block, uint64_t host, uint64_t *ret, struct err *err);
        int (*unpack)(struct map *m, uint64_t block, const uint8_t *packed, size_t len, struct err *err);
};
extern const struct map_ops vmdk_map_ops, vdi_map_ops, vhd_map_ops, vhdx_map_ops;

/* NULL for a format that is not of this kind. */
const struct map_ops *map_ops_of(enum image_format f);
/* m is to be closed also after a failure. info->format says which. */
int map_open(struct map *m, const struct source *src, bool stream, struct image_info *info, struct err *err);
void map_close(struct map *m);
/* n bytes of a table at a place in the file; limit: where the table ends. Borrowed until the next call. */
int map_table(struct map *m, uint64_t offset, size_t n, uint64_t limit, const uint8_t **ret,
              struct err *err);
/* Refuses an empty or too large disk, and more blocks than fit; code "size". */
bool map_size_check(const struct map *m, const char *field, struct image_info *info);
/* Keeps a range of the file free of blocks. Refuses one that is not inside the file. */
bool map_reserve(struct map *m, const char *field, uint64_t start, uint64_t len, struct image_info *info);
/* Bytes of the disk in one block: fewer in the last. */
uint64_t map_block_len(const struct map *m, uint64_t block);
/* Looks all blocks up; what is wrong becomes a refusal. */
int map_walk(struct map *m, struct image_info *info, struct err *err);

/* A fixed VHD's footer, when it has come: what is wrong with it becomes a refusal. */
void vhd_fixed_end(const uint8_t *tail, uint64_t file_size, struct image_info *info);
