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

#include "hostd/plug/internal.h"
#include "tests/unit/hostd-fixture.h"

/*
 * The thread that lists the hosts: what it makes of its own record, of its return, and of work that was left undone.
 * And the one that tells what this host cannot see.
 */
static struct {
        int64_t end;
        void (*meanwhile)(void); /* once, after a second */
        bool list_fails;
        int64_t lists[16]; /* when the hosts were listed */
        unsigned n_lists;
        int test; /* store_selftest()'s answer */
        unsigned tests;
} world;

int __real_survey_hosts(struct store *s, struct survey *ret, struct err *err);
int __wrap_survey_hosts(struct store *s, struct survey *ret, struct err *err);
int __wrap_survey_hosts(struct store *s, struct survey *ret, struct err *err)
{
        if (world.n_lists < ARRAY_SIZE(world.lists))
                world.lists[world.n_lists] = fixture.now_ms;
        world.n_lists++;
        return world.list_fails ? err_set(err, -EIO, "hosts: no answer") : __real_survey_hosts(s, ret, err);
}

int __wrap_store_selftest(struct store *s, struct err *err);
int __wrap_store_selftest(struct store *s, struct err *err)
{
        world.tests++;
        return world.test < 0 ? err_set(err, world.test, "no answer") : world.test;
}

static void each_tick(struct fixture *f, int ms)
{
        f->self.own_write_ms = f->now_ms;
        if (world.meanwhile && f->now_ms >= 1001000) {
                world.meanwhile();
                world.meanwhile = NULL;
        }
        if (f->now_ms >= world.end)
                f->self.quit = true;
}

static int begin(void **state)
{
        static char listen[] = "10.0.0.2:7070", address[] = "10.0.0.2", peer_uri[] = "qemu+tls://h2/system";

        fixture_begin(state);
        memset(&world, 0, sizeof(world));
        world.end = fixture.now_ms + 10000;
        fixture.on_poll = each_tick;
        fixture.config.listen = listen;
        fixture.config.address = address;
        fixture.config.peer_uri = peer_uri;
        fixture.identity.joined = true;
        strcpy(fixture.identity.self.boot, "b");
        strcpy(fixture.identity.self.view, "v");
        strcpy(fixture.identity.self.board, "m");
        strcpy(fixture.ctx.nonce, "this-run");
        fixture_host(2, "up", 1, ",\"nonce\":\"this-run\",\"boot_id\":\"b\",\"view\":\"v\",\"board\":\"m\"");
        return plug_new(&fixture.ctx.plug);
}

static int end(void **state)
{
        fixture.ctx.plug = plug_free(fixture.ctx.plug);
        free(fixture.ring.first);
        return fixture_end(state);
}

static void run(void)
{
        struct err err = {0};

        assert_int_equal(watch_start(&fixture.ctx, &err), 0);
}

static void returning(void)
{
        fixture.ring.home = (struct homecoming){.returning = true, .joined_ms = fixture.now_ms};
        fixture_set(RECORD_HOST, "2", "returning", "true");
}

static void a_return_ends_after_two_minutes(void **state)
{
        returning();
        world.end = fixture.now_ms + WATCH_RETURN_MS - 1;
        run();
        assert_string_equal(fixture_field(RECORD_HOST, "2", "returning"), "true");
        fixture.self.quit = false;
        world.end += 3000;
        run();
        assert_string_equal(fixture_field(RECORD_HOST, "2", "returning"), "false");
        assert_false(fixture.ring.home.returning);
}

static void another_hostd_has_joined(void)
{
        fixture_set(RECORD_HOST, "2", "nonce", "\"the-next-run\"");
        fixture_set(RECORD_HOST, "2", "epoch", "2");
}

/* The record is another's, whose return has its own time. */
static void a_return_that_is_anothers_goes_on(void **state)
{
        returning();
        fixture.now_ms += WATCH_RETURN_MS;
        world.end = fixture.now_ms + 10000;
        another_hostd_has_joined();
        run();
        assert_string_equal(fixture_field(RECORD_HOST, "2", "returning"), "true");
}

static void a_newer_hostd_of_this_machine_ends_this_one(void **state)
{
        world.meanwhile = another_hostd_has_joined;
        run();
        assert_true(fixture.self.superseded && fixture.self.rescan);
        assert_false(fixture.self.replaced);
        assert_string_equal(fixture_field(RECORD_HOST, "2", "epoch"), "2");
}

static void another_machine_has_joined(void)
{
        another_hostd_has_joined();
        fixture_host(1, "dead", 5, ",\"taken\":{\"by\":2,\"epoch\":1,\"done\":false}"); /* by that one */
        fixture_instance('a', "");
        fixture_claim('a', 1);
        fixture_set(RECORD_HOST, "2", "boot_id", "\"another\"");
}

static void another_machine_ends_its_trust(void **state)
{
        world.meanwhile = another_machine_has_joined;
        run();
        assert_true(fixture.self.replaced && fixture.self.rescan);
        assert_false(fixture.self.superseded);
        assert_in_range(fixture.now_ms, 1000000, 1004000); /* it lists no more */
        assert_string_equal(fixture.woken, "");            /* nor works on what is the other's */
        assert_string_equal(fixture_field(RECORD_INSTANCE, fixture_id('a'), "placement"), "absent");
}

static void somebody_has_taken_it_over(void)
{
        fixture_set(RECORD_HOST, "2", "state", "\"dead\"");
        fixture_set(RECORD_HOST, "2", "epoch", "2");
        fixture_set(RECORD_HOST, "2", "taken", "{\"by\":3,\"done\":false}");
}

static void one_that_was_taken_over_joins_again(void **state)
{
        world.meanwhile = somebody_has_taken_it_over;
        run();
        assert_true(fixture.self.rescan);
        assert_string_equal(fixture_field(RECORD_HOST, "2", "state"), "\"up\"");
        assert_string_equal(fixture_field(RECORD_HOST, "2", "epoch"), "3");
        assert_int_equal(fixture.self.epoch, 3);
        assert_string_equal(fixture.events, "host-returned ");
}

static void unless_it_ends(void)
{
        somebody_has_taken_it_over();
        fixture.self.quit = true;
}

static void one_that_ends_promises_no_heartbeats(void **state)
{
        world.meanwhile = unless_it_ends;
        run();
        assert_string_equal(fixture_field(RECORD_HOST, "2", "state"), "\"dead\"");
}

static void it_is_drained_for_repair(void)
{
        fixture_set(RECORD_HOST, "2", "maintenance", "true");
}

static void maintenance_is_told_once(void **state)
{
        world.meanwhile = it_is_drained_for_repair;
        run();
        assert_string_equal(fixture.events, "host-maintenance ");
        assert_false(fixture.self.rescan);
}

/* Also what this host won before it was started anew. */
static void a_takeover_that_was_left_undone_is_gone_on_with(void **state)
{
        fixture_host(1, "dead", 5, ",\"taken\":{\"by\":2,\"epoch\":1,\"done\":false}");
        fixture_instance('a', "");
        fixture_claim('a', 1);
        fixture_host(3, "dead", 5, ",\"taken\":{\"by\":2,\"epoch\":1,\"done\":true}");
        fixture_instance('b', "");
        fixture_claim('b', 3);
        fixture_host(4, "dead", 5,
                     ",\"taken\":{\"by\":9,\"epoch\":1,\"done\":false}"); /* another's to finish */
        fixture_instance('c', "");
        fixture_claim('c', 4);
        run();
        assert_string_not_equal(fixture.woken, "");
        assert_null(strchr(fixture.woken, 'b'));
        assert_null(strchr(fixture.woken, 'c'));
        assert_int_equal(fixture.ring.n_takeovers, 0);
}

static void the_list_fails(void)
{
        world.list_fails = true;
}

/* After a listing that failed the host keeps the list that it has, and counts as one that has not listed. It does not
 * ask again at once: a slow storage has enough to do. */
static void a_listing_that_fails_is_none(void **state)
{
        world.meanwhile = the_list_fails;
        world.end = fixture.now_ms + 8500;
        run();
        assert_int_equal(world.n_lists, 5);
        for (unsigned i = 0; i < 5; i++)
                assert_int_equal(world.lists[i], 1000000 + i * 2000);
        assert_int_equal(fixture.ring.listed_ms, 1000000);
}

static void somebody_asks_for_a_list(void)
{
        fixture.ring.list_now = true;
}

static void a_list_that_is_asked_for_comes_at_once(void **state)
{
        world.meanwhile = somebody_asks_for_a_list;
        world.end = fixture.now_ms + 2500;
        run();
        assert_int_equal(world.n_lists, 2);
        assert_int_equal(world.lists[1], 1001000);
        assert_false(fixture.ring.list_now);
        assert_int_equal(fixture.ring.listed_ms, 1001000);
}

static void one_joins_anew(void)
{
        fixture_set(RECORD_HOST, "3", "epoch", "9");
}

/* A host whose epoch is newer than in the first list has joined since, so that list is never replaced. */
static void the_first_list_is_kept(void **state)
{
        const struct ring_host *third = NULL;

        fixture_host(3, "dead", 4, "");
        world.meanwhile = one_joins_anew;
        run();
        assert_int_equal(fixture.ring.home.n_first, 2);
        assert_ptr_equal(fixture.ring.home.first, fixture.ring.first);
        for (size_t i = 0; i < 2; i++)
                if (fixture.ring.first[i].number == 3)
                        third = &fixture.ring.first[i];
        assert_non_null(third);
        assert_int_equal(third->epoch, 4);
}

static void the_fence_is_tried_until_it_says_something(void **state)
{
        fixture.self.fence = -1;
        world.test = -ETIMEDOUT;
        world.end = fixture.now_ms + 25000;
        run();
        assert_int_equal(world.tests, 3); /* every ten seconds */
        assert_int_equal(fixture.self.fence, -1);
        fixture.self.quit = false;
        world.test = 0;
        world.end = fixture.now_ms + 25000;
        run();
        assert_int_equal(world.tests, 4);
        assert_int_equal(fixture.self.fence, 0);
        assert_false(fixture.ring.testing);
}

static void lists_work(struct fixture *f, int ms)
{
        each_tick(f, ms);
        if (f->now_ms >= 1030000) /* they did not until then */
                f->ring.listed_ms = f->now_ms;
}

static const char *blind_at_25_s; /* its record's word then */

static void look_at_25_s(struct fixture *f, int ms)
{
        static char text[200];

        lists_work(f, ms);
        if (f->now_ms == 1025000) {
                snprintf(text, sizeof(text), "%s", fixture_field(RECORD_HOST, "2", "blind"));
                blind_at_25_s = text;
        }
}

/* Told once and written down, until they work again. */
static void a_host_that_lists_no_hosts_says_so(void **state)
{
        fixture.on_poll = look_at_25_s;
        fixture.ring.listed_ms = fixture.now_ms; /* of before: it is old after five seconds */
        world.end = fixture.now_ms + 40000;
        sight_main(&fixture.ctx);
        assert_non_null(blind_at_25_s);
        assert_non_null(strstr(blind_at_25_s, "\"host\":0"));
        assert_string_equal(fixture_field(RECORD_HOST, "2", "blind"), "absent");
        assert_string_equal(fixture.events, "host-blind host-sees ");
}

/* Another hostd has joined with this number: its record is not ours to write. */
static void what_cannot_be_seen_is_written_into_ones_own_record_only(void **state)
{
        fixture_set(RECORD_HOST, "2", "nonce", "\"the-next-run\"");
        world.end = fixture.now_ms + 30000;
        sight_main(&fixture.ctx);
        assert_string_equal(fixture.events, "host-blind ");
        assert_string_equal(fixture_field(RECORD_HOST, "2", "blind"), "absent");
}

static void the_neighbour_is_none_any_more(struct fixture *f, int ms)
{
        each_tick(f, ms);
        f->ring.listed_ms = f->now_ms;
        if (f->now_ms == 1020000) {
                assert_non_null(strstr(fixture_field(RECORD_HOST, "2", "blind"), "\"host\":3"));
                neighbours_set(&f->ctx, NULL, 0);
        }
}

static void a_neighbour_that_cannot_be_told_is_named_while_it_is_one(void **state)
{
        const struct survey_host third = {.ring = {.number = 3, .epoch = 1}, .name = "h3"}, *list = &third;

        fixture.spawn_later = true; /* nobody looks at it */
        neighbours_set(&fixture.ctx, &list, 1);
        fixture.on_poll = the_neighbour_is_none_any_more;
        world.end = fixture.now_ms + 25000;
        sight_main(&fixture.ctx);
        assert_string_equal(fixture_field(RECORD_HOST, "2", "blind"), "absent");
        assert_string_equal(fixture.events, "host-blind ");
        fixture.spawned(fixture.spawned_arg); /* its thread, which finds that, and ends */
        assert_null(fixture.ring.neighbours);
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)
        const struct CMUnitTest tests[] = {
            test(a_return_ends_after_two_minutes),
            test(a_return_that_is_anothers_goes_on),
            test(a_newer_hostd_of_this_machine_ends_this_one),
            test(another_machine_ends_its_trust),
            test(one_that_was_taken_over_joins_again),
            test(one_that_ends_promises_no_heartbeats),
            test(maintenance_is_told_once),
            test(a_takeover_that_was_left_undone_is_gone_on_with),
            test(a_listing_that_fails_is_none),
            test(a_list_that_is_asked_for_comes_at_once),
            test(the_first_list_is_kept),
            test(the_fence_is_tried_until_it_says_something),
            test(a_host_that_lists_no_hosts_says_so),
            test(what_cannot_be_seen_is_written_into_ones_own_record_only),
            test(a_neighbour_that_cannot_be_told_is_named_while_it_is_one),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
