/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <microhttpd.h>
#include <pthread.h>

#include "common/http-server.h"

/* Shared by http-server.c (connections), http-request.c (routes, bodies) and http-reply.c (answers); nobody
 * else. */

#define HTTP_MAX_PARAMS 4
#define HTTP_MAX_HEADERS 8
/* Seconds after which a connection on which nothing moves is closed; the time that a handler takes does not
 * count. */
#define HTTP_IDLE_S 60

/* One connection that became a raw stream; http_server_free() shuts its socket and waits for it. */
struct http_upgrade {
        struct http_server *server;
        void (*run)(void *state, int fd, const void *early, size_t n_early);
        void *state;
        int fd;
        struct http_upgrade *next;
};

struct http_request {
        struct http_server *server;
        struct MHD_Connection *connection;
        const struct http_route *route;
        const char *method;
        char *path;
        char *steps; /* a copy of path that the parameters point into */
        struct {
                const char *name; /* in the route's text */
                size_t n_name;
                const char *value;
        } params[HTTP_MAX_PARAMS];
        size_t n_params;

        void *caller; /* of authenticate() */

        char *body; /* collected, where the route has no body functions */
        size_t n_body, body_room;
        void *body_state;
        bool body_ended; /* done() was called */

        struct {
                char *name, *value;
        } headers[HTTP_MAX_HEADERS];
        size_t n_headers;
        struct http_upgrade *upgrade; /* asked for, not yet run */
        bool replied;
        int refused; /* found wrong before the body: -errno and its text */
        struct err refusal;
};

struct http_server {
        struct http_server_options options;
        struct http_route *routes;
        char *token;
        struct MHD_Daemon *daemon;
        int fd; /* listening; the daemon's once it runs */
        unsigned port;

        pthread_mutex_t lock; /* over what follows */
        pthread_cond_t idle;
        struct http_upgrade *upgrades;
        bool stopping;
};

int http_status_of(int r);
/* {"error": ...} as compact text in fresh memory. */
char *http_error_text(int status, const char *message);
int http_reply_error(struct http_request *req, int r, const struct err *err);
void http_upgrade_add(struct http_upgrade *u);
void http_upgrade_remove(struct http_upgrade *u);

/* The life of one request, in this order: head read, pieces of the body, all read, gone. */
struct http_request *http_request_new(struct http_server *s, struct MHD_Connection *connection,
                                      const char *url, const char *method);
enum MHD_Result http_request_begin(struct http_request *req);
enum MHD_Result http_request_data(struct http_request *req, const char *data, size_t *len);
enum MHD_Result http_request_end(struct http_request *req);
void http_request_free(struct http_request *req);
