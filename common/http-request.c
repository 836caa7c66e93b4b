/* SPDX-License-Identifier: Apache-2.0 */
#include "common/http-internal.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/util.h"

#define BODY_LIMIT (1024 * 1024)
#define JSON_DEPTH_LIMIT 64
/*
 * A request refused before its end is answered at once; then up to LINGER_MS and LINGER_BYTES of what the
 * client still sends are thrown away, since closing over unread bytes would make its TCP drop our answer.
 */
#define LINGER_MS 2000
#define LINGER_BYTES (256ULL * 1024 * 1024)

const char *http_method(struct http_request *req)
{
        return req->method;
}

const char *http_path(struct http_request *req)
{
        return req->path;
}

const char *http_param(struct http_request *req, const char *name)
{
        for (size_t i = 0; i < req->n_params; i++) {
                if (strlen(name) == req->params[i].n_name &&
                    memcmp(name, req->params[i].name, req->params[i].n_name) == 0)
                        return req->params[i].value;
        }
        return NULL;
}

const char *http_query(struct http_request *req, const char *name)
{
        return MHD_lookup_connection_value(req->connection, MHD_GET_ARGUMENT_KIND, name);
}

const char *http_header(struct http_request *req, const char *name)
{
        return MHD_lookup_connection_value(req->connection, MHD_HEADER_KIND, name);
}

struct each_query {
        int (*cb)(void *arg, const char *name, const char *value);
        void *arg;
        int r;
};

static enum MHD_Result each_query(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
        struct each_query *e = cls;

        e->r = e->cb(e->arg, name, value ? value : "");
        return e->r == 0 ? MHD_YES : MHD_NO;
}

int http_query_each(struct http_request *req, int (*cb)(void *arg, const char *name, const char *value),
                    void *arg)
{
        struct each_query e = {.cb = cb, .arg = arg};

        MHD_get_connection_values(req->connection, MHD_GET_ARGUMENT_KIND, each_query, &e);
        return e.r;
}

void *http_caller(struct http_request *req)
{
        return req->caller;
}

const char *http_body_text(struct http_request *req, size_t *ret_len)
{
        if (ret_len)
                *ret_len = req->n_body;
        return req->body ? req->body : "";
}

void *http_body_state(struct http_request *req)
{
        return req->body_state;
}

/* The deepest nesting of a JSON text: what parsing it would cost in stack. */
static unsigned json_depth(const char *p, size_t len)
{
        unsigned depth = 0, deepest = 0;
        bool quoted = false;

        for (size_t i = 0; i < len; i++) {
                if (quoted) {
                        if (p[i] == '\\')
                                i++;
                        else if (p[i] == '"')
                                quoted = false;
                } else if (p[i] == '"') {
                        quoted = true;
                } else if (p[i] == '[' || p[i] == '{') {
                        if (++depth > deepest)
                                deepest = depth;
                } else if ((p[i] == ']' || p[i] == '}') && depth > 0) {
                        depth--;
                }
        }
        return deepest;
}

int http_body_json(struct http_request *req, json_t **ret, struct err *err)
{
        json_error_t e;
        unsigned depth;
        json_t *j;

        if (req->n_body == 0) {
                j = json_object();
                if (!j)
                        return err_set(err, -ENOMEM, "out of memory");
                *ret = j;
                return 0;
        }
        depth = json_depth(req->body, req->n_body);
        if (depth > JSON_DEPTH_LIMIT)
                return err_set(err, -EINVAL, "the body: JSON nested %u deep, the limit is %d", depth,
                               JSON_DEPTH_LIMIT);
        j = json_loadb(req->body, req->n_body, JSON_REJECT_DUPLICATES, &e);
        if (!j)
                return err_set(err, -EBADMSG, "the body: not valid JSON, line %d: %s", e.line, e.text);
        *ret = j;
        return 0;
}

/* Does `path` (cut up in steps) fit the route? Fills the parameters. */
static bool route_match(struct http_request *req, const struct http_route *route)
{
        const char *want = route->path, *have = req->path;
        char *value = req->steps;

        req->n_params = 0;
        strcpy(req->steps, req->path);
        for (;;) {
                size_t w, h;

                if (*want != '/' || *have != '/')
                        return *want == *have;
                want++;
                have++;
                w = strcspn(want, "/");
                h = strcspn(have, "/");
                value = req->steps + (have - req->path);
                if (w > 2 && want[0] == '{' && want[w - 1] == '}') {
                        if (h == 0 || req->n_params == HTTP_MAX_PARAMS)
                                return false;
                        value[h] = '\0';
                        req->params[req->n_params].name = want + 1;
                        req->params[req->n_params].n_name = w - 2;
                        req->params[req->n_params++].value = value;
                } else if (w != h || memcmp(want, have, w) != 0) {
                        return false;
                }
                want += w;
                have += h;
        }
}

static int route_find(struct http_request *req, struct err *err)
{
        const struct http_server *s = req->server;
        const char *method = streq(req->method, "HEAD") ? "GET" : req->method;
        char allowed[64] = "";

        for (size_t i = 0; i < s->options.n_routes; i++) {
                if (!route_match(req, &s->routes[i]))
                        continue;
                if (streq(s->routes[i].method, method)) {
                        req->route = &s->routes[i];
                        return 0;
                }
                snprintf(allowed + strlen(allowed), sizeof(allowed) - strlen(allowed), "%s%s",
                         allowed[0] ? ", " : "", s->routes[i].method);
        }
        req->n_params = 0;
        if (allowed[0])
                return err_set(err, -EPROTOTYPE, "%s does not take %s; it takes %s", req->path, req->method,
                               allowed);
        return err_set(err, -ENOENT, "no such path: %s", req->path);
}

/* Takes the same time wherever the two differ; only the length of what the client sent shows. */
static bool token_equal(const char *mine, const char *theirs)
{
        size_t n = strlen(mine), len = strlen(theirs);
        volatile unsigned char differ = n != len;

        for (size_t i = 0; i < len; i++)
                differ |= (unsigned char)(theirs[i] ^ mine[n ? i % n : 0]);
        return differ == 0;
}

static int token_check(struct http_request *req, struct err *err)
{
        const char *bearer = http_header(req, "Authorization"), *plain = http_header(req, "X-Auth-Token");

        const struct http_server_options *o = &req->server->options;

        if (!req->server->token)
                return 0;
        if (bearer && strncasecmp(bearer, "Bearer ", 7) == 0)
                plain = bearer + 7;
        if (!plain)
                return err_set(
                    err, -EPERM,
                    "no token: send it as \"Authorization: Bearer TOKEN\" or \"X-Auth-Token: TOKEN\"");
        if (token_equal(req->server->token, plain))
                return 0;
        if (!o->authenticate)
                return err_set(err, -EPERM, "wrong token");
        return o->authenticate(o->userdata, req, plain, &req->caller, err);
}

static int body_announced(struct http_request *req, uint64_t *ret)
{
        const char *length = http_header(req, "Content-Length");

        *ret = length ? strtoull(length, NULL, 10) : 0;
        return *ret > 0 || http_header(req, "Transfer-Encoding");
}

static void body_end(struct http_request *req)
{
        if (req->body_ended || !req->route || !req->route->body)
                return;
        req->body_ended = true;
        if (req->route->body->done)
                req->route->body->done(req->body_state);
        req->body_state = NULL;
}

/* Answers on the bare socket in the middle of a request, which libmicrohttpd cannot; the connection ends
 * with it. */
static enum MHD_Result refuse_now(struct http_request *req, int r, const struct err *err)
{
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(req->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        int status = http_status_of(r);
        _cleanup_(freep) char *body = http_error_text(status, err->code ? err_text(err) : strerror(-r));
        _cleanup_(freep) char *text = NULL;
        int64_t end = clock_ms() + LINGER_MS;
        uint64_t dropped = 0;
        char sink[16384];

        body_end(req); /* first, so that the client sees the error only when everything is undone */
        if (!info || !body)
                return MHD_NO;
        text = str_printf("HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nConnection: close\r\n"
                          "Content-Length: %zu\r\n\r\n%s",
                          status, MHD_get_reason_phrase_for((unsigned)status), strlen(body), body);
        if (!text)
                return MHD_NO;
        if (status >= 500)
                log_warn("http: %s %s: %d: %s", req->method, req->path, status, err_text(err));
        if (send(info->connect_fd, text, strlen(text), MSG_NOSIGNAL) < 0)
                return MHD_NO;
        shutdown(info->connect_fd, SHUT_WR);
        while (dropped < LINGER_BYTES) {
                struct pollfd p = {.fd = info->connect_fd, .events = POLLIN};
                int64_t left = end - clock_ms();
                ssize_t n;

                if (left <= 0 || poll(&p, 1, (int)left) <= 0)
                        break;
                n = recv(info->connect_fd, sink, sizeof(sink), MSG_DONTWAIT);
                if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
                        break;
                if (n > 0)
                        dropped += (uint64_t)n;
        }
        return MHD_NO;
}

static int body_collect(struct http_request *req, const char *data, size_t len, struct err *err)
{
        if (len > BODY_LIMIT - req->n_body)
                return err_set(err, -EFBIG, "the body is larger than the limit of %d bytes", BODY_LIMIT);
        if (req->n_body + len + 1 > req->body_room) {
                size_t room = MAX_OF(req->body_room * 2, req->n_body + len + 1);
                char *bigger = realloc(req->body, room);

                if (!bigger)
                        return err_set(err, -ENOMEM, "out of memory");
                req->body = bigger;
                req->body_room = room;
        }
        memcpy(req->body + req->n_body, data, len);
        req->n_body += len;
        req->body[req->n_body] = '\0';
        return 0;
}

void http_request_free(struct http_request *req)
{
        if (req->upgrade) { /* the client went before it could be told: run() frees what it was given */
                req->upgrade->run(req->upgrade->state, -1, NULL, 0);
                free(req->upgrade);
        }
        body_end(req);
        for (size_t i = 0; i < req->n_headers; i++) {
                free(req->headers[i].name);
                free(req->headers[i].value);
        }
        free(req->caller);
        free(req->body);
        free(req->path);
        free(req->steps);
        free(req);
}

struct http_request *http_request_new(struct http_server *s, struct MHD_Connection *connection,
                                      const char *url, const char *method)
{
        struct http_request *req = calloc(1, sizeof(*req));

        if (!req)
                return NULL;
        req->server = s;
        req->connection = connection;
        req->method = method;
        req->path = strdup(url);
        req->steps = strdup(url);
        if (!req->path || !req->steps) {
                http_request_free(req);
                return NULL;
        }
        return req;
}

/* The head is here: everything that can be refused by it is. */
enum MHD_Result http_request_begin(struct http_request *req)
{
        struct err *err = &req->refusal;
        uint64_t length;
        int r, with_body = body_announced(req, &length);

        r = route_find(req, err);
        if (r != 0 || !req->route->open) { /* without the token not even which paths there are */
                struct err denied = {0};

                int may = token_check(req, &denied);

                if (may < 0) {
                        req->refusal = denied;
                        r = may;
                }
        }
        if (r == 0 && !req->route->body && length > BODY_LIMIT)
                r = err_set(err, -EFBIG, "the body has %llu bytes, the limit is %d",
                            (unsigned long long)length, BODY_LIMIT);
        if (r < 0 && with_body)
                return refuse_now(req, r, err);
        req->refused = r;
        return MHD_YES;
}

enum MHD_Result http_request_data(struct http_request *req, const char *data, size_t *len)
{
        struct err err = {0};
        int r;

        if (req->route && req->route->body)
                r = req->route->body->data(req, &req->body_state, data, *len, req->server->options.userdata,
                                           &err);
        else
                r = body_collect(req, data, *len, &err);
        *len = 0;
        return r < 0 ? refuse_now(req, r, &err) : MHD_YES;
}

enum MHD_Result http_request_end(struct http_request *req)
{
        struct err err = {0};
        int r;

        /* The limit is for silent clients; with it on, a handler slower than that would cost its own reply.
         */
        MHD_set_connection_option(req->connection, MHD_CONNECTION_OPTION_TIMEOUT, 0U);
        if (req->refused) {
                err = req->refusal;
                r = req->refused;
        } else {
                r = req->route->handler(req, req->server->options.userdata, &err);
        }
        if (r >= 0 && !req->replied)
                r = err_set(&err, -EPROTO, "%s %s: the handler gave no answer", req->method, req->path);
        if (!req->replied && http_reply_error(req, r, &err) < 0)
                return MHD_NO;
        MHD_set_connection_option(req->connection, MHD_CONNECTION_OPTION_TIMEOUT, (unsigned)HTTP_IDLE_S);
        return MHD_YES;
}
