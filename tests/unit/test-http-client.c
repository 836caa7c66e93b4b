/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/http-client.h"
#include "common/json.h"
#include "common/util.h"
#include "tests/unit/scripted-server.h"

static int call(struct scripted_server *s, json_t **ret, long *status, struct err *err)
{
        struct http_client *c = scripted_client(s->base, 2000);
        int r = http_call(c, "GET", "/v1/x", NULL, ret, status, err);

        http_client_free(c);
        return r;
}

static void a_call_carries_token_and_json_both_ways(void **state)
{
        struct scripted_server s = {.reply = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"n\": [7] }",
                                    .keep = true};
        json_t *body = json_pack("{s:s}", "name", "web1"), *reply = NULL;
        struct err err = {0};
        struct http_client *c;
        long status = 0;

        scripted_server_start(&s);
        c = scripted_client(s.base, 2000);
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
        scripted_server_stop(&s);
}

static void a_dead_kept_connection_is_replaced(void **state)
{
        struct scripted_server s = {
            .reply = "HTTP/1.1 204 No Content\r\n\r\n"}; /* says nothing of closing, and closes */
        struct err err = {0};
        struct http_client *c;
        json_t *reply = NULL;

        scripted_server_start(&s);
        c = scripted_client(s.base, 2000);
        for (int i = 0; i < 3; i++) {
                assert_int_equal(http_call(c, "GET", "/", NULL, &reply, NULL, &err), 0);
                assert_true(json_is_null(reply));
                usleep(20000);
        }
        assert_int_equal(s.requests, 3);
        http_client_free(c);
        scripted_server_stop(&s);
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
                struct scripted_server s = {.reply = reply};
                struct err err = {0};
                json_t *ret = NULL;
                long status = 0;

                scripted_server_start(&s);
                assert_int_equal(call(&s, &ret, &status, &err), cases[i].code);
                assert_int_equal(err.code, cases[i].code);
                assert_int_equal(status, cases[i].status);
                assert_non_null(strstr(err.text, "image x: 5 bytes, limit 4"));
                assert_null(strstr(err.text, "s3cret"));
                if (cases[i].status == 401)
                        assert_non_null(strstr(err.text, "token file"));
                assert_null(ret);
                scripted_server_stop(&s);
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
            {"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"cut\":", -ECONNRESET,
             "in the middle of the call"},
            {"SSH-2.0-OpenSSH_9.2\r\n", -EIO, "broke off"},
            {"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"a\":1,\"a\":2}", -EBADMSG, "not JSON"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct scripted_server s = {.reply = cases[i].reply};
                struct err err = {0};
                json_t *ret = NULL;

                scripted_server_start(&s);
                if (call(&s, &ret, NULL, &err) != cases[i].code || !strstr(err.text, cases[i].words))
                        fail_msg("case %zu: %d, %s", i, err.code, err.text);
                assert_non_null(strstr(err.text, "127.0.0.1"));
                assert_null(ret);
                scripted_server_stop(&s);
        }
}

static void nobody_there_and_silence_are_told_apart(void **state)
{
        struct scripted_server s = {.silent = true};
        struct err err = {0};
        struct http_client *c;
        int64_t start;
        long status = 99;

        scripted_server_start(&s);
        c = scripted_client(s.base, 300);
        start = clock_ms();
        assert_int_equal(http_call(c, "GET", "/", NULL, NULL, &status, &err), -ETIMEDOUT);
        assert_in_range(clock_ms() - start, 250, 3000);
        assert_int_equal(status, 0);
        scripted_server_stop(&s);
        assert_int_equal(http_call(c, "GET", "/", NULL, NULL, NULL, &err), -ECONNREFUSED);
        assert_non_null(strstr(err.text, "check the address"));
        http_client_free(c);
        c = scripted_client("http://no-such-host.invalid:1", 2000);
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

static void *cancel_later(void *arg)
{
        usleep(100000);
        http_cancel(arg);
        return NULL;
}

static void a_call_that_waits_is_cancelled_from_outside(void **state)
{
        struct scripted_server s = {.silent = true};
        struct err err = {0};
        int64_t start = clock_ms();
        struct http_client *c;
        pthread_t thread;

        scripted_server_start(&s);
        c = scripted_client(s.base, 30000);
        pthread_create(&thread, NULL, cancel_later, c);
        assert_int_equal(http_call(c, "GET", "/", NULL, NULL, NULL, &err), -ECANCELED);
        assert_true(clock_ms() - start < 3000);
        pthread_join(thread, NULL);
        http_client_free(c);
        scripted_server_stop(&s);
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
            cmocka_unit_test(a_call_that_waits_is_cancelled_from_outside),
            cmocka_unit_test(steps_are_escaped),
        };

        signal(SIGPIPE, SIG_IGN);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
