/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/cli/stream.h"

#include <curl/curl.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/util.h"

#define HEAD_MAX 16384
#define BODY_MAX 65536

struct stream {
        CURL *curl;
        char *url;
        int fd;
        char head[HEAD_MAX + 1]; /* the reply's head; then what came after it and has not been read yet */
        size_t head_len, early, early_len;
};

struct stream *stream_close(struct stream *s)
{
        if (!s)
                return NULL;
        curl_easy_cleanup(s->curl);
        free(s->url);
        free(s);
        return NULL;
}

void stream_closep(struct stream **s)
{
        stream_close(*s);
}

int stream_fd(const struct stream *s)
{
        return s->fd;
}

ssize_t stream_read(struct stream *s, void *buf, size_t len)
{
        size_t n = 0;
        CURLcode rc;

        if (s->early_len > 0) {
                n = MIN_OF(len, s->early_len);
                memcpy(buf, s->head + s->early, n);
                s->early += n;
                s->early_len -= n;
                return (ssize_t)n;
        }
        rc = curl_easy_recv(s->curl, buf, len, &n);
        if (rc == CURLE_AGAIN)
                return -EAGAIN;
        return rc == CURLE_OK ? (ssize_t)n : -EIO;
}

int stream_write(struct stream *s, const void *buf, size_t len, int timeout_ms)
{
        int64_t deadline = clock_ms() + timeout_ms;
        const char *p = buf;

        while (len > 0) {
                struct pollfd pfd = {.fd = s->fd, .events = POLLOUT};
                int64_t left = deadline - clock_ms();
                size_t n = 0;
                CURLcode rc = curl_easy_send(s->curl, p, len, &n);

                p += n;
                len -= n;
                if (rc == CURLE_OK)
                        continue;
                if (rc != CURLE_AGAIN)
                        return -EPIPE;
                if (left <= 0)
                        return -ETIMEDOUT;
                poll(&pfd, 1, (int)left);
        }
        return 0;
}

/* Reads into the head until it ends in an empty line; returns the offset behind that. */
static ssize_t head_read(struct stream *s, int64_t deadline)
{
        for (;;) {
                struct pollfd pfd = {.fd = s->fd, .events = POLLIN};
                int64_t left = deadline - clock_ms();
                const char *end;
                size_t n = 0;
                CURLcode rc;

                s->head[s->head_len] = '\0';
                end = strstr(s->head, "\r\n\r\n");
                if (end)
                        return end + 4 - s->head;
                if (s->head_len == HEAD_MAX)
                        return -EBADMSG;
                if (left <= 0)
                        return -ETIMEDOUT;
                rc = curl_easy_recv(s->curl, s->head + s->head_len, HEAD_MAX - s->head_len, &n);
                if (rc == CURLE_AGAIN)
                        poll(&pfd, 1, (int)left);
                else if (rc != CURLE_OK || n == 0)
                        return -ECONNRESET;
                s->head_len += n;
        }
}

/* A reply that is not 101: its JSON says why. What is there within the deadline is enough. */
static int refused(struct stream *s, long status, int64_t deadline, struct err *err)
{
        _cleanup_(freep) char *body = calloc(1, BODY_MAX + 1);
        _cleanup_(json_decrefpp) json_t *j = NULL;
        const char *message;
        size_t len = 0;
        int code = status == 404 ? -ENOENT : status == 401 ? -EPERM : status == 409 ? -EBUSY : -EIO;

        while (body && len < BODY_MAX && !j && clock_ms() < deadline) {
                struct pollfd pfd = {.fd = s->fd, .events = POLLIN};
                ssize_t n = stream_read(s, body + len, BODY_MAX - len);

                if (n == -EAGAIN && poll(&pfd, 1, (int)MAX_OF(deadline - clock_ms(), 0)) >= 0)
                        continue;
                if (n <= 0)
                        break;
                len += (size_t)n;
                j = json_loadb(body, len, 0, NULL);
        }
        message = json_string_value(json_path(j, "error.message"));
        if (status == 401)
                return err_set(
                    err, code,
                    "%s does not accept this token; give the file that holds the server's token with "
                    "--token-file, or set WHERRY_TOKEN",
                    s->url);
        if (message)
                return err_set(err, code, "%s", message);
        return err_set(err, code, "%s: the server answered with status %ld instead of opening a stream",
                       s->url, status);
}

static int request_send(struct stream *s, const char *path, const char *token, const char *protocol,
                        int timeout_ms)
{
        _cleanup_(freep) char *request = NULL;
        char *host = NULL, *port = NULL, *prefix = NULL;
        CURLU *u = curl_url();
        int r = -ENOMEM;

        if (u && curl_url_set(u, CURLUPART_URL, s->url, 0) == CURLUE_OK &&
            curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
            curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
            curl_url_get(u, CURLUPART_PATH, &prefix, 0) == CURLUE_OK)
                request = str_printf(
                    "GET %s%s HTTP/1.1\r\nHost: %s:%s\r\n%s%s%sConnection: Upgrade\r\nUpgrade: %s\r\n\r\n",
                    streq(prefix, "/") ? "" : prefix, path, host, port,
                    token ? "Authorization: Bearer " : "", token ? token : "", token ? "\r\n" : "",
                    protocol);
        if (request)
                r = stream_write(s, request, strlen(request), timeout_ms);
        curl_free(host);
        curl_free(port);
        curl_free(prefix);
        curl_url_cleanup(u);
        return r;
}

static int connect_to(struct stream *s, int timeout_ms, struct err *err)
{
        char text[CURL_ERROR_SIZE] = "";
        curl_socket_t fd = CURL_SOCKET_BAD;
        CURLcode rc;

        curl_easy_setopt(s->curl, CURLOPT_URL, s->url);
        curl_easy_setopt(s->curl, CURLOPT_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(s->curl, CURLOPT_NOPROXY, "*");
        curl_easy_setopt(s->curl, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(s->curl, CURLOPT_CONNECT_ONLY, 1L);
        curl_easy_setopt(s->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)timeout_ms);
        curl_easy_setopt(s->curl, CURLOPT_ERRORBUFFER, text);
        rc = curl_easy_perform(s->curl);
        if (rc == CURLE_OK)
                rc = curl_easy_getinfo(s->curl, CURLINFO_ACTIVESOCKET, &fd);
        curl_easy_setopt(s->curl, CURLOPT_ERRORBUFFER, NULL);
        if (rc != CURLE_OK)
                return err_set(err, -ECONNREFUSED,
                               "%s: no connection: %s; --url or WHERRY_URL says where the server is", s->url,
                               text[0] ? text : curl_easy_strerror(rc));
        s->fd = fd;
        return 0;
}

int stream_open(const char *base, const char *token, const char *path, const char *protocol, int timeout_ms,
                struct stream **ret, struct err *err)
{
        _cleanup_(stream_closep) struct stream *s = calloc(1, sizeof(*s));
        int64_t deadline = clock_ms() + timeout_ms;
        ssize_t end;
        long status;
        int r;

        if (!s)
                return err_set(err, -ENOMEM, "out of memory");
        s->fd = -1;
        s->url = strdup(base);
        s->curl = curl_easy_init();
        if (!s->url || !s->curl)
                return err_set(err, -ENOMEM, "out of memory");
        while (s->url[0] && s->url[strlen(s->url) - 1] == '/')
                s->url[strlen(s->url) - 1] = '\0';
        r = connect_to(s, timeout_ms, err);
        if (r < 0)
                return r;
        r = request_send(s, path, token, protocol, timeout_ms);
        end = r < 0 ? r : head_read(s, deadline);
        if (end < 0)
                return err_set(err, (int)end, "%s: the console does not open: %s", s->url,
                               strerror((int)-end));
        status =
            strncmp(s->head, "HTTP/1.", 7) == 0 && s->head[8] == ' ' ? strtol(s->head + 9, NULL, 10) : 0;
        s->early = (size_t)end;
        s->early_len = s->head_len - s->early;
        if (status != 101)
                return refused(s, status, deadline, err);
        *ret = take(s);
        return 0;
}
