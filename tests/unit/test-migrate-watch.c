/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/util.h"
#include "migrate/watch.h"

static void the_ring_holds_living_hosts_in_order(void **state)
{
        const struct ring_host hosts[] = {
            {.number = 7}, {.number = 2}, {.number = 4, .state = HOST_DEAD}, {.number = 9}, {.number = 3}};
        unsigned n[4];

        assert_int_equal(ring_neighbours(hosts, 5, 2, n, 4), 2);
        assert_int_equal(n[0], 3);
        assert_int_equal(n[1], 7);
        assert_int_equal(ring_neighbours(hosts, 5, 9, n, 4), 2);
        assert_int_equal(n[0], 2);
        assert_int_equal(n[1], 3);
        assert_int_equal(ring_neighbours(hosts, 5, 7, n, 4), 2);
        assert_int_equal(n[0], 9);
        assert_int_equal(n[1], 2);
        assert_int_equal(ring_neighbours(hosts, 1, 7, n, 4), 0);
}

static void two_hosts_watch_each_other(void **state)
{
        const struct ring_host hosts[] = {{.number = 1}, {.number = 2, .state = HOST_STOPPED}};
        unsigned n[2];

        assert_int_equal(ring_neighbours(hosts, 2, 1, n, 2), 1);
        assert_int_equal(n[0], 2);
        assert_int_equal(ring_neighbours(hosts, 2, 2, n, 2), 1);
        assert_int_equal(n[0], 1);
}

/* Whatever set lives: every living host is watched by someone else, when there are two. */
static void everybody_is_watched(void **state)
{
        for (unsigned set = 0; set < 256; set++) {
                struct ring_host hosts[8];
                unsigned living = 0;

                for (unsigned i = 0; i < 8; i++) {
                        hosts[i] = (struct ring_host){.number = i * 3 + 1,
                                                      .state = set >> i & 1 ? HOST_UP : HOST_DEAD};
                        living += set >> i & 1;
                }
                for (unsigned i = 0; i < 8 && living > 1; i++) {
                        bool watched = hosts[i].state == HOST_DEAD;

                        for (unsigned k = 0; k < 8; k++) {
                                unsigned n[WATCH_NEIGHBOURS];
                                size_t found =
                                    ring_neighbours(hosts, 8, hosts[k].number, n, WATCH_NEIGHBOURS);

                                for (size_t x = 0; x < found; x++)
                                        watched |=
                                            hosts[k].state != HOST_DEAD && n[x] == hosts[i].number && k != i;
                        }
                        assert_true(watched);
                }
        }
}

static void the_heir_follows_the_chain_of_winners(void **state)
{
        struct ring_host hosts[] = {{.number = 1, .state = HOST_DEAD, .taken_by = 2},
                                    {.number = 2, .state = HOST_DEAD, .taken_by = 3},
                                    {.number = 3}};

        assert_int_equal(ring_heir(hosts, 3, 2), 3);
        assert_int_equal(ring_heir(hosts, 3, 3), 3);
        assert_int_equal(ring_heir(hosts, 3, 8), 0);
        hosts[1].taken_by = 1; /* a circle of the dead ends, too */
        assert_int_equal(ring_heir(hosts, 3, 1), 0);
}

static void a_still_counter_is_death_after_two_seconds(void **state)
{
        struct watch w = {0};
        int64_t t;

        for (t = 0; t <= 1000; t += 250)
                watch_look(&w, 1, true, 42, t, t);
        assert_false(watch_dead(&w, 1000, 0, 1000));
        for (; t <= 2000; t += 250)
                watch_look(&w, 1, true, 42, t, t);
        assert_true(watch_dead(&w, 2000, 0, 2000));
        /* not while our own writes do not arrive, and not while it is disarmed */
        assert_false(watch_dead(&w, 2000 - WATCH_OWN_MS - 1, 0, 2000));
        assert_false(watch_dead(&w, 2000, 60000, 2000));
        /* a new epoch begins anew */
        watch_look(&w, 2, true, 42, 2100, 2100);
        assert_false(watch_dead(&w, 2100, 0, 2100));
}

static void a_gap_in_our_own_looking_is_no_death(void **state)
{
        struct watch w = {0};

        watch_look(&w, 1, true, 42, 0, 0);
        watch_look(&w, 1, true, 42, 5000, 5000); /* we were paused: it may have changed and we cannot tell */
        assert_false(watch_dead(&w, 5000, 0, 5000));
        watch_look(&w, 1, false, 0, 5250, 5250); /* the storage did not answer: no look */
        assert_false(watch_dead(&w, 5250, 0, 8000));
}

static void states_have_names_both_ways(void **state)
{
        for (int i = 0; i < HOST_STATE_MAX; i++)
                assert_int_equal(host_state_parse(host_state_name(i)), i);
        assert_string_equal(host_state_name(HOST_DEAD), "dead");
        assert_string_equal(host_state_name(HOST_STATE_MAX), "?");
        assert_int_equal(host_state_parse("gone"), -1);
        assert_int_equal(host_state_parse(""), -1);
        assert_int_equal(host_state_parse(NULL), -1);
}

static void no_more_neighbours_than_there_is_room_for(void **state)
{
        const struct ring_host hosts[] = {{.number = 1}, {.number = 2}, {.number = 3}, {.number = 4}};
        unsigned n[4] = {77, 77, 77, 77};

        assert_int_equal(ring_neighbours(hosts, 4, 1, n, 0), 0);
        assert_int_equal(n[0], 77);
        assert_int_equal(ring_neighbours(hosts, 4, 1, n, 1), 1);
        assert_int_equal(n[0], 2);
        assert_int_equal(n[1], 77);
        assert_int_equal(ring_neighbours(hosts, 4, 1, n, 4), WATCH_NEIGHBOURS);
        assert_int_equal(n[WATCH_NEIGHBOURS], 77);
        assert_int_equal(ring_neighbours(hosts, 4, 9, n, 4), 2); /* who is not on it yet */
        assert_int_equal(n[0], 1);
}

static void the_heir_of_a_long_chain_is_its_last(void **state)
{
        struct ring_host hosts[] = {{.number = 1, .state = HOST_DEAD, .taken_by = 2},
                                    {.number = 2, .state = HOST_DEAD, .taken_by = 3},
                                    {.number = 3, .state = HOST_STOPPED}};

        assert_int_equal(ring_heir(hosts, 3, 1), 3); /* not dead: stopped in order */
        hosts[2].state = HOST_DEAD;
        hosts[2].taken_by = 9; /* not in the list */
        assert_int_equal(ring_heir(hosts, 3, 1), 0);
        assert_int_equal(ring_heir(hosts, 0, 1), 0);
}

/* Looks every 100 ms from..to at a counter that stands still. */
static void look_on(struct watch *w, int64_t from, int64_t to)
{
        for (int64_t t = from; t <= to; t += 100)
                watch_look(w, 1, true, 42, t, t);
}

static void two_seconds_are_two_seconds(void **state)
{
        struct watch w = {0};

        watch_look(&w, 1, true, 41, 0, 0);
        look_on(&w, 100, 2000);
        assert_false(watch_dead(&w, 2000, 0, 2000));
        watch_look(&w, 1, true, 42, 2099, 2099);
        assert_false(watch_dead(&w, 2099, 0, 2099));
        watch_look(&w, 1, true, 42, 2100, 2100);
        assert_true(watch_dead(&w, 2100, 0, 2100));
        assert_true(watch_dead(&w, 2100 - WATCH_OWN_MS, 0, 2100));
        assert_false(watch_dead(&w, 2100 - WATCH_OWN_MS - 1, 0, 2100));
        assert_false(watch_dead(&w, 2100, 1, 2100)); /* stopped in order: that much longer */
        look_on(&w, 2200, 2900);
        assert_true(watch_dead(&w, 2900, 800, 2900));
        assert_false(watch_dead(&w, 2900, 801, 2900));
        /* what was seen long ago says nothing about now */
        assert_true(watch_dead(&w, 2900 + WATCH_GAP_MS, 0, 2900 + WATCH_GAP_MS));
        assert_false(watch_dead(&w, 2900 + WATCH_GAP_MS + 1, 0, 2900 + WATCH_GAP_MS + 1));
        watch_look(&w, 1, true, 43, 3000, 3000); /* it lives */
        assert_false(watch_dead(&w, 3000, 0, 3000));
}

static void never_seen_is_not_dead(void **state)
{
        struct watch w = {0};

        assert_false(watch_dead(&w, 0, 0, 0));
        assert_false(watch_dead(&w, 1000, -WATCH_DEAD_MS, 1000));
}

static void a_gap_is_longer_than_its_limit(void **state)
{
        struct watch w = {0};

        watch_look(&w, 1, true, 42, 0, 0);
        watch_look(&w, 1, true, 42, WATCH_GAP_MS, WATCH_GAP_MS);
        assert_int_equal(w.changed_ms, 0);
        watch_look(&w, 1, true, 42, 2 * WATCH_GAP_MS, 2 * WATCH_GAP_MS);
        assert_true(watch_dead(&w, 2 * WATCH_GAP_MS, 0, 2 * WATCH_GAP_MS));
        watch_look(&w, 1, true, 42, 3 * WATCH_GAP_MS + 1, 3 * WATCH_GAP_MS + 1);
        assert_int_equal(w.changed_ms, 3 * WATCH_GAP_MS + 1);
        assert_false(watch_dead(&w, 3 * WATCH_GAP_MS + 1, 0, 3 * WATCH_GAP_MS + 1));
}

/* The storage answers no read for seconds, and the neighbour beats on: it must not die of that. */
static void a_stall_of_reads_is_no_death(void **state)
{
        struct watch w = {0};
        int64_t t;

        watch_look(&w, 1, true, 42, 0, 0);
        for (t = 100; t <= 5000; t += 100) {
                watch_look(&w, 1, false, 0, t, t);
                assert_false(watch_dead(&w, t, 0, t));
        }
        assert_int_equal(w.counter, 42);
        watch_look(&w, 1, true, 42, t, t); /* it answers again, and the counter happens to be the same */
        assert_false(watch_dead(&w, t, 0, t));
        look_on(&w, t + 100, t + WATCH_DEAD_MS - 100);
        assert_false(watch_dead(&w, t + WATCH_DEAD_MS - 100, 0, t + WATCH_DEAD_MS - 100));
        look_on(&w, t + WATCH_DEAD_MS, t + WATCH_DEAD_MS);
        assert_true(watch_dead(&w, t + WATCH_DEAD_MS, 0, t + WATCH_DEAD_MS));
        w = (struct watch){0};
        for (t = 0; t <= 5000; t += 100) { /* never an answer */
                watch_look(&w, 1, false, 0, t, t);
                assert_false(watch_dead(&w, t, 0, t));
        }
}

/* Of the same counter as before, too: the new one has begun at it. */
static void another_epoch_is_another_life(void **state)
{
        struct watch w = {0};

        look_on(&w, 0, 3000);
        assert_true(watch_dead(&w, 3000, 0, 3000));
        watch_look(&w, 2, true, 42, 3100, 3100);
        assert_int_equal(w.epoch, 2);
        assert_int_equal(w.changed_ms, 3100);
        watch_look(&w, 1, true, 42, 3200, 3200); /* an older one is another one */
        assert_int_equal(w.changed_ms, 3200);
}

/* An answer that took long says what the counter was at some time since its question. */
static void a_slow_answer_proves_no_more_than_its_question(void **state)
{
        struct watch w = {0};

        watch_look(&w, 1, true, 42, 0, 10);
        watch_look(&w, 1, true, 42, 900, 910);
        watch_look(&w, 1, true, 42, 1100, 2400);
        assert_false(watch_dead(&w, 2400, 0, 2400));
        watch_look(&w, 1, true, 42, 2450, 2460);
        assert_true(watch_dead(&w, 2460, 0, 2460));
        assert_int_equal(watch_pause_ms(&w), WATCH_LOOK_MS);
}

static void it_looks_closely_when_a_verdict_is_near(void **state)
{
        struct watch w = {0};

        assert_int_equal(watch_pause_ms(&w), WATCH_LOOK_MS);
        for (int64_t t = 0; t <= 4000; t += 250) {
                watch_look(&w, 1, true, 42, t, t);
                assert_int_equal(watch_pause_ms(&w),
                                 t >= 1750 && t < 2250 ? WATCH_CLOSELY_MS : WATCH_LOOK_MS);
        }
}

static void blindness_is_told_once_and_its_end_once(void **state)
{
        struct sight s = {.able_ms = 1000};

        assert_int_equal(sight_look(&s, false, 1000 + WATCH_BLIND_MS - 1), SIGHT_SAME);
        assert_int_equal(sight_look(&s, false, 1000 + WATCH_BLIND_MS), SIGHT_LOST);
        assert_true(s.blind);
        assert_int_equal(sight_look(&s, false, 1000 + 9 * WATCH_BLIND_MS), SIGHT_SAME);
        assert_int_equal(sight_look(&s, true, 2000 + 9 * WATCH_BLIND_MS), SIGHT_BACK);
        assert_false(s.blind);
        assert_int_equal(sight_look(&s, true, 3000 + 9 * WATCH_BLIND_MS), SIGHT_SAME);
}

/* Each answer comes, but with gaps: no verdict is ever possible, so this is blindness, too. */
static void answers_with_gaps_are_no_sight(void **state)
{
        struct watch w = {0};
        int64_t t;

        for (t = 0; t <= 20000; t += WATCH_GAP_MS + 1) {
                watch_look(&w, 1, true, (uint64_t)t, t, t);
                assert_false(watch_able(&w, t, t));
        }
        for (int64_t begun = t; t <= begun + WATCH_DEAD_MS; t += 250) {
                watch_look(&w, 1, true, (uint64_t)t, t, t);
                assert_int_equal(watch_able(&w, t, t), t - begun >= WATCH_DEAD_MS);
        }
        assert_false(watch_able(&w, t - WATCH_OWN_MS - 1, t)); /* our own writes do not arrive */
}

static void who_comes_home_waits_for_those_it_has_not_seen(void **state)
{
        struct homecoming home = {.returning = true, .joined_ms = 1000};
        struct watch w = {0};

        watch_look(&w, 1, true, 42, 1000, 1000);
        assert_true(watch_waits(&w, 7, &home, 1000));
        assert_true(watch_waits(&w, 7, &home, 1000 + WATCH_RETURN_MS - 1));
        assert_false(watch_waits(&w, 7, &home, 1000 + WATCH_RETURN_MS));
        home.met = true; /* others were here all along */
        assert_false(watch_waits(&w, 7, &home, 1000));
        home.met = false;
        watch_look(&w, 1, true, 43, 1200, 1200); /* a write that was under way when its host died */
        assert_true(watch_waits(&w, 7, &home, 1200));
        watch_look(&w, 1, true, 44, 1200, 1200); /* it was alive a moment ago */
        assert_false(watch_waits(&w, 7, &home, 1200));
        watch_look(&w, 2, true, 44, 1300, 1300);
        assert_true(watch_waits(&w, 7, &home, 1300));
        home.returning = false; /* an upgrade of hostd is no start of the machine */
        assert_false(watch_waits(&w, 7, &home, 1300));
}

/* It died again before its second heartbeat of this epoch. */
static void who_has_joined_since_is_not_waited_for(void **state)
{
        const struct ring_host first[] = {{.number = 6, .epoch = 9}, {.number = 7, .epoch = 4}};
        struct homecoming home = {.returning = true, .joined_ms = 1000, .first = first, .n_first = 2};
        struct watch w = {0};

        watch_look(&w, 4, true, 42, 2000, 2000);
        assert_true(watch_waits(&w, 7, &home, 2000));
        watch_look(&w, 5, true, 42, 2100, 2100);
        assert_false(watch_waits(&w, 7, &home, 2100));
        assert_true(watch_waits(&w, 6, &home, 2100));
        assert_false(watch_waits(&w, 8, &home, 2100)); /* a new host */
        home.first = NULL;
        home.n_first = 0;
        assert_true(watch_waits(&w, 8, &home, 2100)); /* nothing was listed yet */
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(the_ring_holds_living_hosts_in_order),
            cmocka_unit_test(two_hosts_watch_each_other),
            cmocka_unit_test(everybody_is_watched),
            cmocka_unit_test(the_heir_follows_the_chain_of_winners),
            cmocka_unit_test(a_still_counter_is_death_after_two_seconds),
            cmocka_unit_test(a_gap_in_our_own_looking_is_no_death),
            cmocka_unit_test(states_have_names_both_ways),
            cmocka_unit_test(no_more_neighbours_than_there_is_room_for),
            cmocka_unit_test(the_heir_of_a_long_chain_is_its_last),
            cmocka_unit_test(two_seconds_are_two_seconds),
            cmocka_unit_test(never_seen_is_not_dead),
            cmocka_unit_test(a_gap_is_longer_than_its_limit),
            cmocka_unit_test(a_stall_of_reads_is_no_death),
            cmocka_unit_test(another_epoch_is_another_life),
            cmocka_unit_test(a_slow_answer_proves_no_more_than_its_question),
            cmocka_unit_test(it_looks_closely_when_a_verdict_is_near),
            cmocka_unit_test(blindness_is_told_once_and_its_end_once),
            cmocka_unit_test(answers_with_gaps_are_no_sight),
            cmocka_unit_test(who_comes_home_waits_for_those_it_has_not_seen),
            cmocka_unit_test(who_has_joined_since_is_not_waited_for),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
