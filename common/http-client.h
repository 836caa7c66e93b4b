/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"

/*
 * Calls over libcurl. One client serves one thread at a time and keeps its connection. The base is
 * "http://host:port"; an error names the address and what to look at.
 */
struct http_client;

/*
 * base NULL: for downloads from full URLs only. token NULL: none is sent; it goes to the base only, never to
 * another server. timeout_ms: how long a whole http_call may take, and how long an upload or a download may
 * be silent; 0: for ever. Proxies from the environment are used for full URLs, never for the base.
 */
int http_client_new(const char *base, const char *token, int timeout_ms, struct http_client **ret,
                    struct err *err);
struct http_client *http_client_free(struct http_client *c);
/* The code says that the server is away for now (a restart?), so that asking again may help. */
bool http_away(int code);

/*
 * One exchange with JSON both ways; body and ret may be NULL. A reply of 400 or above is a failure with the
 * server's message: 404 -ENOENT, 401 -EPERM, 403 -EACCES, 409 -EEXIST, 400 -EINVAL, 413 -EFBIG, 507 -ENOSPC,
 * 502, 503 and 504 -ETIMEDOUT, else -EIO; no connection -ECONNREFUSED, one that broke -ECONNRESET, silence
 * -ETIMEDOUT. ret_status (may be NULL) is
 * the HTTP status, 0 where none came. A reply without a body gives JSON null. The caller owns *ret.
 */
int http_call(struct http_client *c, const char *method, const char *path, const json_t *body, json_t **ret,
              long *ret_status, struct err *err);

/*
 * An upload of `size` bytes (UINT64_MAX: chunked); read is called in order of offsets and returns the bytes
 * it filled in, 0 at the end, or -errno, which ends the upload with that code; a text that it put into the
 * same err stays.
 */
int http_upload(struct http_client *c, const char *method, const char *path, const char *type, uint64_t size,
                ssize_t (*read)(void *state, uint64_t offset, void *buf, size_t len), void *state,
                json_t **ret, struct err *err);

/*
 * A download: write is called with each piece in order and returns 0 or -errno, which ends the download with
 * that code; a text that it put into the same err stays. Redirects of full URLs are followed, to http and
 * https only.
 */
int http_download(struct http_client *c, const char *url_or_path,
                  int (*write)(void *state, uint64_t offset, const void *buf, size_t len), void *state,
                  struct err *err);

/* Ends the call that runs, and every later one, with -ECANCELED, within a second. Any thread; also a signal
 * handler. */
void http_cancel(struct http_client *c);

/* Percent-encodes one path step or query value into fresh memory. */
char *http_escape(const char *text);
