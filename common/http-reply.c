/* SPDX-License-Identifier: Apache-2.0 */
#include "common/http-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/json.h"
#include "common/log.h"
#include "common/util.h"

#define STREAM_BLOCK (128 * 1024)

int http_status_of(int r)
{
        switch (-r) {
        case ENOENT:
                return 404;
        case EEXIST:
        case ESTALE:
        case EBUSY:
                return 409;
        case EINVAL:
        case EBADMSG:
                return 400;
        case ERANGE:
                return 416;
        case EACCES:
                return 403;
        case EPERM:
                return 401;
        case ENOSPC:
                return 507;
        case EFBIG:
        case EDQUOT:
                return 413;
        case EOPNOTSUPP:
                return 501;
        case EMEDIUMTYPE:
                return 415;
        case EPROTOTYPE: /* from http-request.c: another method */
                return 405;
        case EROFS:
        case ETIMEDOUT:
        case EHOSTUNREACH:
        case ECONNREFUSED:
                return 503;
        default:
                return 500;
        }
}

char *http_error_text(int status, const char *message)
{
        _cleanup_(json_decrefpp) json_t *body = NULL;
        _cleanup_(freep) char *plain = NULL;

        body = json_pack("{s:{s:i,s:s}}", "error", "code", status, "message", message);
        if (!body) { /* the message quotes bytes that are not UTF-8 */
                plain = strdup(message);
                if (!plain)
                        return NULL;
                for (char *p = plain; *p; p++) {
                        if ((unsigned char)*p >= 0x80)
                                *p = '?';
                }
                body = json_pack("{s:{s:i,s:s}}", "error", "code", status, "message", plain);
        }
        return body ? json_text(body) : NULL;
}

static int reply_queue(struct http_request *req, int status, struct MHD_Response *response)
{
        enum MHD_Result ok = MHD_YES;

        if (!response)
                return -ENOMEM;
        for (size_t i = 0; ok == MHD_YES && i < req->n_headers; i++)
                ok = MHD_add_response_header(response, req->headers[i].name, req->headers[i].value);
        if (ok == MHD_YES)
                ok = MHD_queue_response(req->connection, (unsigned)status, response);
        MHD_destroy_response(response);
        if (ok != MHD_YES)
                return -ENOMEM;
        log_debug("http: %s %s: %d", req->method, req->path, status);
        req->replied = true;
        return 0;
}

static int reply_typed(struct http_request *req, int status, const char *type, char *text)
{
        struct MHD_Response *response =
            MHD_create_response_from_buffer(text ? strlen(text) : 0, text, MHD_RESPMEM_MUST_FREE);

        if (!response) {
                free(text);
                return -ENOMEM;
        }
        if (text)
                MHD_add_response_header(response, "Content-Type", type);
        return reply_queue(req, status, response);
}

int http_reply_error(struct http_request *req, int r, const struct err *err)
{
        int status = http_status_of(r);
        char *text = http_error_text(status, err && err->code ? err_text(err) : strerror(-r));

        if (!text)
                return -ENOMEM;
        if (status >= 500)
                log_warn("http: %s %s: %d: %s", req->method, req->path, status, err_text(err));
        if (status == 401)
                http_reply_header(req, "WWW-Authenticate", "Bearer");
        return reply_typed(req, status, "application/json", text);
}

int http_reply_json(struct http_request *req, int status, const json_t *body)
{
        char *text = body ? json_text(body) : NULL;

        if (body && !text)
                return -ENOMEM;
        return reply_typed(req, status, "application/json", text);
}

int http_reply_text(struct http_request *req, int status, const char *type, const char *text)
{
        char *copy = strdup(text);

        if (!copy)
                return -ENOMEM;
        return reply_typed(req, status, type, copy);
}

int http_reply_header(struct http_request *req, const char *name, const char *value)
{
        char *n, *v;

        if (req->n_headers == HTTP_MAX_HEADERS)
                return -ENOMEM;
        n = strdup(name);
        v = strdup(value);
        if (!n || !v) {
                free(n);
                free(v);
                return -ENOMEM;
        }
        req->headers[req->n_headers].name = n;
        req->headers[req->n_headers++].value = v;
        return 0;
}

struct stream {
        uint64_t size;
        ssize_t (*read)(void *state, uint64_t offset, void *buf, size_t len);
        void (*done)(void *state);
        void *state;
};

static ssize_t stream_read(void *cls, uint64_t offset, char *buf, size_t len)
{
        struct stream *st = cls;
        ssize_t n;

        if (offset >= st->size)
                return MHD_CONTENT_READER_END_OF_STREAM;
        n = st->read(st->state, offset, buf, len);
        if (n > 0)
                return n;
        /* An early end of a body with a known size is an error too: the client must not take it for whole.
         */
        if (n < 0 || st->size != UINT64_MAX)
                return MHD_CONTENT_READER_END_WITH_ERROR;
        return MHD_CONTENT_READER_END_OF_STREAM;
}

static void stream_done(void *cls)
{
        struct stream *st = cls;

        if (st->done)
                st->done(st->state);
        free(st);
}

int http_reply_stream(struct http_request *req, int status, const char *type, uint64_t size,
                      ssize_t (*read)(void *state, uint64_t offset, void *buf, size_t len),
                      void (*done)(void *state), void *state)
{
        struct stream *st = calloc(1, sizeof(*st));
        struct MHD_Response *response = NULL;

        if (st) {
                *st = (struct stream){.size = size, .read = read, .done = done, .state = state};
                response = MHD_create_response_from_callback(size == UINT64_MAX ? MHD_SIZE_UNKNOWN : size,
                                                             STREAM_BLOCK, stream_read, st, stream_done);
        }
        if (!response) {
                free(st);
                if (done)
                        done(state);
                return -ENOMEM;
        }
        MHD_add_response_header(response, "Content-Type", type);
        return reply_queue(req, status, response);
}

static void upgrade_run(void *cls, struct MHD_Connection *connection, void *con_cls, const char *extra,
                        size_t n_extra, MHD_socket fd, struct MHD_UpgradeResponseHandle *handle)
{
        struct http_request *req = con_cls;
        struct http_upgrade *u = cls;
        int flags = fcntl(fd, F_GETFL);

        req->upgrade = NULL;
        if (flags >= 0)
                fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
        u->fd = fd;
        http_upgrade_add(u);
        u->run(u->state, fd, extra, n_extra);
        http_upgrade_remove(u);
        free(u);
        MHD_upgrade_action(handle, MHD_UPGRADE_ACTION_CLOSE);
}

int http_reply_upgrade(struct http_request *req, const char *protocol,
                       void (*run)(void *state, int fd, const void *early, size_t n_early), void *state)
{
        const char *asked = http_header(req, "Upgrade");
        struct MHD_Response *response;
        struct http_upgrade *u;
        int r;

        if (!asked || strcasecmp(asked, protocol) != 0)
                return -EINVAL;
        u = calloc(1, sizeof(*u));
        if (!u)
                return -ENOMEM;
        *u = (struct http_upgrade){.server = req->server, .run = run, .state = state, .fd = -1};
        response = MHD_create_response_for_upgrade(upgrade_run, u);
        if (!response) {
                free(u);
                return -ENOMEM;
        }
        MHD_add_response_header(response, "Upgrade", protocol);
        req->upgrade = u;
        r = reply_queue(req, MHD_HTTP_SWITCHING_PROTOCOLS, response);
        if (r < 0) {
                req->upgrade = NULL;
                free(u);
        }
        return r;
}
