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

#include "migrate/watch.h"
#include "tests/unit/hostd-fixture.h"

/*
 * The thread that watches a neighbour, on a clock of the test's own: when it wins the neighbour's record, and when it
 * must not. This host is 2, its neighbour 3.
 */
#define BEGIN 1000000

static struct {
        int64_t dead_at[8];        /* the counter stands still from then on; 0: it beats */
        int64_t stalls, stall_end; /* reads are not answered from..to */
        int64_t end;               /* when the test ends the thread */
        int64_t taken_at;          /* when the record of host 1 or 3 was seen won */
        bool own_beats_stop;
        int64_t maintenance_at;
        bool list_is_old;
        const struct survey_host *listed; /* every look finds a list that is as old as that */
} world;

static int beat_of(struct fixture *f, unsigned host, uint64_t *ret)
{
        int64_t at = f->now_ms;

        if (world.stalls && at >= world.stalls && at < world.stall_end)
                return -ETIMEDOUT;
        if (host < 8 && world.dead_at[host] && at > world.dead_at[host])
                at = world.dead_at[host];
        *ret = (uint64_t)at / WATCH_BEAT_MS;
        return 0;
}

static void each_look(struct fixture *f, int ms)
{
        if (!world.own_beats_stop)
                f->self.own_write_ms = f->now_ms;
        for (unsigned n = 1; n < 4 && !world.taken_at; n += 2) {
                char id[4];

                snprintf(id, sizeof(id), "%u", n);
                if (strcmp(fixture_field(RECORD_HOST, id, "state"), "\"dead\"") == 0)
                        world.taken_at = f->now_ms;
        }
        if (world.maintenance_at && f->now_ms >= world.maintenance_at) {
                fixture_set(RECORD_HOST, "3", "maintenance", "true");
                world.maintenance_at = 0;
        }
        if (world.listed && f->now_ms < world.end)
                neighbours_set(&f->ctx, &world.listed, 1);
        if (f->now_ms >= world.end)
                f->ring.neighbours->wanted = false;
}

static int begin(void **state)
{
        fixture_begin(state);
        memset(&world, 0, sizeof(world));
        world.end = BEGIN + 8000;
        fixture.beat_of = beat_of;
        fixture.on_poll = each_look;
        fixture.spawn_later = true;
        fixture_host(1, "up", 4, "");
        fixture_host(2, "up", 1, "");
        fixture_host(3, "up", 7, "");
        return 0;
}

static int end(void **state)
{
        if (fixture.ring.n_takeovers > 0) /* one that was begun and not run */
                free(fixture.spawned_arg);
        return fixture_end(state);
}

static void watch(void)
{
        _cleanup_(survey_done) struct survey s = {0};
        const struct survey_host *third = NULL;
        struct err err = {0};

        assert_int_equal(survey_hosts(fixture.ctx.store, &s, &err), 0);
        for (size_t i = 0; i < s.n_hosts; i++)
                if (s.hosts[i].ring.number == 3)
                        third = &s.hosts[i];
        if (world.list_is_old) { /* it joined again since */
                fixture_set(RECORD_HOST, "3", "epoch", "8");
                world.listed = third;
        }
        neighbours_set(&fixture.ctx, &third, 1);
        fixture.spawned(fixture.spawned_arg);
        assert_null(fixture.ring.neighbours);
}

static void who_beats_is_left_alone(void **state)
{
        watch();
        assert_int_equal(world.taken_at, 0);
        assert_string_equal(fixture.events, "");
        assert_int_equal(fixture.ring.n_takeovers, 0);
}

static void a_silent_neighbour_is_won_after_two_seconds(void **state)
{
        world.dead_at[3] = BEGIN + 2000;
        watch();
        assert_in_range(world.taken_at, BEGIN + 2000 + WATCH_DEAD_MS - WATCH_BEAT_MS,
                        BEGIN + 2000 + WATCH_DEAD_MS + 400);
        assert_string_equal(fixture_field(RECORD_HOST, "3", "state"), "\"dead\"");
        assert_string_equal(fixture_field(RECORD_HOST, "3", "epoch"), "8");
        assert_string_equal(fixture_field(RECORD_HOST, "3", "taken.by"), "2");
        assert_string_equal(fixture_field(RECORD_HOST, "3", "taken.epoch"), "1");
        assert_string_equal(fixture_field(RECORD_HOST, "3", "taken.done"), "false");
        assert_string_equal(fixture.events, "host-dead ");
        assert_int_equal(fixture.ring.n_takeovers, 1);
        assert_int_equal(fixture.ring.takeovers[0], 3);
        assert_string_equal(fixture_field(RECORD_HOST, "1", "state"), "\"up\"");
}

static void a_stall_of_the_reads_is_nobodys_death(void **state)
{
        world.stalls = BEGIN + 2000;
        world.stall_end = BEGIN + 6500;
        watch();
        assert_int_equal(world.taken_at, 0);
}

/* It is the storage that stands still, not the neighbour. */
static void who_does_not_write_himself_judges_nobody(void **state)
{
        world.dead_at[3] = world.dead_at[1] = BEGIN + 1;
        world.own_beats_stop = true;
        watch();
        assert_int_equal(world.taken_at, 0);
}

static void without_a_fence_nobody_is_taken_over(void **state)
{
        world.dead_at[3] = BEGIN + 1;
        fixture.self.fence = 0;
        watch();
        assert_int_equal(world.taken_at, 0);
}

static void one_that_stopped_in_order_has_its_time(void **state)
{
        world.dead_at[3] = BEGIN + 1;
        fixture_set(RECORD_HOST, "3", "state", "\"stopped\"");
        fixture_set(RECORD_HOST, "3", "disarmed_ms", "3000");
        watch();
        assert_in_range(world.taken_at, BEGIN + WATCH_DEAD_MS + 3000 - WATCH_BEAT_MS,
                        BEGIN + WATCH_DEAD_MS + 3500);
}

static void one_in_maintenance_is_told_of_and_not_taken(void **state)
{
        world.dead_at[3] = BEGIN + 1;
        fixture_set(RECORD_HOST, "3", "maintenance", "true");
        watch();
        assert_int_equal(world.taken_at, 0);
        assert_string_equal(fixture.events, "host-silent "); /* once */
}

/* Its record says so only since the last list of hosts: what counts is the record. */
static void maintenance_counts_at_once(void **state)
{
        world.dead_at[3] = BEGIN + 1;
        world.maintenance_at = BEGIN + 1900;
        world.end = BEGIN + 3500;
        watch();
        assert_int_equal(world.taken_at, 0);
}

/* What the record has told about its epoch is not taken back by a list that lags behind. */
static void a_list_that_lags_behind_takes_no_epoch_back(void **state)
{
        world.dead_at[3] = BEGIN + 1;
        world.list_is_old = true;
        watch();
        assert_in_range(world.taken_at, BEGIN + 2 * WATCH_DEAD_MS - WATCH_BEAT_MS,
                        BEGIN + 2 * WATCH_DEAD_MS + 800);
        assert_string_equal(fixture_field(RECORD_HOST, "3", "epoch"), "9");
}

/* As a host that came back: was its neighbour here all along? Its record says so, and is asked once for each epoch. */
static void comes_back(const char *returning)
{
        fixture.ring.home = (struct homecoming){.returning = true, .joined_ms = BEGIN};
        fixture_set(RECORD_HOST, "3", "returning", returning);
        watch();
}

static void a_neighbour_that_was_here_all_along_is_met(void **state)
{
        comes_back("false");
        assert_true(fixture.ring.home.met);
}

static void one_that_has_not_joined_is_not_met(void **state)
{
        fixture_set(RECORD_HOST, "3", "state", "\"stopped\"");
        comes_back("false");
        assert_false(fixture.ring.home.met);
}

static void one_that_stands_still_is_not_met(void **state)
{
        world.dead_at[3] = BEGIN + 1;
        fixture_set(RECORD_HOST, "3", "maintenance", "true");
        comes_back("false");
        assert_false(fixture.ring.home.met);
}

static void its_return_is_over(struct fixture *f, int ms)
{
        each_look(f, ms);
        if (f->now_ms >= BEGIN + 4000)
                fixture_set(RECORD_HOST, "3", "returning", "false");
}

/* It was through the same loss of power, however long ago it has said so. */
static void one_that_returns_itself_is_not_met_at_this_epoch(void **state)
{
        fixture.on_poll = its_return_is_over;
        comes_back("true");
        assert_false(fixture.ring.home.met);
}

static void it_joins_anew(struct fixture *f, int ms)
{
        its_return_is_over(f, ms);
        if (f->now_ms >= BEGIN + 4000)
                f->ring.neighbours->host.ring.epoch = 8;
}

static void at_its_next_epoch_it_is_asked_anew(void **state)
{
        fixture.on_poll = it_joins_anew;
        comes_back("true");
        assert_true(fixture.ring.home.met);
}

/* After a loss of all power a silent one gets its time, which is told once for each of its epochs. */
static void one_that_has_not_come_back_yet_is_awaited(void **state)
{
        const struct ring_host third = {.number = 3, .epoch = 7};

        world.dead_at[3] = BEGIN + 1;
        fixture.ring.home =
            (struct homecoming){.returning = true, .joined_ms = BEGIN, .first = &third, .n_first = 1};
        watch();
        assert_int_equal(world.taken_at, 0);
        assert_string_equal(fixture.events, "host-awaited ");
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)
        const struct CMUnitTest tests[] = {
            test(who_beats_is_left_alone),
            test(a_silent_neighbour_is_won_after_two_seconds),
            test(a_stall_of_the_reads_is_nobodys_death),
            test(who_does_not_write_himself_judges_nobody),
            test(without_a_fence_nobody_is_taken_over),
            test(one_that_stopped_in_order_has_its_time),
            test(one_in_maintenance_is_told_of_and_not_taken),
            test(maintenance_counts_at_once),
            test(a_list_that_lags_behind_takes_no_epoch_back),
            test(a_neighbour_that_was_here_all_along_is_met),
            test(one_that_has_not_joined_is_not_met),
            test(one_that_stands_still_is_not_met),
            test(one_that_returns_itself_is_not_met_at_this_epoch),
            test(at_its_next_epoch_it_is_asked_anew),
            test(one_that_has_not_come_back_yet_is_awaited),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
