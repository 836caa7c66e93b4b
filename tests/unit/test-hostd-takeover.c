/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "migrate/failover.h"
#include "tests/unit/hostd-fixture.h"

/*
 * A takeover from its begin to its end, against hosts that claim, are silent or refuse. This host is 2, the dead one 1.
 * Host 3 is the roomiest of the living.
 */
#define DEAD "1"

static unsigned claims; /* hosts that claim what they are asked to start, as bits */

static void dead_host(void)
{
        fixture_host(1, "dead", 5,
                     ",\"taken\":{\"by\":2,\"epoch\":1,\"done\":false,\"last_beat_ms\":2100,"
                     "\"last_beat\":\"2026-01-31T12:00:00.000Z\"}");
}

/* What the targets do in between. */
static void targets_work(struct fixture *f, int ms)
{
        f->self.own_write_ms = f->now_ms; /* this host's heartbeats arrive */
        for (const char *at = f->looks; *at; at = strchr(at, ' ') + 1) {
                unsigned host;
                char digit;
                struct lease l;

                assert_int_equal(sscanf(at, "%u:%c", &host, &digit), 2);
                assert_int_equal(lease_find(f->ctx.store, fixture_id(digit), &l, NULL), 0);
                if (claims & 1u << host && l.host == 1 && f->look_answer[host] == 0)
                        fixture_claim(digit, host);
        }
        for (const char *at = f->woken; *at && claims & 1u << 2; at += 2) {
                struct lease l;

                assert_int_equal(lease_find(f->ctx.store, fixture_id(*at), &l, NULL), 0);
                if (l.host == 1)
                        fixture_claim(*at, 2);
        }
        if (f->now_ms > 1000000 + 120000)
                f->self.quit = true;
}

static int begin(void **state)
{
        fixture_begin(state);
        claims = ~0u;
        fixture.on_poll = targets_work;
        fixture_host(2, "up", 1, "");
        fixture_host(3, "up", 1, "");
        fixture_set(RECORD_HOST, "3", "memory", "137438953472");
        return 0;
}

static void owned_by_the_dead(char digit, const char *more)
{
        fixture_instance(digit, more);
        fixture_claim(digit, 1);
}

static const char *placement(char digit, const char *member)
{
        char path[64];

        snprintf(path, sizeof(path), "placement.%s", member);
        return fixture_field(RECORD_INSTANCE, fixture_id(digit), path);
}

static void expect_owner(char digit, unsigned host)
{
        struct lease l;

        assert_int_equal(lease_find(fixture.ctx.store, fixture_id(digit), &l, NULL), 0);
        assert_int_equal(l.host, host);
}

static void what_the_dead_owned_is_placed_and_the_work_ends(void **state)
{
        dead_host();
        owned_by_the_dead('a', "");
        fixture.now_ms += 7;
        takeover_start(&fixture.ctx, 1);
        assert_string_equal(fixture.looks, "3:a ");
        assert_string_equal(placement('a', "host"), "3");
        assert_string_equal(placement('a', "epoch"), "1");
        assert_string_equal(placement('a', "failover.from"), "1");
        assert_string_equal(placement('a', "failover.by"), "2");
        assert_string_equal(placement('a', "failover.last_beat_ms"), "2100");
        assert_string_equal(placement('a', "failover.tries"), "0");
        assert_string_equal(placement('a', "failover.tried"), "[]");
        expect_owner('a', 3);
        assert_string_equal(fixture_field(RECORD_HOST, DEAD, "taken.done"), "true");
        assert_int_equal(fixture.ring.n_takeovers, 0);
        assert_string_equal(fixture.events, "");
        assert_true(fixture.polls < 5);
}

static void what_was_placed_on_the_dead_is_placed_anew(void **state)
{
        dead_host();
        fixture_instance('a', ",\"placement\":{\"host\":1,\"epoch\":0}"); /* never claimed by it */
        claims = 0;
        takeover_start(&fixture.ctx, 1);
        assert_string_equal(fixture.looks, "3:a ");
        assert_string_equal(fixture.woken, "a "); /* 3 was silent */
        assert_string_equal(placement('a', "host"), "2");
        assert_string_equal(placement('a', "failover.tried"), "[3]");
        assert_string_equal(fixture.events, "failover-failed ");
}

static void what_is_not_the_deads_is_left_alone(void **state)
{
        dead_host();
        fixture_instance('a', ""); /* nobody's */
        fixture_instance('b', "");
        fixture_claim('b', 3);
        owned_by_the_dead('c', ",\"placement\":{\"host\":9,\"epoch\":0}"); /* void: of an older epoch */
        owned_by_the_dead('d', ",\"status\":{\"state\":\"stopped\",\"host\":1,\"epoch\":1}");
        fixture_set(RECORD_INSTANCE, fixture_id('d'), "wanted", "\"stopped\"");
        fixture_instance('e', ",\"placement\":{\"host\":3,\"epoch\":0}"); /* another's first start */
        takeover_start(&fixture.ctx, 1);
        assert_string_equal(fixture.looks, "3:c ");
        assert_string_equal(fixture.woken, "");
        assert_string_equal(placement('c', "host"), "3");
        expect_owner('d', 1);
        assert_string_equal(placement('a', "host"), "absent");
        assert_string_equal(placement('b', "host"), "absent");
}

/* Nobody but the dead one could say that it stands. */
static void one_that_should_stand_is_placed_until_its_record_says_so(void **state)
{
        dead_host();
        owned_by_the_dead('a', ",\"status\":{\"state\":\"running\",\"host\":1,\"epoch\":1}");
        fixture_set(RECORD_INSTANCE, fixture_id('a'), "wanted", "\"stopped\"");
        takeover_start(&fixture.ctx, 1);
        assert_string_equal(fixture.looks, "3:a ");
        expect_owner('a', 3);
}

static void a_claims_at_last(struct fixture *f, int ms)
{
        struct lease l;

        targets_work(f, ms);
        assert_int_equal(lease_find(f->ctx.store, fixture_id('a'), &l, NULL), 0);
        if (l.host == 1 && f->polls == 20)
                fixture_claim('a', 3);
}

/* Its owner in life gave it to a living host: that one gets its time. */
static void one_that_was_placed_before_gets_its_time(void **state)
{
        int64_t begun;

        dead_host();
        owned_by_the_dead('a', ",\"placement\":{\"host\":3,\"epoch\":1}");
        claims = 1u << 2;
        begun = fixture.now_ms;
        takeover_start(&fixture.ctx, 1);
        assert_in_range(fixture.now_ms - begun, FAILOVER_PATIENCE_MS, FAILOVER_PATIENCE_MS + 200);
        assert_string_equal(fixture.looks, "");
        assert_string_equal(fixture.woken, "a ");
        expect_owner('a', 2);
        assert_string_equal(placement('a', "failover.tried"), "[3]");
}

/* It is counted once: as one that is on its way there, and not beside that as the survey has seen it. */
static void what_was_placed_before_takes_its_room_once(void **state)
{
        char memory[32];

        dead_host();
        snprintf(memory, sizeof(memory), "%llu", (unsigned long long)(2 * planner_memory(1 << 20, 1)));
        fixture_set(RECORD_HOST, "3", "memory", memory);
        fixture_set(RECORD_HOST, "2", "memory", "1");
        owned_by_the_dead('a', ",\"placement\":{\"host\":3,\"epoch\":1}");
        owned_by_the_dead('b', "");
        fixture.on_poll = a_claims_at_last;
        takeover_start(&fixture.ctx, 1);
        expect_owner('a', 3);
        expect_owner('b', 3);
        assert_string_equal(fixture.events, "");
}

static void one_that_was_placed_on_another_dead_host_is_placed_at_once(void **state)
{
        dead_host();
        fixture_host(4, "dead", 2, "");
        owned_by_the_dead('a', ",\"placement\":{\"host\":4,\"epoch\":1}");
        takeover_start(&fixture.ctx, 1);
        expect_owner('a', 3);
        assert_true(fixture.polls < 5);
}

static void a_target_that_cannot_is_not_asked_for_the_others(void **state)
{
        dead_host();
        for (char c = 'a'; c < 'd'; c++)
                owned_by_the_dead(c, "");
        fixture.look_answer[3] = -ECONNREFUSED;
        takeover_start(&fixture.ctx, 1);
        assert_string_equal(fixture.looks, "3:a ");
        assert_int_equal(strlen(fixture.woken), 6);
        for (char c = 'a'; c < 'd'; c++) {
                expect_owner(c, 2);
                assert_string_equal(placement(c, "failover.tried"), c == 'a' ? "[3]" : "[]");
        }
}

/* This host can start nothing: it is no target either. */
static void this_host_refuses_itself_where_it_cannot_start(void **state)
{
        dead_host();
        owned_by_the_dead('a', "");
        fixture.self.virt_connected = false;
        claims = 0;
        fixture.look_answer[3] = -EAGAIN;
        takeover_start(&fixture.ctx, 1);
        expect_owner('a', 1);
        assert_non_null(strstr(fixture.events, "failover-failed"));
}

/* Said once in an event, and in the record where the dead host's word stands, until there is room. */
static void what_finds_no_room_waits_and_is_told_once(void **state)
{
        dead_host();
        owned_by_the_dead('a', ",\"status\":{\"state\":\"running\",\"host\":1,\"epoch\":1}");
        fixture_set(RECORD_INSTANCE, fixture_id('a'), "memory", "1000000000000");
        takeover_start(&fixture.ctx, 1); /* until on_poll ends it after two minutes */
        assert_string_equal(fixture.events, "failover-failed ");
        assert_string_equal(fixture_field(RECORD_INSTANCE, fixture_id('a'), "status.state"), "\"failed\"");
        assert_string_equal(fixture_field(RECORD_HOST, DEAD, "taken.done"), "false");
        assert_in_range(fixture.polls, 100, 4000); /* every five seconds, not all the time */
}

static void a_word_that_is_newer_than_the_dead_hosts_stays(void **state)
{
        dead_host();
        owned_by_the_dead('a', ",\"status\":{\"state\":\"running\",\"host\":1,\"epoch\":2}");
        owned_by_the_dead('b', ",\"status\":{\"state\":\"running\",\"host\":3,\"epoch\":1}");
        owned_by_the_dead('c', ",\"status\":{\"state\":\"running\",\"host\":1,\"epoch\":0}");
        for (char c = 'a'; c < 'd'; c++)
                fixture_set(RECORD_INSTANCE, fixture_id(c), "memory", "1000000000000");
        takeover_start(&fixture.ctx, 1);
        assert_string_equal(fixture_field(RECORD_INSTANCE, fixture_id('a'), "status.state"), "\"running\"");
        assert_string_equal(fixture_field(RECORD_INSTANCE, fixture_id('b'), "status.state"), "\"running\"");
        assert_string_equal(fixture_field(RECORD_INSTANCE, fixture_id('c'), "status.state"), "\"failed\"");
}

/* It came back: it looks after its own. */
static void a_host_that_is_back_is_left_alone(void **state)
{
        fixture_host(1, "up", 6, ",\"taken\":{\"by\":2,\"done\":false}");
        owned_by_the_dead('a', "");
        takeover_start(&fixture.ctx, 1);
        assert_string_equal(fixture.looks, "");
        assert_string_equal(fixture_field(RECORD_HOST, DEAD, "taken.done"), "false");
}

static void back_and_dead_again(struct fixture *f, int ms)
{
        targets_work(f, ms);
        fixture_set(RECORD_HOST, DEAD, "epoch", "7");
}

/* The end is noted of the death that was worked on: of the next one there is still everything to do. */
static void another_death_is_another_work(void **state)
{
        dead_host();
        owned_by_the_dead('a', "");
        fixture.on_poll = back_and_dead_again;
        takeover_start(&fixture.ctx, 1);
        expect_owner('a', 3);
        assert_string_equal(fixture_field(RECORD_HOST, DEAD, "taken.done"), "false");
}

static void removed_by_its_user(struct fixture *f, int ms)
{
        struct lease l;
        const struct disk_spec disk = {.name = "disk0", .size = 1 << 20};

        if (lease_find(f->ctx.store, fixture_id('a'), &l, NULL) == 0) {
                fixture_set(RECORD_INSTANCE, fixture_id('a'), "wanted", "\"deleted\"");
                assert_int_equal(lease_remove(f->ctx.store, fixture_id('a'), &l, &disk, 1, NULL), 0);
        }
}

static void what_is_removed_meanwhile_is_done(void **state)
{
        dead_host();
        owned_by_the_dead('a', "");
        claims = 0;
        fixture.on_poll = removed_by_its_user;
        takeover_start(&fixture.ctx, 1);
        assert_string_equal(fixture_field(RECORD_HOST, DEAD, "taken.done"), "true");
        assert_true(fixture.polls < 5);
}

static void the_same_host_is_worked_on_once(void **state)
{
        dead_host();
        owned_by_the_dead('a', "");
        fixture.spawn_later = true;
        takeover_start(&fixture.ctx, 1);
        assert_int_equal(fixture.ring.n_takeovers, 1);
        void *first = fixture.spawned_arg;

        takeover_start(&fixture.ctx, 1);
        assert_int_equal(fixture.ring.n_takeovers, 1);
        assert_ptr_equal(fixture.spawned_arg, first);
        fixture.spawned(first);
        assert_int_equal(fixture.ring.n_takeovers, 0);
        expect_owner('a', 3);
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, begin, fixture_end)
        const struct CMUnitTest tests[] = {
            test(what_the_dead_owned_is_placed_and_the_work_ends),
            test(what_was_placed_on_the_dead_is_placed_anew),
            test(what_is_not_the_deads_is_left_alone),
            test(one_that_should_stand_is_placed_until_its_record_says_so),
            test(one_that_was_placed_before_gets_its_time),
            test(what_was_placed_before_takes_its_room_once),
            test(one_that_was_placed_on_another_dead_host_is_placed_at_once),
            test(a_target_that_cannot_is_not_asked_for_the_others),
            test(this_host_refuses_itself_where_it_cannot_start),
            test(what_finds_no_room_waits_and_is_told_once),
            test(a_word_that_is_newer_than_the_dead_hosts_stays),
            test(a_host_that_is_back_is_left_alone),
            test(another_death_is_another_work),
            test(what_is_removed_meanwhile_is_done),
            test(the_same_host_is_worked_on_once),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
