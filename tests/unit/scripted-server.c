/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/scripted-server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/http-client.h"

static size_t content_length(const char *head)
{
        const char *at = strcasestr(head, "\r\nContent-Length:");

        return at ? strtoul(at + 17, NULL, 10) : 0;
}

/* Reads one request into s->request; false at the end of the connection. */
static bool request_read(struct scripted_server *s, int fd)
{
        size_t len = 0;
        char *end = NULL;
        char scratch[65536];
        uint64_t want;
        bool chunked;

        while (!end && len < sizeof(s->request) - 1) {
                ssize_t n = recv(fd, s->request + len, sizeof(s->request) - 1 - len, 0);

                if (n <= 0)
                        return false;
                len += (size_t)n;
                s->request[len] = '\0';
                end = strstr(s->request, "\r\n\r\n");
        }
        s->requests++;
        if (s->before_body || !end)
                return true;
        if (strcasestr(s->request, "Expect: 100-continue"))
                (void)!write(fd, "HTTP/1.1 100 Continue\r\n\r\n", 25);
        chunked = strcasestr(s->request, "Transfer-Encoding: chunked") != NULL;
        want = content_length(s->request);
        s->body_bytes = len - (size_t)(end + 4 - s->request);
        memset(scratch, 0, sizeof(scratch));
        while (chunked ? !strstr(s->request, "0\r\n\r\n") && memcmp(scratch, "0\r\n\r\n", 5) != 0
                       : s->body_bytes < want) {
                ssize_t n;

                if (len < sizeof(s->request) - 1) {
                        n = recv(fd, s->request + len, sizeof(s->request) - 1 - len, 0);
                        len += n > 0 ? (size_t)n : 0;
                        s->request[len] = '\0';
                } else
                        n = recv(fd, scratch, sizeof(scratch), 0);
                if (n <= 0)
                        return false;
                s->body_bytes += (uint64_t)n;
        }
        return true;
}

static void *serve(void *arg)
{
        struct scripted_server *s = arg;

        for (;;) {
                int fd = accept(s->listener, NULL, NULL);

                if (fd < 0)
                        return NULL;
                s->connections++;
                while (request_read(s, fd)) {
                        char byte;

                        if (s->silent)
                                (void)!recv(fd, &byte, 1, 0);
                        else
                                (void)!send(fd, s->reply, s->reply_len ? s->reply_len : strlen(s->reply),
                                            MSG_NOSIGNAL);
                        if (!s->keep)
                                break;
                }
                shutdown(fd, SHUT_WR);
                close(fd);
        }
}

void scripted_server_start(struct scripted_server *s)
{
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof(a);

        s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(s->listener >= 0);
        assert_int_equal(bind(s->listener, (struct sockaddr *)&a, sizeof(a)), 0);
        assert_int_equal(listen(s->listener, 8), 0);
        assert_int_equal(getsockname(s->listener, (struct sockaddr *)&a, &len), 0);
        s->port = ntohs(a.sin_port);
        snprintf(s->base, sizeof(s->base), "http://127.0.0.1:%u/", s->port);
        assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

void scripted_server_stop(struct scripted_server *s)
{
        shutdown(s->listener, SHUT_RDWR);
        pthread_join(s->thread, NULL);
        close(s->listener);
}

struct http_client *scripted_client(const char *base, int timeout_ms)
{
        struct http_client *c = NULL;
        struct err err = {0};

        if (http_client_new(base, "s3cret", timeout_ms, &c, &err) < 0)
                fail_msg("%s", err.text);
        return c;
}
