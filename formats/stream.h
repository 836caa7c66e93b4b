/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "formats/formats.h"
#include "formats/qcow2.h"

/* Guest data on its way to a sink: whole blocks as they come, parts of one gathered, zeros left out. */
#define STREAM_BLOCK ((size_t)4096)
struct stream_out {
        struct image_sink sink;
        uint64_t start; /* guest offset of what is in block */
        size_t len;
        uint8_t block[STREAM_BLOCK];
};
int stream_out_add(struct stream_out *out, const uint8_t *buf, size_t len, uint64_t guest, struct err *err);
int stream_out_flush(struct stream_out *out, struct err *err);

/* The qcow2 part of a stream. */
struct stream_qcow2;
int stream_qcow2_new(const struct qcow2 *q, uint64_t file_size, struct stream_out *out,
                     struct stream_qcow2 **ret, struct err *err);
struct stream_qcow2 *stream_qcow2_free(struct stream_qcow2 *s); /* returns NULL */
int stream_qcow2_push(struct stream_qcow2 *s, const uint8_t *buf, size_t len, struct err *err);
int stream_qcow2_finish(struct stream_qcow2 *s, struct err *err);

/* The part of VMDK, VDI, VHD and VHDX: it calls the sink's begin itself, once it knows the disk. info is the
 * stream's, filled in. */
struct stream_map;
int stream_map_new(uint64_t file_size, struct image_info *info, struct stream_out *out,
                   struct stream_map **ret, struct err *err);
struct stream_map *stream_map_free(struct stream_map *s); /* returns NULL */
int stream_map_push(struct stream_map *s, const uint8_t *buf, size_t len, struct err *err);
int stream_map_finish(struct stream_map *s, const uint8_t *tail, struct err *err);

/* What a table names, waiting for its bytes: ordered by their place in the file. */
enum expect_kind { EXPECT_L1, EXPECT_L2, EXPECT_DATA, EXPECT_COMPRESSED };
struct expect {
        uint64_t host, len; /* bytes of the file */
        uint64_t guest;     /* the first guest byte that it is for */
        enum expect_kind kind;
};
struct expect_heap {
        struct expect *items;
        size_t n, room;
};
int expect_add(struct expect_heap *h, const struct expect *e, struct err *err);
void expect_pop(struct expect_heap *h); /* the first one, items[0] */

/* Bytes that no table had named when they passed; the newest are kept for a table that comes later. */
struct kept_piece {
        uint64_t host;
        size_t len;
        uint8_t *data; /* inside of memory: what is taken from the front needs no copy */
        uint8_t *memory;
};
struct kept {
        struct kept_piece *pieces; /* ordered by host */
        size_t n, room, bytes;
};
int kept_add(struct kept *k, const uint8_t *buf, size_t len, uint64_t host, struct err *err);
/* The bytes at host, NULL where they are not kept; ret_len: how many follow without a gap. Borrowed. */
const uint8_t *kept_find(const struct kept *k, uint64_t host, size_t *ret_len);
/* Takes [host, host + len), which kept_find has found, away. */
int kept_drop(struct kept *k, uint64_t host, size_t len, struct err *err);
void kept_done(struct kept *k);
