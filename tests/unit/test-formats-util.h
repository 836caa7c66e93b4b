/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "formats/formats.h"

/* Shared by the tests of the formats. Each program works in a folder of its own, which is also its current
 * one. */
int work_begin(void **state);
int work_end(void **state);

/* Runs a shell command that has to succeed. */
void sh(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* What a command writes to standard output; it has to succeed. The caller frees. */
char *sh_text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

struct bytes {
        uint8_t *data;
        size_t len;
};
struct bytes file_load(const char *path);
void file_save(const char *path, const void *data, size_t len);

/* A source over memory: the buffer has exactly its size on the heap, so that ASan sees every byte beyond. */
struct source memory_source(const struct bytes *b);

uint32_t random_next(uint32_t *seed);

/* A disk's file: pieces of data, text, zeros and holes. The same seed gives the same file. */
void disk_make(const char *path, uint64_t size, uint32_t seed);

/* The whole disk by image_read() in odd pieces, or NULL and *err. */
uint8_t *disk_read(const struct source *src, const struct image_info *info, uint32_t seed, struct err *err);
/* The whole disk by pushing the source's bytes in odd pieces; checks the sink's contract on the way.
 * size_known as in an upload. */
uint8_t *disk_stream(const struct source *src, enum image_format format, bool size_known, uint32_t seed,
                     uint64_t *ret_size, struct err *err);

/* The same with an announced size that need not be true. */
uint8_t *disk_stream_sized(const struct source *src, enum image_format format, uint64_t announced,
                           struct err *err);

bool refused_with(const struct image_info *info, const char *code);
