/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
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

static int upload(struct scripted_server *s, struct feed *f, uint64_t size, json_t **ret, struct err *err)
{
        struct http_client *c = scripted_client(s->base, 5000);
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
        struct scripted_server s = {.reply = "HTTP/1.1 204 No Content\r\n\r\n"};
        struct feed f = {.total = 5000000};
        struct err err = {0};
        json_t *ret = NULL;

        scripted_server_start(&s);
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
        scripted_server_stop(&s);
}

static void an_upload_ends_with_its_readers_error(void **state)
{
        struct scripted_server s = {.reply = "HTTP/1.1 204 No Content\r\n\r\n"};
        struct err err = {0};
        struct feed f = {.total = 5000000, .fail = -EILSEQ};

        scripted_server_start(&s);
        assert_int_equal(upload(&s, &f, f.total, NULL, &err), -EILSEQ);
        assert_non_null(strstr(err.text, "/v2/images/x/file"));
        f = (struct feed){.total = 5000000, .fail = -EILSEQ, .err = &err};
        assert_int_equal(upload(&s, &f, UINT64_MAX, NULL, &err), -EILSEQ);
        assert_string_equal(err.text, "sector 7 cannot be read");
        f = (struct feed){.total = 1000};
        assert_int_equal(upload(&s, &f, 2000, NULL, &err), -ENODATA); /* fewer than promised */
        scripted_server_stop(&s);
}

static void a_refusal_in_the_middle_of_an_upload_is_heard(void **state)
{
        struct scripted_server s = {.before_body = true};
        struct feed f = {.total = 300000000};
        struct err err = {0};

        scripted_server_start(&s);
        s.reply = "HTTP/1.1 507 Insufficient Storage\r\nConnection: close\r\n\r\n"
                  "{\"error\":{\"code\":507,\"message\":\"store full\"}}";
        assert_int_equal(upload(&s, &f, f.total, NULL, &err), -ENOSPC);
        assert_string_equal(err.text, "store full");
        assert_true(f.asked < f.total / 2); /* and it stops sending */
        scripted_server_stop(&s);
}

static void a_cancelled_call_ends_soon(void **state)
{
        struct scripted_server s = {.silent = true};
        struct feed f = {.total = 300000000, .cancel = (struct http_client *)1};
        struct err err = {0};
        struct http_client *c;
        int64_t start = clock_ms();

        scripted_server_start(&s);
        assert_int_equal(upload(&s, &f, f.total, NULL, &err), -ECANCELED);
        assert_true(f.asked < f.total);
        c = scripted_client(s.base, 30000);
        http_cancel(c);
        assert_int_equal(http_call(c, "GET", "/", NULL, NULL, NULL, &err), -ECANCELED);
        assert_true(clock_ms() - start < 10000);
        http_client_free(c);
        scripted_server_stop(&s);
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
        struct scripted_server s = {
            .reply =
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n4\r\n you\r\n0\r\n\r\n"};
        struct sink k = {0};
        struct err err = {0};
        struct http_client *c;

        scripted_server_start(&s);
        c = scripted_client(s.base, 2000);
        assert_int_equal(http_download(c, "/file", sink_write, &k, &err), 0);
        assert_string_equal(k.data, "hello you");
        assert_non_null(strstr(s.request, "Authorization"));
        k = (struct sink){.fail = -ENOSPC};
        assert_int_equal(http_download(c, "/file", sink_write, &k, &err), -ENOSPC);
        s.reply = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut";
        k = (struct sink){0};
        assert_int_equal(http_download(c, "/file", sink_write, &k, &err), -ECONNRESET);
        s.reply = "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone";
        k = (struct sink){0};
        assert_int_equal(http_download(c, "/file", sink_write, &k, &err), -ENOENT);
        assert_int_equal(k.got, 0); /* an error's page is no data */
        http_client_free(c);
        scripted_server_stop(&s);
}

static void other_servers_never_see_the_token_nor_give_files(void **state)
{
        struct scripted_server s = {0}, other = {.reply = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"};
        char redirect[200], url[100];
        struct sink k = {0};
        struct err err = {0};
        struct http_client *c;

        scripted_server_start(&other);
        snprintf(redirect, sizeof(redirect),
                 "HTTP/1.1 302 Found\r\nLocation: %simage\r\nContent-Length: 3\r\n\r\nsee", other.base);
        s.reply = redirect;
        scripted_server_start(&s);
        c = scripted_client(s.base, 2000);
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
        scripted_server_stop(&s);
        scripted_server_stop(&other);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(uploads_are_whole_with_and_without_a_size),
            cmocka_unit_test(an_upload_ends_with_its_readers_error),
            cmocka_unit_test(a_refusal_in_the_middle_of_an_upload_is_heard),
            cmocka_unit_test(a_cancelled_call_ends_soon),
            cmocka_unit_test(downloads_come_in_order_and_whole),
            cmocka_unit_test(other_servers_never_see_the_token_nor_give_files),
        };

        signal(SIGPIPE, SIG_IGN);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
