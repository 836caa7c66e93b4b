/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/http-client.h"
#include "common/json.h"
#include "common/util.h"

/*
 * A server of one thread that says exactly what a test wants, byte by byte: also what no library would send.
 * Each test gives it one script; it serves connections until it is stopped.
 */
struct server {
        int listener;
        unsigned port;
        pthread_t thread;
        char base[64];
        const char *reply;  /* what to send after each request's head */
        size_t reply_len;   /* 0: strlen */
        bool silent;        /* read the request, say nothing */
        bool before_body;   /* reply without reading the body, then close */
        bool keep;          /* more than one request a connection */
        char request[8192]; /* the last head with what came of the body */
        uint64_t body_bytes;
        atomic_int connections, requests;
};

static size_t content_length(const char *head)
{
        const char *at = strcasestr(head, "\r\nContent-Length:");

        return at ? strtoul(at + 17, NULL, 10) : 0;
}

/* Reads one request into s->request; false at the end of the connection. */
static bool request_read(struct server *s, int fd)
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
        struct server *s = arg;

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

static void server_start(struct server *s)
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

static void server_stop(struct server *s)
{
        shutdown(s->listener, SHUT_RDWR);
        pthread_join(s->thread, NULL);
        close(s->listener);
}

static struct http_client *client(const char *base, int timeout_ms)
{
        struct http_client *c = NULL;
        struct err err = {0};

        if (http_client_new(base, "s3cret", timeout_ms, &c, &err) < 0)
                fail_msg("%s", err.text);
        return c;
}

static int call(struct server *s, json_t **ret, long *status, struct err *err)
{
        struct http_client *c = client(s->base, 2000);
        int r = http_call(c, "GET", "/v1/x", NULL, ret, status, err);

        http_client_free(c);
        return r;
}

static void a_call_carries_token_and_json_both_ways(void **state)
{
        struct server s = {.reply = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"n\": [7] }",
                           .keep = true};
        json_t *body = json_pack("{s:s}", "name", "web1"), *reply = NULL;
        struct err err = {0};
        struct http_client *c;
        long status = 0;

        server_start(&s);
        c = client(s.base, 2000);
        for (int i = 0; i < 3; i++) {
                assert_int_equal(http_call(c, "POST", "/v1/instances?x=1", body, &reply, &status, &err), 0);
                assert_int_equal(status, 200);
                assert_int_equal(json_integer_value(json_array_get(json_object_get(reply, "n"), 0)), 7);
                json_decref(reply);
        }
        assert_memory_equal(s.request, "POST /v1/instances?x=1 HTTP/1.1\r\n", 33);
        assert_non_null(strstr(s.request, "\r\nAuthorization: Bearer s3cret\r\n"));
        assert_non_null(strstr(s.request, "\r\nContent-Type: application/json\r\n"));
        assert_non_null(strstr(s.request, "\r\n\r\n{\"name\":\"web1\"}"));
        assert_int_equal(s.connections, 1); /* kept */
        assert_int_equal(http_call(c, "DELETE", "/v1/x", NULL, NULL, NULL, &err), 0);
        assert_memory_equal(s.request, "DELETE /v1/x HTTP/1.1\r\n", 23);
        assert_null(strstr(s.request, "Content-Type"));
        assert_int_equal(http_call(c, "POST", "/v1/x/start", NULL, NULL, NULL, &err), 0);
        assert_non_null(strstr(s.request, "\r\nContent-Length: 0\r\n"));
        http_client_free(c);
        json_decref(body);
        server_stop(&s);
}

static void a_dead_kept_connection_is_replaced(void **state)
{
        struct server s = {.reply =
                               "HTTP/1.1 204 No Content\r\n\r\n"}; /* says nothing of closing, and closes */
        struct err err = {0};
        struct http_client *c;
        json_t *reply = NULL;

        server_start(&s);
        c = client(s.base, 2000);
        for (int i = 0; i < 3; i++) {
                assert_int_equal(http_call(c, "GET", "/", NULL, &reply, NULL, &err), 0);
                assert_true(json_is_null(reply));
                usleep(20000);
        }
        assert_int_equal(s.requests, 3);
        http_client_free(c);
        server_stop(&s);
}

static void every_refusal_has_its_code_and_the_servers_words(void **state)
{
        static const struct {
                int status, code;
        } cases[] = {{400, -EINVAL},    {401, -EPERM},     {403, -EACCES},    {404, -ENOENT},
                     {409, -EEXIST},    {413, -EFBIG},     {500, -EIO},       {501, -EIO},
                     {502, -ETIMEDOUT}, {503, -ETIMEDOUT}, {504, -ETIMEDOUT}, {507, -ENOSPC}};
        static const char body[] = "{\"error\": {\"code\": 1, \"message\": \"image x: 5 bytes, limit 4\"}}";

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_(freep) char *reply = str_printf("HTTP/1.1 %d No\r\nContent-Length: %zu\r\n\r\n%s",
                                                          cases[i].status, strlen(body), body);
                struct server s = {.reply = reply};
                struct err err = {0};
                json_t *ret = NULL;
                long status = 0;

                server_start(&s);
                assert_int_equal(call(&s, &ret, &status, &err), cases[i].code);
                assert_int_equal(err.code, cases[i].code);
                assert_int_equal(status, cases[i].status);
                assert_non_null(strstr(err.text, "image x: 5 bytes, limit 4"));
                assert_null(strstr(err.text, "s3cret"));
                if (cases[i].status == 401)
                        assert_non_null(strstr(err.text, "token file"));
                assert_null(ret);
                server_stop(&s);
        }
}

static void what_is_not_our_server_is_said(void **state)
{
        static const struct {
                const char *reply;
                int code;
                const char *words;
        } cases[] = {
            {"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n<html>hi</html>", -EBADMSG, "not JSON"},
            {"HTTP/1.1 404 Not Found\r\nContent-Length: 15\r\n\r\n<html>hi</html>", -ENOENT, "status 404"},
            {"HTTP/1.1 302 Found\r\nLocation: https://other.example/\r\nContent-Length: 0\r\n\r\n", -EIO,
             "https://other.example/"},
            {"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"cut\":", -EIO, "broke off"},
            {"SSH-2.0-OpenSSH_9.2\r\n", -EIO, "broke off"},
            {"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"a\":1,\"a\":2}", -EBADMSG, "not JSON"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct server s = {.reply = cases[i].reply};
                struct err err = {0};
                json_t *ret = NULL;

                server_start(&s);
                if (call(&s, &ret, NULL, &err) != cases[i].code || !strstr(err.text, cases[i].words))
                        fail_msg("case %zu: %d, %s", i, err.code, err.text);
                assert_non_null(strstr(err.text, "127.0.0.1"));
                assert_null(ret);
                server_stop(&s);
        }
}

static void nobody_there_and_silence_are_told_apart(void **state)
{
        struct server s = {.silent = true};
        struct err err = {0};
        struct http_client *c;
        int64_t start;
        long status = 99;

        server_start(&s);
        c = client(s.base, 300);
        start = clock_ms();
        assert_int_equal(http_call(c, "GET", "/", NULL, NULL, &status, &err), -ETIMEDOUT);
        assert_in_range(clock_ms() - start, 250, 3000);
        assert_int_equal(status, 0);
        server_stop(&s);
        assert_int_equal(http_call(c, "GET", "/", NULL, NULL, NULL, &err), -ECONNREFUSED);
        assert_non_null(strstr(err.text, "check the address"));
        http_client_free(c);
        c = client("http://no-such-host.invalid:1", 2000);
        assert_int_equal(http_call(c, "GET", "/", NULL, NULL, NULL, &err), -ECONNREFUSED);
        assert_non_null(strstr(err.text, "no-such-host.invalid"));
        http_client_free(c);
}

static void wrong_bases_and_tokens_are_refused_at_once(void **state)
{
        static const char *const bad[] = {"localhost:8080", "ftp://x/",   "file:///etc/passwd", "",
                                          "http://",        "unix:/run/x"};
        struct http_client *c = NULL;
        struct err err;

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                err = (struct err){0};
                assert_int_equal(http_client_new(bad[i], NULL, 100, &c, &err), -EINVAL);
                assert_non_null(strstr(err.text, "http://HOST:PORT"));
        }
        assert_int_equal(http_client_new("http://x", "a\r\nX-Evil: 1", 100, &c, &err), -EINVAL);
        assert_null(strstr(err.text, "Evil"));
        assert_int_equal(http_client_new("http://x", "a b", 100, &c, &err), -EINVAL);
        assert_null(c);
}

/* Uploads */

struct feed {
        uint64_t total, asked;
        int fail;
        struct err *err;
        struct http_client *cancel;
};

static ssize_t feed_read(void *state, uint64_t offset, void *buf, size_t len)
{
        struct feed *f = state;
        size_t n = MIN_OF(len, f->total - offset);

        assert_int_equal(offset, f->asked);
        if (f->fail && offset >= f->total / 2)
                return f->err ? err_set(f->err, f->fail, "sector 7 cannot be read") : f->fail;
        if (f->cancel && offset >= f->total / 2)
                http_cancel(f->cancel);
        memset(buf, 'd', n);
        f->asked += n;
        return (ssize_t)n;
}

static int upload(struct server *s, struct feed *f, uint64_t size, json_t **ret, struct err *err)
{
        struct http_client *c = client(s->base, 5000);
        int r;

        if (f->cancel)
                f->cancel = c;
        r = http_upload(c, "PUT", "/v2/images/x/file", "application/octet-stream", size, feed_read, f, ret,
                        err);
        http_client_free(c);
        return r;
}

static void uploads_are_whole_with_and_without_a_size(void **state)
{
        struct server s = {.reply = "HTTP/1.1 204 No Content\r\n\r\n"};
        struct feed f = {.total = 5000000};
        struct err err = {0};
        json_t *ret = NULL;

        server_start(&s);
        assert_int_equal(upload(&s, &f, f.total, &ret, &err), 0);
        assert_true(json_is_null(ret));
        assert_int_equal(s.body_bytes, f.total);
        assert_memory_equal(s.request, "PUT /v2/images/x/file HTTP/1.1\r\n", 32);
        assert_non_null(strstr(s.request, "\r\nContent-Type: application/octet-stream\r\n"));
        assert_non_null(strstr(s.request, "\r\nAuthorization: Bearer s3cret\r\n"));
        f = (struct feed){.total = 3000};
        assert_int_equal(upload(&s, &f, UINT64_MAX, NULL, &err), 0);
        assert_non_null(strcasestr(s.request, "\r\nTransfer-Encoding: chunked\r\n"));
        assert_non_null(strstr(s.request, "\r\nbb8\r\ndddd")); /* 3000 in one chunk */
        f = (struct feed){.total = 0};
        assert_int_equal(upload(&s, &f, 0, NULL, &err), 0);
        assert_non_null(strcasestr(s.request, "\r\nContent-Length: 0\r\n"));
        server_stop(&s);
}

static void an_upload_ends_with_its_readers_error(void **state)
{
        struct server s = {.reply = "HTTP/1.1 204 No Content\r\n\r\n"};
        struct err err = {0};
        struct feed f = {.total = 5000000, .fail = -EILSEQ};

        server_start(&s);
        assert_int_equal(upload(&s, &f, f.total, NULL, &err), -EILSEQ);
        assert_non_null(strstr(err.text, "/v2/images/x/file"));
        f = (struct feed){.total = 5000000, .fail = -EILSEQ, .err = &err};
        assert_int_equal(upload(&s, &f, UINT64_MAX, NULL, &err), -EILSEQ);
        assert_string_equal(err.text, "sector 7 cannot be read");
        f = (struct feed){.total = 1000};
        assert_int_equal(upload(&s, &f, 2000, NULL, &err), -ENODATA); /* fewer than promised */
        server_stop(&s);
}

static void a_refusal_in_the_middle_of_an_upload_is_heard(void **state)
{
        struct server s = {.before_body = true};
        struct feed f = {.total = 300000000};
        struct err err = {0};

        server_start(&s);
        s.reply = "HTTP/1.1 507 Insufficient Storage\r\nConnection: close\r\n\r\n"
                  "{\"error\":{\"code\":507,\"message\":\"store full\"}}";
        assert_int_equal(upload(&s, &f, f.total, NULL, &err), -ENOSPC);
        assert_string_equal(err.text, "store full");
        assert_true(f.asked < f.total / 2); /* and it stops sending */
        server_stop(&s);
}

static void a_cancelled_call_ends_soon(void **state)
{
        struct server s = {.silent = true};
        struct feed f = {.total = 300000000, .cancel = (struct http_client *)1};
        struct err err = {0};
        struct http_client *c;
        int64_t start = clock_ms();

        server_start(&s);
        assert_int_equal(upload(&s, &f, f.total, NULL, &err), -ECANCELED);
        assert_true(f.asked < f.total);
        c = client(s.base, 30000);
        http_cancel(c);
        assert_int_equal(http_call(c, "GET", "/", NULL, NULL, NULL, &err), -ECANCELED);
        assert_true(clock_ms() - start < 10000);
        http_client_free(c);
        server_stop(&s);
}

static void *cancel_later(void *arg)
{
        usleep(100000);
        http_cancel(arg);
        return NULL;
}

static void a_call_that_waits_is_cancelled_from_outside(void **state)
{
        struct server s = {.silent = true};
        struct err err = {0};
        int64_t start = clock_ms();
        struct http_client *c;
        pthread_t thread;

        server_start(&s);
        c = client(s.base, 30000);
        pthread_create(&thread, NULL, cancel_later, c);
        assert_int_equal(http_call(c, "GET", "/", NULL, NULL, NULL, &err), -ECANCELED);
        assert_true(clock_ms() - start < 3000);
        pthread_join(thread, NULL);
        http_client_free(c);
        server_stop(&s);
}

/* Downloads */

struct sink {
        char data[256];
        uint64_t got;
        int fail;
};

static int sink_write(void *state, uint64_t offset, const void *buf, size_t len)
{
        struct sink *k = state;

        assert_int_equal(offset, k->got);
        if (k->fail)
                return k->fail;
        if (offset + len < sizeof(k->data))
                memcpy(k->data + offset, buf, len);
        k->got += len;
        return 0;
}

static void downloads_come_in_order_and_whole(void **state)
{
        struct server s = {
            .reply =
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n4\r\n you\r\n0\r\n\r\n"};
        struct sink k = {0};
        struct err err = {0};
        struct http_client *c;

        server_start(&s);
        c = client(s.base, 2000);
        assert_int_equal(http_download(c, "/file", sink_write, &k, &err), 0);
        assert_string_equal(k.data, "hello you");
        assert_non_null(strstr(s.request, "Authorization"));
        k = (struct sink){.fail = -ENOSPC};
        assert_int_equal(http_download(c, "/file", sink_write, &k, &err), -ENOSPC);
        s.reply = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut";
        k = (struct sink){0};
        assert_int_equal(http_download(c, "/file", sink_write, &k, &err), -EIO);
        s.reply = "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone";
        k = (struct sink){0};
        assert_int_equal(http_download(c, "/file", sink_write, &k, &err), -ENOENT);
        assert_int_equal(k.got, 0); /* an error's page is no data */
        http_client_free(c);
        server_stop(&s);
}

static void other_servers_never_see_the_token_nor_give_files(void **state)
{
        struct server s = {0}, other = {.reply = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"};
        char redirect[200], url[100];
        struct sink k = {0};
        struct err err = {0};
        struct http_client *c;

        server_start(&other);
        snprintf(redirect, sizeof(redirect),
                 "HTTP/1.1 302 Found\r\nLocation: %simage\r\nContent-Length: 3\r\n\r\nsee", other.base);
        s.reply = redirect;
        server_start(&s);
        c = client(s.base, 2000);
        snprintf(url, sizeof(url), "%sstart", s.base);
        assert_int_equal(http_download(c, url, sink_write, &k, &err), 0);
        assert_string_equal(k.data, "ok");
        assert_null(strstr(s.request, "s3cret"));
        assert_null(strstr(other.request, "s3cret"));
        k = (struct sink){0};
        s.reply = "HTTP/1.1 302 Found\r\nLocation: file:///etc/hostname\r\nContent-Length: 0\r\n\r\n";
        assert_true(http_download(c, url, sink_write, &k, &err) < 0);
        assert_int_equal(http_download(c, "file:///etc/hostname", sink_write, &k, &err), -EINVAL);
        assert_int_equal(k.got, 0);
        http_client_free(c);
        assert_int_equal(http_client_new(NULL, NULL, 2000, &c, &err), 0);
        k = (struct sink){0};
        snprintf(url, sizeof(url), "%sx", other.base);
        assert_int_equal(http_download(c, url, sink_write, &k, &err), 0);
        http_client_free(c);
        server_stop(&s);
        server_stop(&other);
}

static void steps_are_escaped(void **state)
{
        char *e = http_escape("a b/c?d=e&f%ü~._-Z9");

        assert_string_equal(e, "a%20b%2Fc%3Fd%3De%26f%25%C3%BC~._-Z9");
        free(e);
        e = http_escape("");
        assert_string_equal(e, "");
        free(e);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(a_call_carries_token_and_json_both_ways),
            cmocka_unit_test(a_dead_kept_connection_is_replaced),
            cmocka_unit_test(every_refusal_has_its_code_and_the_servers_words),
            cmocka_unit_test(what_is_not_our_server_is_said),
            cmocka_unit_test(nobody_there_and_silence_are_told_apart),
            cmocka_unit_test(wrong_bases_and_tokens_are_refused_at_once),
            cmocka_unit_test(uploads_are_whole_with_and_without_a_size),
            cmocka_unit_test(an_upload_ends_with_its_readers_error),
            cmocka_unit_test(a_refusal_in_the_middle_of_an_upload_is_heard),
            cmocka_unit_test(a_cancelled_call_ends_soon),
            cmocka_unit_test(a_call_that_waits_is_cancelled_from_outside),
            cmocka_unit_test(downloads_come_in_order_and_whole),
            cmocka_unit_test(other_servers_never_see_the_token_nor_give_files),
            cmocka_unit_test(steps_are_escaped),
        };

        signal(SIGPIPE, SIG_IGN);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
