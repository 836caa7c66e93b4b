/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"

/*
 * Glue over libmicrohttpd: a table of routes, one thread per connection (so a handler may block), a limit on
 * connections and on body size. Handlers run on many threads at once.
 */
struct http_request;
struct http_server;

/*
 * Answers by calling exactly one http_reply_* below. A negative return (with err set) becomes an error
 * reply: -ENOENT 404, -EEXIST and -ESTALE 409, -EINVAL and -EBADMSG 400, -ERANGE 416, -EACCES 403, -EPERM
 * 401, -ENOSPC 507, -EFBIG and -EDQUOT 413, -EMEDIUMTYPE 415, -EBUSY 409, -EOPNOTSUPP 501, -EROFS,
 * -ETIMEDOUT, -EHOSTUNREACH and -ECONNREFUSED 503, else 500; its body is {"error": {"code": N, "message":
 * TEXT}}.
 */
typedef int (*http_handler)(struct http_request *req, void *userdata, struct err *err);

/*
 * For uploads: called with each piece of the body in order, before the handler; the first call has *state
 * NULL and may set it. A negative return stops reading and becomes the error reply. done is called once,
 * always, to free the state (NULL where no byte came); after the handler, or before the error reply.
 */
struct http_body {
        int (*data)(struct http_request *req, void **state, const void *data, size_t len, void *userdata,
                    struct err *err);
        void (*done)(void *state);
};

struct http_route {
        const char *method;
        const char *path; /* "/v1/instances/{id}/stop": {name} matches one step, see http_param() */
        http_handler handler;
        const struct http_body *body; /* NULL: the body is collected, at most 1 MiB */
        bool open;                    /* needs no token */
};

struct http_server_options {
        const char *listen; /* "127.0.0.1:8080", "[::1]:8080" */
        const char *token;  /* NULL: everybody may; else asked for as "Authorization: Bearer T" or
                               "X-Auth-Token: T"; compared in constant time */
        const struct http_route *routes;
        size_t n_routes;
        void *userdata;
        /* For a token that is not `token`: says whose it is, or that it may not call this path. ret_caller:
         * freed with free(), see http_caller(). -EPERM 401, -EACCES 403. NULL: only `token` opens. Any
         * thread. */
        int (*authenticate)(void *userdata, struct http_request *req, const char *sent, void **ret_caller,
                            struct err *err);
        unsigned max_connections; /* 0: 256 */
};

/* From here on callers get through, and wait until it is started. -EADDRINUSE, -EADDRNOTAVAIL. */
int http_server_new(const struct http_server_options *options, struct http_server **ret, struct err *err);
int http_server_start(struct http_server *s, struct err *err);
struct http_server *http_server_free(struct http_server *s); /* waits for handlers to end; returns NULL */
/* What it listens on, also where port 0 was asked for. */
unsigned http_server_port(const struct http_server *s);

/* Borrowed for the time of the request; NULL where there is none. */
const char *http_method(struct http_request *req);
const char *http_path(struct http_request *req);
const char *http_param(struct http_request *req, const char *name);  /* a {step} of the route's path */
const char *http_query(struct http_request *req, const char *name);  /* ?name=value, decoded */
const char *http_header(struct http_request *req, const char *name); /* any case */
/* Every ?name=value, in order; value "" where there is none. cb returns 0, or a value that ends it and is
 * returned. */
int http_query_each(struct http_request *req, int (*cb)(void *arg, const char *name, const char *value),
                    void *arg);
/* What authenticate() said; NULL: the caller has the server's own token, or the route is open. */
void *http_caller(struct http_request *req);
const char *http_body_text(struct http_request *req, size_t *ret_len);
void *http_body_state(struct http_request *req);
/* The body as one JSON document; an empty body is an empty object. The caller owns *ret. */
int http_body_json(struct http_request *req, json_t **ret, struct err *err);

/* Borrows body; NULL: no body. */
int http_reply_json(struct http_request *req, int status, const json_t *body);
int http_reply_text(struct http_request *req, int status, const char *type, const char *text);
/* Adds a header to the reply; before the reply call. */
int http_reply_header(struct http_request *req, const char *name, const char *value);
/* A body made by pieces: read fills up to len bytes at offset and returns their number, 0 at the end, -errno
 * on failure (the connection is cut, so that the client notices). size UINT64_MAX: unknown. done frees
 * state. */
int http_reply_stream(struct http_request *req, int status, const char *type, uint64_t size,
                      ssize_t (*read)(void *state, uint64_t offset, void *buf, size_t len),
                      void (*done)(void *state), void *state);
/* 101 and a raw byte stream: run is called on the connection's thread with the socket and owns the exchange
 * until it returns; `early` are bytes that the client sent already. fd is -1 where the client went before
 * the 101 reached it. -EINVAL: the client did not ask for that protocol (Upgrade header); run is not called,
 * nothing is replied. */
int http_reply_upgrade(struct http_request *req, const char *protocol,
                       void (*run)(void *state, int fd, const void *early, size_t n_early), void *state);
