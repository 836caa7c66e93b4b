/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/http-server.h"
#include "common/json.h"
#include "common/util.h"

struct fixture {
        struct http_server *server;
        atomic_int done_calls, handler_calls;
        atomic_bool release;
};

static int on_echo(struct http_request *req, void *userdata, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *body = NULL, *reply = NULL;
        int r = http_body_json(req, &body, err);

        if (r < 0)
                return r;
        reply = json_pack("{s:s?,s:s?,s:O}", "id", http_param(req, "id"), "q", http_query(req, "q"), "body",
                          body);
        return http_reply_json(req, 200, reply);
}

static int on_fail(struct http_request *req, void *userdata, struct err *err)
{
        return err_set(err, -atoi(http_param(req, "errno")), "it was \xff %s", http_param(req, "errno"));
}

static int on_silent(struct http_request *req, void *userdata, struct err *err)
{
        return 0;
}

static int upload_data(struct http_request *req, void **state, const void *data, size_t len, void *userdata,
                       struct err *err)
{
        struct fixture *f = userdata;
        uint64_t *sum = *state;

        if (!sum) {
                sum = *state = calloc(2, sizeof(*sum));
                assert_non_null(sum);
                sum[1] = (uint64_t)(uintptr_t)f;
        }
        for (size_t i = 0; i < len; i++)
                sum[0] += ((const uint8_t *)data)[i];
        if (memchr(data, '!', len))
                return err_set(err, -EINVAL, "byte '!' refused");
        return 0;
}

static void upload_done(void *state)
{
        uint64_t *sum = state;

        if (sum)
                ((struct fixture *)(uintptr_t)sum[1])->done_calls++;
        free(sum);
}

static int on_upload(struct http_request *req, void *userdata, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *reply = NULL;
        uint64_t *sum = http_body_state(req);

        ((struct fixture *)userdata)->handler_calls++;
        reply = json_pack("{s:I}", "sum", (json_int_t)(sum ? sum[0] : 0));
        return http_reply_json(req, 201, reply);
}

static ssize_t stream_read(void *state, uint64_t offset, void *buf, size_t len)
{
        uint64_t end = *(uint64_t *)state;

        if (offset >= end)
                return end == 77 ? -EIO : 0;
        if (len > end - offset)
                len = (size_t)(end - offset);
        memset(buf, 'x', len);
        return (ssize_t)len;
}

static int on_stream(struct http_request *req, void *userdata, struct err *err)
{
        uint64_t *n = malloc(sizeof(*n));
        const char *size = http_query(req, "size");

        assert_non_null(n);
        *n = strtoull(http_query(req, "bytes"), NULL, 10);
        return http_reply_stream(req, 200, "application/octet-stream",
                                 size ? strtoull(size, NULL, 10) : UINT64_MAX, stream_read, free, n);
}

static void upgrade_echo(void *state, int fd, const void *early, size_t n_early)
{
        char buf[64];
        ssize_t n;

        if (n_early)
                assert_int_equal(write_full(fd, early, n_early), 0);
        while ((n = read(fd, buf, sizeof(buf))) > 0)
                assert_int_equal(write_full(fd, buf, (size_t)n), 0);
        ((struct fixture *)state)->done_calls++;
}

static int on_upgrade(struct http_request *req, void *userdata, struct err *err)
{
        if (http_reply_upgrade(req, "echo", upgrade_echo, userdata) < 0)
                return err_set(err, -EINVAL, "ask for Upgrade: echo");
        return 0;
}

static const struct http_body upload_body = {.data = upload_data, .done = upload_done};
static const struct http_route routes[] = {
    {"GET", "/healthz", on_echo, NULL, true},         {"POST", "/v1/things/{id}/stop", on_echo, NULL, false},
    {"GET", "/v1/things/{id}", on_echo, NULL, false}, {"GET", "/fail/{errno}", on_fail, NULL, false},
    {"GET", "/silent", on_silent, NULL, false},       {"PUT", "/upload", on_upload, &upload_body, false},
    {"GET", "/stream", on_stream, NULL, false},       {"GET", "/upgrade", on_upgrade, NULL, false},
};

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));
        struct http_server_options o = {.listen = "127.0.0.1:0",
                                        .token = "secret",
                                        .routes = routes,
                                        .n_routes = ARRAY_SIZE(routes),
                                        .userdata = f,
                                        .max_connections = 32};
        struct err err = {0};

        assert_non_null(f);
        if (http_server_new(&o, &f->server, &err) < 0 || http_server_start(f->server, &err) < 0)
                fail_msg("%s", err_text(&err));
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        http_server_free(f->server);
        free(f);
        return 0;
}

static int dial(struct fixture *f)
{
        struct sockaddr_in a = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)http_server_port(f->server))};
        struct timeval limit = {.tv_sec = 20};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        assert_true(fd >= 0);
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
        assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
        return fd;
}

#define AUTH "Host: h\r\nConnection: close\r\nAuthorization: Bearer secret\r\n"

/* Sends raw bytes, reads up to the end of the connection. */
static const char *exchange(struct fixture *f, const char *request)
{
        static char buf[65536];
        _cleanup_(closep) int fd = dial(f);
        ssize_t n;

        assert_int_equal(write_full(fd, request, strlen(request)), 0);
        n = read_full(fd, buf, sizeof(buf) - 1);
        assert_true(n >= 0);
        buf[n] = '\0';
        return buf;
}

static void expect(struct fixture *f, const char *request, const char *status, const char *contains)
{
        const char *reply = exchange(f, request);

        if (strncmp(reply, "HTTP/1.1 ", 9) != 0 || strncmp(reply + 9, status, 3) != 0 ||
            !strstr(reply, contains))
                fail_msg("sent: %s\nwanted %s and \"%s\", got: %s", request, status, contains, reply);
}

static void test_routes(void **state)
{
        struct fixture *f = *state;

        expect(f, "GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "200", "\"body\":{}");
        expect(f, "GET /v1/things/a%20b?q=1%2B1 HTTP/1.1\r\n" AUTH "\r\n", "200",
               "\"id\":\"a b\",\"q\":\"1+1\"");
        expect(f, "POST /v1/things/web1/stop HTTP/1.1\r\n" AUTH "Content-Length: 7\r\n\r\n{\"a\":1}", "200",
               "\"body\":{\"a\":1},\"id\":\"web1\"");
        expect(f, "GET /v1/things/ HTTP/1.1\r\n" AUTH "\r\n", "404", "no such path: /v1/things/");
        expect(f, "GET /v1/things/a/b HTTP/1.1\r\n" AUTH "\r\n", "404", "no such path");
        expect(f, "DELETE /v1/things/a HTTP/1.1\r\n" AUTH "\r\n", "405", "it takes GET");
        expect(f, "HEAD /v1/things/a HTTP/1.1\r\n" AUTH "\r\n", "200", "Content-Length");
        expect(f, "GET /silent HTTP/1.1\r\n" AUTH "\r\n", "500", "no answer");
}

static void test_token(void **state)
{
        struct fixture *f = *state;

        expect(f, "GET /v1/things/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "401", "no token");
        expect(f, "GET /nowhere HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "401", "no token");
        expect(f,
               "GET /v1/things/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX-Auth-Token: secret\r\n\r\n",
               "200", "\"id\"");
        static const char *const wrong[] = {"", "s", "secre", "secrets", "secretsecret", "Secret"};
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                _cleanup_(freep) char *request =
                    str_printf("GET /v1/things/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: "
                               "bearer %s\r\n\r\n",
                               wrong[i]);

                expect(f, request, "401", "WWW-Authenticate: Bearer");
        }
}

static void test_errors(void **state)
{
        static const struct {
                int code;
                const char *status;
        } t[] = {{ENOENT, "404"},    {EEXIST, "409"},       {ESTALE, "409"}, {EINVAL, "400"},
                 {EBADMSG, "400"},   {ERANGE, "416"},       {EACCES, "403"}, {EPERM, "401"},
                 {ENOSPC, "507"},    {EFBIG, "413"},        {EBUSY, "409"},  {EOPNOTSUPP, "501"},
                 {ETIMEDOUT, "503"}, {EHOSTUNREACH, "503"}, {EIO, "500"}};
        struct fixture *f = *state;

        for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
                _cleanup_(freep) char *request =
                    str_printf("GET /fail/%d HTTP/1.1\r\n" AUTH "\r\n", t[i].code);
                _cleanup_(freep) char *body = str_printf(
                    "{\"error\":{\"code\":%s,\"message\":\"it was ? %d\"}}", t[i].status, t[i].code);

                expect(f, request, t[i].status, body);
        }
}

static void test_json_body(void **state)
{
        struct fixture *f = *state;
        char deep[65], request[512];
        _cleanup_(freep) char *big = malloc(2 * 1024 * 1024);

        expect(f, "POST /v1/things/a/stop HTTP/1.1\r\n" AUTH "Content-Length: 4\r\n\r\n{\"a\"", "400",
               "line 1");
        expect(f, "POST /v1/things/a/stop HTTP/1.1\r\n" AUTH "Content-Length: 13\r\n\r\n{\"a\":1,\"a\":2}",
               "400", "uplicate");
        memset(deep, '[', sizeof(deep));
        snprintf(request, sizeof(request),
                 "POST /v1/things/a/stop HTTP/1.1\r\n" AUTH "Content-Length: 65\r\n\r\n%.65s", deep);
        expect(f, request, "400", "65 deep, the limit is 64");
        expect(f, "POST /v1/things/a/stop HTTP/1.1\r\n" AUTH "Content-Length: 1048577\r\n\r\n", "413",
               "1048577");
        /* the same limit where no length was announced */
        assert_non_null(big);
        int n = sprintf(
            big, "POST /v1/things/a/stop HTTP/1.1\r\n" AUTH "Transfer-Encoding: chunked\r\n\r\n%x\r\n",
            1024 * 1024 + 1);
        memset(big + n, ' ', 1024 * 1024 + 1);
        strcpy(big + n + 1024 * 1024 + 1, "\r\n0\r\n\r\n");
        expect(f, big, "413", "1048576");
}

static void test_upload(void **state)
{
        struct fixture *f = *state;

        expect(f, "PUT /upload HTTP/1.1\r\n" AUTH "Content-Length: 3\r\n\r\nabc", "201", "{\"sum\":294}");
        expect(f, "PUT /upload HTTP/1.1\r\n" AUTH "Content-Length: 0\r\n\r\n", "201", "{\"sum\":0}");
        assert_int_equal(f->handler_calls, 2);
        assert_int_equal(f->done_calls, 1);
}

/* The refusal comes while the client is still sending, and it gets to read it. */
static void test_upload_refused(void **state)
{
        struct fixture *f = *state;
        _cleanup_(closep) int fd = dial(f);
        const char *head = "PUT /upload HTTP/1.1\r\n" AUTH "Content-Length: 100000000\r\n\r\n";
        char piece[65536], reply[1024];
        ssize_t n;

        memset(piece, '!', sizeof(piece));
        assert_int_equal(write_full(fd, head, strlen(head)), 0);
        for (int i = 0; i < 100; i++) {
                if (send(fd, piece, sizeof(piece), MSG_NOSIGNAL) < 0)
                        fail_msg("the server closed over unread bytes: %s", strerror(errno));
        }
        n = read_full(fd, reply, sizeof(reply) - 1);
        assert_true(n > 0);
        reply[n] = '\0';
        assert_non_null(strstr(reply, "HTTP/1.1 400 "));
        assert_non_null(strstr(reply, "byte '!' refused"));
        assert_int_equal(f->done_calls, 1);
        assert_int_equal(f->handler_calls, 0);
}

/* A client that goes in the middle: done() is called, the handler never. */
static void test_upload_cut(void **state)
{
        struct fixture *f = *state;
        int fd = dial(f);
        const char *head = "PUT /upload HTTP/1.1\r\n" AUTH "Content-Length: 1000\r\n\r\nabc";

        assert_int_equal(write_full(fd, head, strlen(head)), 0);
        shutdown(fd, SHUT_WR);
        (void)!read_full(fd, (char[64]){0}, 64); /* until the server has let go */
        close(fd);
        f->server = http_server_free(f->server);
        assert_int_equal(f->done_calls, 1);
        assert_int_equal(f->handler_calls, 0);
}

static void test_stream(void **state)
{
        struct fixture *f = *state;
        const char *reply;

        reply = exchange(f, "GET /stream?bytes=1000&size=1000 HTTP/1.1\r\n" AUTH "\r\n");
        assert_non_null(strstr(reply, "Content-Length: 1000\r\n"));
        assert_int_equal(strlen(strstr(reply, "\r\n\r\n") + 4), 1000);
        reply = exchange(f, "GET /stream?bytes=10 HTTP/1.1\r\n" AUTH "\r\n");
        assert_non_null(strstr(reply, "Transfer-Encoding: chunked\r\n"));
        assert_non_null(strstr(reply, "\r\nxxxxxxxxxx\r\n0\r\n"));
        /* an error, or an end that is too early, cuts the connection before the body is whole */
        reply = exchange(f, "GET /stream?bytes=77 HTTP/1.1\r\n" AUTH "\r\n");
        assert_null(strstr(reply, "\r\n0\r\n"));
        reply = exchange(f, "GET /stream?bytes=50&size=100 HTTP/1.1\r\n" AUTH "\r\n");
        assert_true(strlen(strstr(reply, "\r\n\r\n") + 4) < 100);
}

static void test_upgrade(void **state)
{
        struct fixture *f = *state;
        _cleanup_(closep) int fd = dial(f);
        const char *request = "GET /upgrade HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer secret\r\n"
                              "Connection: Upgrade\r\nUpgrade: echo\r\n\r\nearly";
        char buf[512] = "";
        size_t n = 0;

        expect(f, "GET /upgrade HTTP/1.1\r\n" AUTH "\r\n", "400", "ask for Upgrade");
        assert_int_equal(write_full(fd, request, strlen(request)), 0);
        while (!strstr(buf, "\r\n\r\nearly")) {
                ssize_t got = read(fd, buf + n, sizeof(buf) - 1 - n);

                assert_true(got > 0);
                n += (size_t)got;
        }
        assert_non_null(strstr(buf, "HTTP/1.1 101 "));
        assert_int_equal(write_full(fd, "hello", 5), 0);
        assert_int_equal(read_full(fd, buf, 5), 5);
        assert_memory_equal(buf, "hello", 5);
        /* the end of the server ends the stream, and waits for run() */
        f->server = http_server_free(f->server);
        assert_int_equal(f->done_calls, 1);
        assert_int_equal(read(fd, buf, 1), 0);
}

static void test_listen_errors(void **state)
{
        static const char *const bad[] = {"8080",           ":8080",           "127.0.0.1:",
                                          "127.0.0.1:http", "127.0.0.1:65536", "no.such.address.invalid:80"};
        struct fixture *f = *state;
        struct http_server *s = NULL;
        struct http_server_options o = {.routes = routes, .n_routes = 1};
        _cleanup_(freep) char *taken = str_printf("127.0.0.1:%u", http_server_port(f->server));
        struct err err = {0};

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                o.listen = bad[i];
                assert_int_equal(http_server_new(&o, &s, &err), -EINVAL);
                assert_non_null(strstr(err.text, bad[i]));
        }
        o.listen = taken;
        assert_int_equal(http_server_new(&o, &s, &err), -EADDRINUSE);
        assert_non_null(strstr(err.text, taken));
        assert_null(s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test_setup_teardown(test_routes, setup, teardown),
            cmocka_unit_test_setup_teardown(test_token, setup, teardown),
            cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
            cmocka_unit_test_setup_teardown(test_json_body, setup, teardown),
            cmocka_unit_test_setup_teardown(test_upload, setup, teardown),
            cmocka_unit_test_setup_teardown(test_upload_refused, setup, teardown),
            cmocka_unit_test_setup_teardown(test_upload_cut, setup, teardown),
            cmocka_unit_test_setup_teardown(test_stream, setup, teardown),
            cmocka_unit_test_setup_teardown(test_upgrade, setup, teardown),
            cmocka_unit_test_setup_teardown(test_listen_errors, setup, teardown),
        };

        signal(SIGPIPE, SIG_IGN);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
