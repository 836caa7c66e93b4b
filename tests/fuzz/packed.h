/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "formats/formats.h"

/*
 * A packed file (fuzz-format.c has its layout, pack.c makes one) as a source that is never unpacked: it may
 * stand for a disk of any size. The bytes have to live as long.
 */
struct packed {
        const uint8_t *data;
        size_t size;
        uint64_t read_bytes; /* so far */
        unsigned reads;
};
struct source packed_source(struct packed *p, const uint8_t *data, size_t size);
