/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

struct digest;
struct volume;

/*
 * A disk's bytes on their way into an unsealed volume: gathered into pieces, written by several threads at
 * once and hashed by one more in the order in which they came, so that receiving, hashing and writing go on
 * at the same time. Memory: PIPELINE_SLOTS pieces at most, taken as they are needed. The caller is one
 * thread; between pipeline_write() and a pipeline_drain() that worked, volume and digest belong to the
 * pipeline.
 */
#define PIPELINE_PIECE ((size_t)1 << 20)
#define PIPELINE_SLOTS 20
#define PIPELINE_WRITERS 12

struct pipeline;

/* Borrows both, which outlive it. */
int pipeline_new(struct volume *v, struct digest *d, struct pipeline **ret, struct err *err);
/* Copies buf; waits for room. The first failure of a write or of the hash is returned from here on. */
int pipeline_write(struct pipeline *p, const void *buf, size_t len, uint64_t offset, struct err *err);
/* Returns when all bytes are in the volume and in the hash. */
int pipeline_drain(struct pipeline *p, struct err *err);
/* Drops what has not begun and waits for what has; returns NULL. */
struct pipeline *pipeline_free(struct pipeline *p);
