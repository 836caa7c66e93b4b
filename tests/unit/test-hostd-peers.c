/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dirent.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/http-client.h"
#include "common/json.h"
#include "hostd/dhcp.h"
#include "hostd/peers.h"
#include "tests/unit/hostd-fixture.h"

/* hostd asks other hosts (peers.c), and leaves addresses for dnsmasq (dhcp.c). */
#define ID fixture_id('a')

static struct {
        char url[64], token[16], call[64], body[128];
        int answer, timeout_ms;
} world;
static char folder[64], woken[64];

int __wrap_http_client_new(const char *url, const char *token, int timeout_ms, struct http_client **ret,
                           struct err *err);
int __wrap_http_client_new(const char *url, const char *token, int timeout_ms, struct http_client **ret,
                           struct err *err)
{
        snprintf(world.url, sizeof(world.url), "%s", url);
        snprintf(world.token, sizeof(world.token), "%s", token);
        world.timeout_ms = timeout_ms;
        return 0;
}

struct http_client *__wrap_http_client_free(struct http_client *c);
struct http_client *__wrap_http_client_free(struct http_client *c)
{
        return NULL;
}

int __wrap_http_call(struct http_client *c, const char *method, const char *path, const json_t *body,
                     json_t **ret_body, long *ret_status, struct err *err);
int __wrap_http_call(struct http_client *c, const char *method, const char *path, const json_t *body,
                     json_t **ret_body, long *ret_status, struct err *err)
{
        char *text = json_dumps(body, JSON_COMPACT | JSON_SORT_KEYS);

        snprintf(world.call, sizeof(world.call), "%s %s", method, path);
        snprintf(world.body, sizeof(world.body), "%s", text);
        free(text);
        return world.answer < 0 ? err_set(err, world.answer, "no answer") : 0;
}

int __real_peer_look(struct context *ctx, unsigned number, const char *instance, bool to_start,
                     struct err *err);

static int begin(void **state)
{
        static char token[] = "token", path[80];

        fixture_begin(state);
        memset(&world, 0, sizeof(world));
        woken[0] = '\0';
        fixture.config.token = token;
        strcpy(folder, "/tmp/wherry-dhcp.XXXXXX");
        assert_non_null(mkdtemp(folder));
        snprintf(path, sizeof(path), "%s/hosts", folder);
        fixture.config.dhcp_hosts_dir = path;
        fixture_host(3, "up", 1, ",\"api\":\"http://h3\"");
        return 0;
}

static int end(void **state)
{
        char name[160];

        for (const char *p = "abc"; *p; p++) {
                snprintf(name, sizeof(name), "%s/hosts/%s", folder, fixture_id(*p));
                unlink(name);
        }
        snprintf(name, sizeof(name), "%s/hosts/left", folder);
        unlink(name);
        snprintf(name, sizeof(name), "%s/hosts", folder);
        rmdir(name);
        rmdir(folder);
        return fixture_end(state);
}

static void another_host_is_asked_to_look_or_to_start(void **state)
{
        struct err err = {0};

        assert_int_equal(__real_peer_look(&fixture.ctx, 3, ID, true, &err), 0);
        assert_string_equal(world.url, "http://h3");
        assert_string_equal(world.token, "token");
        assert_string_equal(world.call, "POST /v1/look");
        assert_non_null(strstr(world.body, ID));
        assert_non_null(strstr(world.body, "\"start\":true"));
        assert_in_range(world.timeout_ms, 1, 1000); /* whoever asks has others to ask */
        assert_int_equal(__real_peer_look(&fixture.ctx, 3, ID, false, &err), 0);
        assert_non_null(strstr(world.body, "\"start\":false"));
        world.answer = -EAGAIN;
        assert_int_equal(__real_peer_look(&fixture.ctx, 3, ID, true, &err), -EAGAIN);
        world.call[0] = '\0';
        assert_int_equal(__real_peer_look(&fixture.ctx, 4, ID, true, &err), -ENOENT);
        assert_string_equal(world.call, "");
}

static const char *entry(char digit)
{
        static char text[200];
        char path[160];
        size_t n = 0;
        FILE *f;

        snprintf(path, sizeof(path), "%s/hosts/%s", folder, fixture_id(digit));
        f = fopen(path, "re");
        if (f) {
                n = fread(text, 1, sizeof(text) - 1, f);
                fclose(f);
        }
        text[n] = '\0';
        return f ? text : "absent";
}

static void dnsmasq_is_told_who_has_which_address(void **state)
{
        dhcp_add(&fixture.ctx, ID, "vm", "52:54:00:00:00:01", "10.0.0.9");
        assert_string_equal(entry('a'), "52:54:00:00:00:01,10.0.0.9,vm\n");
        dhcp_add(&fixture.ctx, ID, "vm", "52:54:00:00:00:01", "10.0.0.8");
        assert_string_equal(entry('a'), "52:54:00:00:00:01,10.0.0.8,vm\n");
        dhcp_add(&fixture.ctx, fixture_id('b'), "vm", "52:54:00:00:00:02", NULL); /* it has no network */
        assert_string_equal(entry('b'), "absent");
        dhcp_add(&fixture.ctx, fixture_id('b'), "vm", NULL, "10.0.0.9");
        assert_string_equal(entry('b'), "absent");
        dhcp_remove(&fixture.ctx, ID);
        assert_string_equal(entry('a'), "absent");
        dhcp_remove(&fixture.ctx, ID);
}

static void wake(struct context *ctx, const char *instance)
{
        snprintf(woken + strlen(woken), 4, "%c ", instance[0]);
}

static void what_a_hostd_has_left_is_looked_at(void **state)
{
        char path[160];
        FILE *f;

        dhcp_scan(&fixture.ctx, wake); /* no folder yet */
        assert_string_equal(woken, "");
        dhcp_add(&fixture.ctx, ID, "vm", "52:54:00:00:00:01", "10.0.0.9");
        snprintf(path, sizeof(path), "%s/hosts/left", folder); /* somebody else's */
        f = fopen(path, "we");
        assert_non_null(f);
        fclose(f);
        dhcp_scan(&fixture.ctx, wake);
        assert_string_equal(woken, "a ");
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)
        const struct CMUnitTest tests[] = {
            test(another_host_is_asked_to_look_or_to_start),
            test(dnsmasq_is_told_who_has_which_address),
            test(what_a_hostd_has_left_is_looked_at),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
