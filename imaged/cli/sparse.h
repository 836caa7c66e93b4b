/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"

/*
 * Encoder of application/vnd.wherry.sparse: a disk as its data only. All numbers big-endian:
 *
 *   frame  offset 0  u64  where the data belongs on the disk
 *          offset 8  u32  length of the data, at most 1 MiB
 *          offset 12      the data
 *   ...
 *   end    offset 0  u64  virtual size of the disk
 *          offset 8  u32  0
 *
 * Offsets only grow; what no frame covers reads as zeros.
 */
struct sparse_input {
        uint64_t size; /* virtual size in bytes */
        int (*read)(void *state, void *buf, size_t len, uint64_t offset, struct err *err);
        /* From offset on: how many bytes are all data or all hole. */
        int (*extent)(void *state, uint64_t offset, uint64_t *ret_len, bool *ret_data, struct err *err);
        void *state;
};

struct sparse_encoder;

/* Copies the input's description. Any thread, one at a time. */
int sparse_encoder_new(const struct sparse_input *in, struct sparse_encoder **ret, struct err *err);
struct sparse_encoder *sparse_encoder_free(struct sparse_encoder *s);
void sparse_encoder_freep(struct sparse_encoder **s);

/* The next bytes of the stream: 1 to len, 0 at the end, -errno where the input cannot be read. */
ssize_t sparse_encoder_read(struct sparse_encoder *s, void *buf, size_t len, struct err *err);

/* Bytes of data extents read so far; and of all the input, by a walk over its extents. */
uint64_t sparse_encoder_done(const struct sparse_encoder *s);
int sparse_data_size(const struct sparse_input *in, uint64_t *ret, struct err *err);
