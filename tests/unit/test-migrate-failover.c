/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/util.h"
#include "migrate/failover.h"

/* The borders of the failover machine: what it must not do. test-migrate-planner.c has its usual way. */
#define GiB (1ULL << 30)
#define N_HOSTS 6
#define DEAD 6

/* In this order every item asks them: 1, 2, 3 ... 6 is the dead one, and the roomiest. */
static const struct planner_host hosts[N_HOSTS] = {
    {.number = 1, .name = "h1", .alive = true, .cpus = 2, .memory = 60 * GiB},
    {.number = 2, .name = "h2", .alive = true, .cpus = 2, .memory = 50 * GiB},
    {.number = 3, .name = "h3", .alive = true, .cpus = 2, .memory = 40 * GiB},
    {.number = 4, .name = "h4", .alive = true, .cpus = 2, .memory = 30 * GiB},
    {.number = 5, .name = "h5", .alive = true, .cpus = 2, .memory = 20 * GiB},
    {.number = DEAD, .name = "h6", .alive = true, .cpus = 64, .memory = 512 * GiB},
};

static struct failover_item item_new(unsigned n)
{
        struct failover_item item = {.cpus = 1, .memory = GiB, .epoch = 5};

        snprintf(item.instance, sizeof(item.instance), "00000000-0000-4000-8000-%012u", n);
        return item;
}

static struct failover begin(struct failover_item *items, size_t n)
{
        struct failover f;

        memset(&f, 0xa5, sizeof(f)); /* what is left on a stack */
        for (size_t i = 0; i < n; i++)
                items[i] = item_new((unsigned)i);
        failover_init(&f, DEAD, items, n);
        return f;
}

static void begin_leaves_nothing_of_what_was_there(void **state)
{
        struct failover f = begin(NULL, 0);

        assert_int_equal(f.dead, DEAD);
        assert_int_equal(f.n_seats, 0);
        assert_null(f.seats);
        assert_true(failover_ended(&f));
        assert_null(failover_next(&f, hosts, N_HOSTS, 0));
}

static void states_have_names(void **state)
{
        static const char *const names[] = {"waiting", "placed", "done", "failed"};

        for (int i = 0; i < FAILOVER_STATE_MAX; i++)
                assert_string_equal(failover_state_name(i), names[i]);
        assert_string_equal(failover_state_name(FAILOVER_STATE_MAX), "?");
}

static void the_same_priority_goes_by_id(void **state)
{
        struct failover_item items[4];
        struct failover f;

        for (unsigned i = 0; i < 4; i++)
                items[i] = item_new(3 - i);
        items[0].priority = 1; /* 3 */
        items[3].priority = 1; /* 0 */
        failover_init(&f, DEAD, items, 4);
        for (unsigned i = 0; i < 4; i++) {
                static const unsigned want[] = {0, 3, 1, 2};

                assert_string_equal(items[i].instance, item_new(want[i]).instance);
        }
}

static void an_item_is_tried_on_three_hosts_and_on_no_fourth(void **state)
{
        struct failover_item items[2];
        struct failover f = begin(items, 1);
        struct failover_item *it;

        items[1] = item_new(77);
        for (unsigned i = 1; i <= FAILOVER_TRIES; i++) {
                char reason[64];

                it = failover_next(&f, hosts, N_HOSTS, 1000 * i);
                assert_ptr_equal(it, items);
                assert_int_equal(it->state, FAILOVER_PLACED);
                assert_int_equal(it->target, i); /* never one that has refused it, never the dead one */
                assert_int_equal(it->deadline_ms, 1000 * i + FAILOVER_PATIENCE_MS);
                failover_refused(&f, it, "no such luck");
                assert_int_equal(it->tries, i);
                assert_int_equal(it->refused[i - 1], i);
                snprintf(reason, sizeof(reason), "host %u: no such luck", i);
                assert_string_equal(it->reason, reason);
                assert_int_equal(it->state, i < FAILOVER_TRIES ? FAILOVER_WAITING : FAILOVER_FAILED);
        }
        assert_null(failover_next(&f, hosts, N_HOSTS, 0));
        assert_true(failover_ended(&f));
        failover_refused(&f, it, "once more"); /* as an answer that comes late */
        assert_int_equal(it->tries, FAILOVER_TRIES);
        assert_string_equal(it->reason, "host 3: no such luck");
        it = &items[1];
        assert_memory_equal(it, &(struct failover_item[]){item_new(77)}[0], sizeof(*it));
}

static void the_dead_host_gets_nothing(void **state)
{
        struct failover_item items[1];
        struct failover f = begin(items, 1);

        assert_int_equal(failover_next(&f, hosts + 5, 1, 0)->state, FAILOVER_FAILED);
}

static void only_what_is_placed_is_waited_for(void **state)
{
        struct failover_item items[2];
        struct failover f = begin(items, 2);

        failover_seen(&f, &items[0], 6, FAILOVER_PATIENCE_MS * 2);
        assert_int_equal(items[0].state, FAILOVER_WAITING);
        failover_refused(&f, &items[0], "late");
        assert_int_equal(items[0].state, FAILOVER_WAITING);
        assert_int_equal(items[0].tries, 0);
        assert_ptr_equal(failover_next(&f, hosts, N_HOSTS, 0), &items[0]);
        failover_seen(&f, &items[0], 6, 1);
        assert_int_equal(items[0].state, FAILOVER_DONE);
        failover_refused(&f, &items[0], "late");
        failover_seen(&f, &items[0], 5, FAILOVER_PATIENCE_MS * 2);
        assert_int_equal(items[0].state, FAILOVER_DONE);
        assert_int_equal(items[0].tries, 0);
        assert_false(failover_ended(&f)); /* the other one waits */
}

/* One of several that failed leaves its host free for the next, and takes no place among those under way. */
static void what_was_refused_counts_nowhere(void **state)
{
        const struct planner_host two[] = {
            {.number = 1, .name = "h1", .alive = true, .cpus = 8, .memory = 5 * GiB},
            {.number = 2, .name = "h2", .alive = true, .cpus = 8, .memory = 4 * GiB},
        };
        struct failover_item items[2];
        struct failover f = begin(items, 2);

        items[0].memory = items[1].memory = 3 * GiB;
        items[0].epoch = items[1].epoch = 7;
        assert_int_equal(failover_next(&f, two, 2, 0)->target, 1);
        failover_refused(&f, &items[0], "no");
        assert_int_equal(failover_next(&f, two, 2, 0)->target, 2);
        /* The first goes to 2 by now, which it fills, though 1 is still its old target's number. */
        assert_ptr_equal(failover_next(&f, two, 2, 0), &items[1]);
        assert_int_equal(items[1].target, 1);
}

static void cores_of_what_was_placed_count(void **state)
{
        const struct planner_host one = {
            .number = 1, .name = "h1", .alive = true, .cpus = 1, .memory = 60 * GiB};
        struct failover_item items[3];
        struct failover f = begin(items, 3);

        for (int i = 0; i < 3; i++)
                items[i].cpus = 2; /* four virtual ones for a real one */
        assert_int_equal(failover_next(&f, &one, 1, 0)->state, FAILOVER_PLACED);
        assert_int_equal(failover_next(&f, &one, 1, 0)->state, FAILOVER_PLACED);
        assert_int_equal(failover_next(&f, &one, 1, 0)->state, FAILOVER_FAILED);
        assert_non_null(strstr(items[2].reason, "virtual cores"));
}

/* Those that came as placed are among the ones under way. */
static void what_came_as_placed_counts_as_under_way(void **state)
{
        struct failover_item items[FAILOVER_AT_ONCE + 1];
        struct failover f = begin(items, FAILOVER_AT_ONCE + 1);

        for (size_t i = 1; i < FAILOVER_AT_ONCE + 1; i++) {
                items[i].state = FAILOVER_PLACED;
                items[i].target = 1;
        }
        assert_null(failover_next(&f, hosts, N_HOSTS, 0));
        failover_seen(&f, &items[4], 6, 0);
        assert_ptr_equal(failover_next(&f, hosts, N_HOSTS, 0), &items[0]);
}

static void an_empty_group_is_none(void **state)
{
        const struct failover_seat seats[] = {{.group = "", .host = 1}, {.group = NULL, .host = 1}};
        struct failover_item items[2];
        struct failover f = begin(items, 2);

        f.seats = seats;
        f.n_seats = 2;
        items[0].group = "";
        assert_int_equal(failover_next(&f, hosts, N_HOSTS, 0)->target, 1);
        assert_int_equal(failover_next(&f, hosts, N_HOSTS, 0)->target, 1);
}

/* One that waits has a target of old, and sits nowhere. */
static void a_group_is_kept_from_where_its_others_are_not_from_where_they_were(void **state)
{
        struct failover_item items[2];
        struct failover f = begin(items, 2);

        items[0].group = items[1].group = "ann/db";
        assert_int_equal(failover_next(&f, hosts, N_HOSTS, 0)->target, 1);
        assert_int_equal(failover_next(&f, hosts, N_HOSTS, 0)->target, 2);
        failover_refused(&f, &items[0], "no");
        failover_seen(&f, &items[1], 6, 0);
        assert_int_equal(failover_next(&f, hosts, N_HOSTS, 0)->target, 3); /* not 2, where the other runs */
        f = begin(items, 2);
        items[0].group = items[1].group = "ann/db";
        failover_next(&f, hosts, N_HOSTS, 0);
        failover_refused(&f, &items[0], "no");
        failover_refused(&f, &items[0], "a second time, of nothing");
        items[0].state = FAILOVER_FAILED;
        assert_int_equal(failover_next(&f, hosts, N_HOSTS, 0)->target, 1);
}

static unsigned hand_on(struct failover_chain *chain, unsigned me, size_t n_hosts, struct err *e)
{
        struct failover_item item = item_new(0);
        struct failover f;

        failover_init(&f, 0, &item, 1);
        return failover_hand_on(&f, chain, me, hosts, n_hosts, e);
}

static void a_chain_forgets_who_failed_longest_ago(void **state)
{
        struct failover_chain chain = {0};
        static const unsigned want[] = {2, 3, 4, 1, 2, 3, 4, 1};
        unsigned me = 1;

        for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
                unsigned to = hand_on(&chain, me, 4, NULL);

                assert_int_equal(to, want[i]);
                assert_int_equal(chain.tries, i + 1);
                me = to;
        }
        /* a host that fails again stands in the chain once */
        chain = (struct failover_chain){.tries = 1, .tried = {2}};
        assert_int_equal(hand_on(&chain, 2, 5, NULL), 1);
        assert_int_equal(chain.tried[0], 2);
        assert_int_equal(chain.tried[1], 0);
}

static void with_two_hosts_nobody_is_asked_twice_within_three_tries(void **state)
{
        struct failover_chain chain = {.tries = 0, .tried = {1, 0, 0}};
        struct err e = {0};

        assert_int_equal(hand_on(&chain, 2, 2, &e), 2); /* 1 has just failed: it is not asked at once */
        assert_non_null(strstr(e.text, "no host"));
        assert_int_equal(chain.tries, 1);
        chain = (struct failover_chain){.tries = FAILOVER_TRIES - 1, .tried = {1, 2, 0}};
        e = (struct err){0};
        assert_int_equal(hand_on(&chain, 2, 2, &e), 1); /* the third: a new round */
        assert_int_equal(e.code, 0);
        assert_int_equal(chain.tried[0], 2);
        assert_int_equal(chain.tried[1], 0);
}

static void pauses_grow_from_a_second_to_a_minute(void **state)
{
        static const int64_t want[] = {0, 0, 0, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};

        for (unsigned i = 0; i < ARRAY_SIZE(want); i++)
                assert_int_equal(failover_pause_ms(i), want[i]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(begin_leaves_nothing_of_what_was_there),
            cmocka_unit_test(states_have_names),
            cmocka_unit_test(the_same_priority_goes_by_id),
            cmocka_unit_test(an_item_is_tried_on_three_hosts_and_on_no_fourth),
            cmocka_unit_test(the_dead_host_gets_nothing),
            cmocka_unit_test(only_what_is_placed_is_waited_for),
            cmocka_unit_test(what_was_refused_counts_nowhere),
            cmocka_unit_test(cores_of_what_was_placed_count),
            cmocka_unit_test(what_came_as_placed_counts_as_under_way),
            cmocka_unit_test(an_empty_group_is_none),
            cmocka_unit_test(a_group_is_kept_from_where_its_others_are_not_from_where_they_were),
            cmocka_unit_test(a_chain_forgets_who_failed_longest_ago),
            cmocka_unit_test(with_two_hosts_nobody_is_asked_twice_within_three_tries),
            cmocka_unit_test(pauses_grow_from_a_second_to_a_minute),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
