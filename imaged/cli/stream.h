/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"

/*
 * A raw byte stream over HTTP's "101 Switching Protocols", by libcurl, so that https works too. One thread.
 */
struct stream;

/* path as in http_call; protocol is the Upgrade header's word. A refusal is the server's message, as -errno.
 */
int stream_open(const char *base, const char *token, const char *path, const char *protocol, int timeout_ms,
                struct stream **ret, struct err *err);
struct stream *stream_close(struct stream *s);
void stream_closep(struct stream **s);

/* To poll for reading; first read until -EAGAIN, because bytes may wait in the library. */
int stream_fd(const struct stream *s);

/* Bytes read, 0 at the end, -EAGAIN where none are there now, -EIO. */
ssize_t stream_read(struct stream *s, void *buf, size_t len);

/* All of it, or -errno; waits for room for at most timeout_ms. */
int stream_write(struct stream *s, const void *buf, size_t len, int timeout_ms);
