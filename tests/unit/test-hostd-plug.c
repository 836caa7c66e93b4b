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

#include "common/http-client.h"
#include "common/json.h"
#include "hostd/plug/internal.h"
#include "tests/unit/hostd-fixture.h"

/*
 * The thread of the plugs, on a clock of the test's own: when the network is told of a guest, when the peers are asked,
 * and when all plugs are shut. The taps are made up; the kernel's are in test-hostd-tap.c.
 */
#define ID fixture_id('a')
#define BEGIN 1000000

static struct {
        int64_t told[32], shut_at; /* announcements, from BEGIN on; the first plug that was shut; 0: none */
        char macs[32];             /* the last digit of each announcement's address */
        unsigned n_told, rounds_shut, opened, asked;
        bool down;         /* the tap */
        int64_t answer_ms; /* of a peer: how long it takes */
        int answer;
        int64_t beat_ms; /* how old the peer's own last heartbeat is */
        int64_t end, quiet_at, writes_end;
        unsigned carriers;
} world;

bool __wrap_tap_is_up(const char *tap);
bool __wrap_tap_is_up(const char *tap)
{
        return !world.down;
}

int __wrap_tap_announce(const char *bridge, const char *tap, const char *mac, const char *address,
                        struct err *err);
int __wrap_tap_announce(const char *bridge, const char *tap, const char *mac, const char *address,
                        struct err *err)
{
        assert_true(world.n_told < 32);
        world.macs[world.n_told] = mac[16];
        world.told[world.n_told++] = fixture.now_ms - BEGIN;
        return 0;
}

int __wrap_tap_set(const char *tap, bool up, struct err *err);
int __wrap_tap_set(const char *tap, bool up, struct err *err)
{
        if (!up && !world.shut_at)
                world.shut_at = fixture.now_ms - BEGIN;
        world.rounds_shut += !up;
        world.opened += up;
        return 1;
}

int __wrap_tap_each(const char *bridge, void (*on)(void *arg, const char *tap), void *arg, struct err *err);
int __wrap_tap_each(const char *bridge, void (*on)(void *arg, const char *tap), void *arg, struct err *err)
{
        on(arg, "wh0123456789ab");
        return 0;
}

int __wrap_tap_uplinks(const char *bridge, unsigned *ret_ports, unsigned *ret_carriers, struct err *err);
int __wrap_tap_uplinks(const char *bridge, unsigned *ret_ports, unsigned *ret_carriers, struct err *err)
{
        *ret_ports = 1;
        *ret_carriers = world.carriers;
        return 0;
}

int __wrap_http_client_new(const char *url, const char *token, int timeout_ms, struct http_client **ret,
                           struct err *err);
int __wrap_http_client_new(const char *url, const char *token, int timeout_ms, struct http_client **ret,
                           struct err *err)
{
        *ret = NULL;
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
        world.asked++;
        fixture.now_ms += world.answer_ms;
        if (world.answer < 0)
                return world.answer;
        *ret_body = json_pack("{s:I}", "beat_ms", (json_int_t)world.beat_ms);
        return 0;
}

static void each_round(struct fixture *f, int ms)
{
        void (*question)(void *arg) = f->spawned;

        f->spawned = NULL;
        if (question) /* asked in the round before */
                question(f->spawned_arg);
        if (!world.writes_end || f->now_ms < world.writes_end)
                f->self.own_write_ms = f->now_ms;
        if (world.quiet_at && f->now_ms >= world.quiet_at)
                plug_quiet(&f->ctx, ID);
        if (f->now_ms >= world.end)
                f->self.quit = true;
}

static int begin(void **state)
{
        static char bridge[] = "br0";

        fixture_begin(state);
        memset(&world, 0, sizeof(world));
        world.end = BEGIN + 20000;
        world.carriers = 1;
        fixture.config.bridge = bridge;
        fixture.on_poll = each_round;
        fixture.spawn_later = true;
        assert_int_equal(plug_new(&fixture.ctx.plug), 0);
        return 0;
}

static int end(void **state)
{
        if (fixture.spawned)
                fixture.spawned(fixture.spawned_arg);
        fixture.ctx.plug->running = false; /* there was no thread */
        fixture.ctx.plug = plug_free(fixture.ctx.plug);
        return fixture_end(state);
}

static void run(void)
{
        struct err err = {0};

        assert_int_equal(plug_start(&fixture.ctx, &err), 0);
        fixture.thread(fixture.thread_arg);
}

static void announce(const char *mac)
{
        plug_announce(&fixture.ctx, ID, mac, "10.0.0.9");
}

static void the_network_is_told_again_and_again(void **state)
{
        static const int64_t at[] = {0, 500, 1000, 2000, 4000, 8000};

        announce("52:54:00:00:00:01");
        run();
        assert_int_equal(world.n_told, ARRAY_SIZE(at));
        for (size_t i = 0; i < ARRAY_SIZE(at); i++)
                assert_int_equal(world.told[i], at[i]);
        assert_null(fixture.ctx.plug->announcements);
}

/* Of one guest there is one: the last. */
static void a_guest_that_starts_again_is_told_anew(void **state)
{
        announce("52:54:00:00:00:01");
        announce("52:54:00:00:00:02");
        run();
        assert_string_equal(world.macs, "222222");
}

static void who_moves_on_or_is_gone_is_told_no_more(void **state)
{
        announce("52:54:00:00:00:01");
        world.quiet_at = BEGIN + 1000;
        run();
        assert_int_equal(world.n_told, 2);
        announce("52:54:00:00:00:01");
        world.quiet_at = 0;
        world.down = true;
        fixture.self.quit = false;
        run();
        assert_int_equal(world.n_told, 2);
        assert_null(fixture.ctx.plug->announcements);
}

/* It may be another host's guest by now. */
static void nor_where_no_heartbeat_arrives(void **state)
{
        announce("52:54:00:00:00:01");
        world.writes_end = BEGIN;
        run();
        assert_int_equal(world.n_told, 3); /* up to the two seconds after which others act */
        assert_null(fixture.ctx.plug->announcements);
}

static void peers(const char *state)
{
        _cleanup_(survey_done) struct survey s = {0};
        struct err err = {0};

        fixture_host(2, "up", 1, "");
        fixture_host(3, state, 1, ",\"api\":\"http://h3\"");
        assert_int_equal(survey_hosts(fixture.ctx.store, &s, &err), 0);
        plug_hosts(&fixture.ctx, &s);
        plug_hosts(&fixture.ctx, &s); /* the same again: what is known of a peer stays */
}

static void while_its_heartbeats_arrive_nobody_is_asked(void **state)
{
        peers("up");
        world.answer = -ETIMEDOUT;
        run();
        assert_int_equal(world.asked, 0);
        assert_int_equal(world.shut_at, 0);
}

/* From the first question on, to the end of one that nobody has answered. */
static void without_storage_and_without_peers_the_plugs_are_shut(void **state)
{
        peers("up");
        world.writes_end = BEGIN + 1;
        world.answer = -ETIMEDOUT;
        world.answer_ms = ISOLATION_WAIT_MS;
        run();
        assert_in_range(world.shut_at, WATCH_DEAD_MS,
                        ISOLATION_ASK_MS + ISOLATION_SILENT_MS + ISOLATION_EVERY_MS);
        assert_true(world.rounds_shut > 10); /* what arrives meanwhile, too */
        assert_string_equal(fixture.events, "host-isolated ");
}

/* The storage stands still for it, too: nobody acts. */
static void a_peer_that_answers_and_writes_no_more_either_shuts_nothing(void **state)
{
        peers("up");
        world.writes_end = BEGIN + 1;
        world.beat_ms = 60000;
        run();
        assert_true(world.asked > 10);
        assert_int_equal(world.shut_at, 0);
}

static void a_peer_that_has_written_since_may_have_acted(void **state)
{
        peers("up");
        world.writes_end = BEGIN + 1;
        run();
        assert_in_range(world.shut_at, WATCH_DEAD_MS, WATCH_DEAD_MS + 2 * ISOLATION_EVERY_MS);
}

/* Once they arrive again, whoever may have acted meanwhile: every guest is looked at. */
static void a_gap_in_the_heartbeats_is_a_reason_to_look(void **state)
{
        world.writes_end = BEGIN + 1000;
        world.end = BEGIN + 5000;
        run();
        assert_false(fixture.self.rescan);
        world.writes_end = 0;
        world.end = BEGIN + 6000;
        fixture.self.quit = false;
        run();
        assert_true(fixture.self.rescan);
}

/* Only what is seen to be this host's own can be reached again. */
static void a_plug_opens_for_this_hosts_own_guest_only(void **state)
{
        const struct instance_view mine = {.me = 2,
                                           .trusted = true,
                                           .record = true,
                                           .host = 2,
                                           .epoch = 3,
                                           .qemu = QEMU_PAUSED,
                                           .qemu_epoch = 3};
        struct instance_view v[5] = {mine, mine, mine, mine, mine};

        v[0].trusted = false;
        v[1].record = false;
        v[2].host = 3;
        v[3].qemu_epoch = 2;
        v[4].qemu = QEMU_NONE;
        for (unsigned i = 0; i < 5; i++)
                plug_look(&fixture.ctx, &v[i], ID);
        assert_int_equal(world.opened, 0);
        plug_look(&fixture.ctx, &mine, ID);
        assert_int_equal(world.opened, 1);
        plug_shut(&fixture.ctx, ID);
        assert_int_equal(world.rounds_shut, 1);
}

static void silent_until_four_seconds(struct fixture *f, int ms)
{
        world.answer = f->now_ms < BEGIN + 4000 && f->now_ms % 1000 < 500 ? -ETIMEDOUT : 0;
        each_round(f, ms);
}

/* One answer ends a silence: what is counted next begins with the next question. */
static void who_answers_now_and_then_is_not_silent(void **state)
{
        peers("up");
        world.writes_end = BEGIN + 1;
        world.beat_ms = 60000;
        fixture.on_poll = silent_until_four_seconds;
        run();
        assert_int_equal(world.shut_at, 0);
}

static void once_shut_it_tells_an_older_time(struct fixture *f, int ms)
{
        world.beat_ms = world.shut_at ? 60000 : 0;
        each_round(f, ms);
}

/* A later answer that names an older write does not replace the newer one. */
static void a_peer_that_has_written_stays_one(void **state)
{
        peers("up");
        world.writes_end = BEGIN + 1;
        fixture.on_poll = once_shut_it_tells_an_older_time;
        run();
        assert_true(world.rounds_shut > 10);
}

static void a_dead_uplink_is_told(void **state)
{
        world.end = BEGIN + UPLINK_DEAD_MS - 1000;
        world.carriers = 0;
        run();
        assert_int_equal(fixture.self.uplink, UPLINK_GOOD);
        assert_false(fixture.self.rescan);
        world.end = BEGIN + UPLINK_DEAD_MS + 1000;
        fixture.self.quit = false;
        run();
        assert_int_equal(fixture.self.uplink, UPLINK_DEAD);
        assert_true(fixture.self.rescan);
        world.end = BEGIN + UPLINK_HAND_MS + 1000;
        fixture.self.quit = false;
        run();
        assert_int_equal(fixture.self.uplink, UPLINK_HAND_ON);
        world.carriers = 1;
        world.end += 1000;
        fixture.self.quit = false;
        run();
        assert_int_equal(fixture.self.uplink, UPLINK_GOOD);
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)
        const struct CMUnitTest tests[] = {
            test(the_network_is_told_again_and_again),
            test(a_guest_that_starts_again_is_told_anew),
            test(who_moves_on_or_is_gone_is_told_no_more),
            test(nor_where_no_heartbeat_arrives),
            test(while_its_heartbeats_arrive_nobody_is_asked),
            test(without_storage_and_without_peers_the_plugs_are_shut),
            test(a_peer_that_answers_and_writes_no_more_either_shuts_nothing),
            test(a_peer_that_has_written_since_may_have_acted),
            test(a_gap_in_the_heartbeats_is_a_reason_to_look),
            test(a_plug_opens_for_this_hosts_own_guest_only),
            test(who_answers_now_and_then_is_not_silent),
            test(a_peer_that_has_written_stays_one),
            test(a_dead_uplink_is_told),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
