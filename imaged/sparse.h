/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/*
 * Decoder of application/vnd.wherry.sparse: a raw disk as a sequence of frames, all numbers big-endian.
 *
 *   offset  size
 *        0     8  where the data belongs in the disk, bytes
 *        8     4  n: bytes of data that follow, 1 to SPARSE_FRAME_MAX
 *       12     n  data
 *
 * A frame with n = 0 carries the disk's virtual size in place of the offset and ends the stream. Frames
 * ascend and do not overlap; what no frame covers is a hole. The size has to be known before the first data:
 * it is the parameter of the Content-Type ("application/vnd.wherry.sparse; size=10737418240"), or one more
 * frame with n = 0 in front of all.
 */
#define SPARSE_TYPE "application/vnd.wherry.sparse"
#define SPARSE_HEADER 12
#define SPARSE_FRAME_MAX (64U * 1024 * 1024)

struct sparse_sink {
        int (*begin)(void *state, uint64_t virtual_size, struct err *err); /* once, first */
        int (*data)(void *state, const void *buf, size_t len, uint64_t offset, struct err *err);
        void *state;
};

struct sparse {
        struct sparse_sink sink;
        bool begun, ended;
        uint64_t size; /* valid once begun */
        uint64_t at;   /* where the next byte of data belongs */
        uint64_t left; /* of the frame's data */
        uint8_t header[SPARSE_HEADER];
        size_t n_header;
};

/* Is this the Content-Type? ret_size: its parameter, UINT64_MAX where it has none. -EINVAL: not a number. */
bool sparse_type(const char *content_type);
int sparse_type_size(const char *content_type, uint64_t *ret_size, struct err *err);

int sparse_init(struct sparse *sp, uint64_t size /* UINT64_MAX: first frame tells */,
                const struct sparse_sink *sink, struct err *err);
/* Pieces of any length. -EBADMSG: not such a stream; else what the sink returned. */
int sparse_push(struct sparse *sp, const void *buf, size_t len, struct err *err);
/* At the end of the bytes. -EBADMSG: truncated. */
int sparse_finish(struct sparse *sp, struct err *err);
