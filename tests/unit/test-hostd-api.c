/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/http-server.h"
#include "common/json.h"
#include "hostd/api.h"
#include "hostd/dhcp.h"
#include "migrate/isolation.h"
#include "tests/unit/hostd-fixture.h"

/* The answers of this host to imaged and to other hosts. */
#define ID fixture_id('a')
#define START "aaaaaaaa-0000-4000-8000-000000000001"

static const struct http_route *routes;
static size_t n_routes;

static struct {
        json_t *body, *reply;
        int status;
        bool leftover, bridge_there;
        int processes, tls;
        struct virt_progress progress;
        unsigned dhcps;
} world;

int __wrap_http_server_new(const struct http_server_options *options, struct http_server **ret,
                           struct err *err);
int __wrap_http_server_new(const struct http_server_options *options, struct http_server **ret,
                           struct err *err)
{
        routes = options->routes;
        n_routes = options->n_routes;
        assert_string_equal(options->token, "token");
        return 0;
}

int __wrap_http_body_json(struct http_request *req, json_t **ret, struct err *err);
int __wrap_http_body_json(struct http_request *req, json_t **ret, struct err *err)
{
        *ret = json_incref(world.body);
        return 0;
}

int __wrap_http_reply_json(struct http_request *req, int status, const json_t *body);
int __wrap_http_reply_json(struct http_request *req, int status, const json_t *body)
{
        world.status = status;
        world.reply = body ? json_deep_copy(body) : NULL;
        return 0;
}

const char *__wrap_http_param(struct http_request *req, const char *name);
const char *__wrap_http_param(struct http_request *req, const char *name)
{
        return ID;
}

int __wrap_virt_processes(struct virt *v, struct virt_domain **ret, size_t *ret_n, struct err *err);
int __wrap_virt_processes(struct virt *v, struct virt_domain **ret, size_t *ret_n, struct err *err)
{
        if (world.processes < 0)
                return err_set(err, world.processes, "processes: error");
        *ret = calloc(2, sizeof(**ret));
        strcpy((*ret)[0].lease.instance, fixture_id('b'));
        (*ret)[0].pid = 1;
        strcpy((*ret)[1].lease.instance, ID);
        (*ret)[1].pid = 4711;
        *ret_n = 1 + world.leftover;
        return 0;
}

int __wrap_virt_migrate_progress(struct virt *v, const char *instance, struct virt_progress *ret,
                                 struct err *err);
int __wrap_virt_migrate_progress(struct virt *v, const char *instance, struct virt_progress *ret,
                                 struct err *err)
{
        *ret = world.progress;
        return 0;
}

int __wrap_virt_tls_ready(const struct virt_host *h, const char *address, struct err *err);
int __wrap_virt_tls_ready(const struct virt_host *h, const char *address, struct err *err)
{
        return world.tls < 0 ? err_set(err, world.tls, "no certificate") : 0;
}

unsigned __wrap_if_nametoindex(const char *name);
unsigned __wrap_if_nametoindex(const char *name)
{
        return world.bridge_there ? 5 : 0;
}

void __wrap_dhcp_add(struct context *ctx, const char *instance, const char *name, const char *mac,
                     const char *address);
void __wrap_dhcp_add(struct context *ctx, const char *instance, const char *name, const char *mac,
                     const char *address)
{
        world.dhcps++;
}

static int begin(void **state)
{
        static char listen[] = "10.0.0.2:7070", address[] = "10.0.0.2", uri[] = "qemu+tls://h2/system",
                    token[] = "token", bridge[] = "br0";
        struct err err = {0};

        fixture_begin(state);
        memset(&world, 0, sizeof(world));
        fixture.config.listen = listen;
        fixture.config.address = address;
        fixture.config.peer_uri = uri;
        fixture.config.token = token;
        fixture.config.bridge = bridge;
        fixture.config.moves_in = 2;
        fixture.ctx.capacity.cpus = 4;
        fixture.ctx.capacity.memory = 8ULL << 30;
        fixture.ctx.guests->scanned = true;
        fixture.self.uplink = UPLINK_GOOD;
        fixture.spawn_later = true; /* the guest of an arrival */
        world.bridge_there = true;
        fixture_instance('a', "");
        return api_listen(&fixture.ctx, &err);
}

static int end(void **state)
{
        json_decref(world.body);
        json_decref(world.reply);
        return fixture_end(state);
}

static int call(const char *method, const char *path, const char *body)
{
        struct err err = {0};

        json_decref(world.body);
        json_decref(world.reply);
        world.reply = NULL;
        world.status = 0;
        world.body = json_loads(body, 0, NULL);
        for (size_t i = 0; i < n_routes; i++)
                if (strcmp(routes[i].method, method) == 0 && strcmp(routes[i].path, path) == 0)
                        return routes[i].handler(NULL, &fixture.ctx, &err);
        fail_msg("no route %s %s", method, path);
        return 0;
}

/* Only its health is told without the token. */
static void all_but_the_health_needs_the_token(void **state)
{
        for (size_t i = 0; i < n_routes; i++)
                assert_int_equal(routes[i].open, strcmp(routes[i].path, "/healthz") == 0);
}

static void the_health_says_since_when_it_beats(void **state)
{
        fixture.self.own_write_ms = fixture.now_ms - 300;
        fixture.self.steady_ms = fixture.now_ms - 90000;
        assert_int_equal(call("GET", "/healthz", "{}"), 0);
        assert_int_equal(json_get_int(world.reply, "beat_ms", -1), 300);
        assert_int_equal(json_get_int(world.reply, "steady_ms", -1), 90000);
        assert_int_equal(json_get_int(world.reply, "host", 0), 2);
        assert_true(json_get_bool(world.reply, "ok", false));
        assert_true(json_get_bool(world.reply, "libvirt", false));
        fixture.self.own_write_ms = fixture.now_ms - 60000;
        fixture.self.virt_connected = false;
        assert_int_equal(call("GET", "/healthz", "{}"), 0);
        assert_false(json_get_bool(world.reply, "ok", true));
        assert_false(json_get_bool(world.reply, "libvirt", true));
}

static const char *body(const char *fmt)
{
        static char text[400];

        snprintf(text, sizeof(text), fmt, ID);
        return text;
}

static void a_look_wakes_the_guest(void **state)
{
        assert_int_equal(call("POST", "/v1/look", "{\"instance\":\"vm\"}"), -EINVAL);
        assert_string_equal(fixture.woken, "");
        fixture.self.leaving = true; /* a look is no start */
        assert_int_equal(call("POST", "/v1/look", body("{\"instance\":\"%s\",\"start\":false}")), 0);
        assert_int_equal(world.status, 202);
        assert_string_equal(fixture.woken, "a ");
}

/* Whoever gave it the guest asks another at once where the answer is no. */
static void who_cannot_start_says_so(void **state)
{
        const char *start = body("{\"instance\":\"%s\",\"start\":true}");

        assert_int_equal(call("POST", "/v1/look", start), 0);
        assert_int_equal(world.status, 202);
        fixture.self.leaving = true;
        assert_int_equal(call("POST", "/v1/look", start), -EAGAIN);
        fixture.self.leaving = false;
        fixture.self.replaced = true;
        assert_int_equal(call("POST", "/v1/look", start), -EAGAIN);
        fixture.self.replaced = false;
        fixture.self.virt_connected = false;
        assert_int_equal(call("POST", "/v1/look", start), -EAGAIN);
        fixture.self.virt_connected = true;
        fixture.self.uplink = UPLINK_DEAD;
        assert_int_equal(call("POST", "/v1/look", start), -EAGAIN);
        fixture.self.uplink = UPLINK_GOOD;
        fixture.self.own_write_ms = fixture.now_ms - 60000;
        assert_int_equal(call("POST", "/v1/look", start), -EAGAIN);
        fixture.self.own_write_ms = fixture.now_ms;
        assert_int_equal(call("POST", "/v1/look", start), 0);
        assert_string_equal(fixture.woken, "a a a a a a a "); /* it looks in any case */
}

/* The codes of the problems, "a b ", that its preflight tells. */
static const char *preflight(const char *ask)
{
        static char text[200];
        const json_t *p;
        size_t k;

        text[0] = '\0';
        assert_int_equal(call("POST", "/v1/preflight", body(ask)), 0);
        assert_int_equal(world.status, 200);
        json_array_foreach (json_object_get(world.reply, "problems"), k, p)
                snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s ",
                         json_get_str(p, "code", "?"));
        return text;
}
#define ASK "{\"instance\":\"%s\",\"accel\":\"tcg\",\"source\":1}"

static void what_may_arrive_has_its_room_kept(void **state)
{
        struct guest *g;

        assert_string_equal(preflight(ASK), "");
        assert_string_equal(json_get_str(world.reply, "bridge", ""), "br0");
        assert_string_equal(json_get_str(world.reply, "migrate_uri", ""), "tcp://10.0.0.2");
        assert_string_equal(json_get_str(world.reply, "peer_uri", ""), "qemu+tls://h2/system");
        assert_int_equal(world.dhcps, 1);
        g = guests_find(fixture.ctx.guests, ID);
        assert_non_null(g);
        assert_true(g->promise.held && g->promise.arriving);
}

static void what_is_in_the_way_is_told_and_nothing_is_kept(void **state)
{
        world.leftover = true;
        assert_string_equal(preflight(ASK), "leftover ");
        world.leftover = false;
        world.processes = -EIO;
        assert_string_equal(preflight(ASK), "leftover ");
        world.processes = 0;
        world.bridge_there = false;
        assert_string_equal(preflight(ASK), "network ");
        world.bridge_there = true;
        fixture.self.uplink = UPLINK_DEAD;
        assert_string_equal(preflight(ASK), "network ");
        fixture.self.uplink = UPLINK_GOOD;
        fixture.self.leaving = true;
        assert_string_equal(preflight(ASK), "leaving ");
        fixture.self.leaving = false;
        fixture.self.virt_connected = false;
        assert_string_equal(preflight(ASK), "libvirt ");
        fixture.self.virt_connected = true;
        fixture.self.own_write_ms -= 60000;
        assert_string_equal(preflight(ASK), "storage ");
        fixture.self.own_write_ms = fixture.now_ms;
        fixture.ctx.kvm = true;
        assert_string_equal(preflight(ASK), "accel ");
        fixture.ctx.kvm = false;
        fixture.ctx.capacity.memory = 1 << 20;
        assert_string_equal(preflight(ASK), "room ");
        assert_int_equal(world.dhcps, 0);
        assert_false(guests_find(fixture.ctx.guests, ID)->promise.held);
}

static void both_ends_mean_the_same_stream(void **state)
{
        fixture.config.migration_tls = true;
        assert_string_equal(preflight(ASK), "tls ");
        assert_string_equal(preflight("{\"instance\":\"%s\",\"accel\":\"tcg\",\"tls\":true}"), "");
        world.tls = -ENOENT;
        assert_string_equal(preflight("{\"instance\":\"%s\",\"accel\":\"tcg\",\"tls\":true}"), "tls ");
        fixture.config.migration_tls = false;
        assert_string_equal(preflight("{\"instance\":\"%s\",\"accel\":\"tcg\",\"tls\":true}"), "tls ");
}

static void another_of_its_group_is_in_the_way(void **state)
{
        fixture_set(RECORD_INSTANCE, ID, "group", "\"web\"");
        fixture_claim('a', 1);
        fixture_instance('b', ",\"group\":\"web\"");
        fixture_claim('b', 3); /* elsewhere */
        fixture_instance('c', ",\"group\":\"db\"");
        fixture_claim('c', 2);
        assert_string_equal(preflight(ASK), "");
        fixture_claim('b', 2);
        assert_string_equal(preflight(ASK), "group ");
}

static void only_so_many_arrive_at_the_same_time(void **state)
{
        fixture_guest('c')->promise = (struct guest_promise){.held = true, .arriving = true};
        assert_string_equal(preflight(ASK), "");
        fixture_guest('d')->promise = (struct guest_promise){.held = true, .arriving = true};
        guests_find(fixture.ctx.guests, ID)->promise.arriving = false;
        fixture.config.moves_in = 1;
        assert_string_equal(preflight(ASK), "turn ");
}

static void whether_a_start_has_ended_is_answered_for_uuids_only(void **state)
{
        char text[200];

        assert_int_equal(call("POST", "/v1/ended", body("{\"instance\":\"%s\",\"start\":\"x\"}")), -EINVAL);
        assert_int_equal(call("POST", "/v1/ended", "{\"instance\":\"x\",\"start\":\"" START "\"}"), -EINVAL);
        snprintf(text, sizeof(text), "{\"instance\":\"%s\",\"start\":\"" START "\"}", ID);
        assert_int_equal(call("POST", "/v1/ended", text), 0);
        assert_int_equal(json_get_int(world.reply, "host", 0), 2);
        assert_false(json_get_bool(world.reply, "here", true));
        world.processes = -EIO;
        assert_int_equal(call("POST", "/v1/ended", text), -EIO); /* no answer is no proof */
}

static void the_progress_of_a_move_is_told_while_there_is_one(void **state)
{
        strcpy(world.progress.state, "none");
        assert_int_equal(call("GET", "/v1/instances/{id}/migration", "{}"), -ENOENT);
        world.progress =
            (struct virt_progress){.transferred = 1, .remaining = 2, .total = 3, .elapsed_ms = 4};
        strcpy(world.progress.state, "running");
        assert_int_equal(call("GET", "/v1/instances/{id}/migration", "{}"), 0);
        assert_int_equal(json_get_int(world.reply, "transferred", 0), 1);
        assert_int_equal(json_get_int(world.reply, "remaining", 0), 2);
        assert_int_equal(json_get_int(world.reply, "total", 0), 3);
        assert_int_equal(json_get_int(world.reply, "elapsed_ms", 0), 4);
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)
        const struct CMUnitTest tests[] = {
            test(all_but_the_health_needs_the_token),
            test(the_health_says_since_when_it_beats),
            test(a_look_wakes_the_guest),
            test(who_cannot_start_says_so),
            test(what_may_arrive_has_its_room_kept),
            test(what_is_in_the_way_is_told_and_nothing_is_kept),
            test(both_ends_mean_the_same_stream),
            test(another_of_its_group_is_in_the_way),
            test(only_so_many_arrive_at_the_same_time),
            test(whether_a_start_has_ended_is_answered_for_uuids_only),
            test(the_progress_of_a_move_is_told_while_there_is_one),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
