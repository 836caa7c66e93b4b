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
                watch_look(&w, 1, true, 42, t);
        assert_false(watch_dead(&w, 1000, 0, 1000));
        for (; t <= 2000; t += 250)
                watch_look(&w, 1, true, 42, t);
        assert_true(watch_dead(&w, 2000, 0, 2000));
        /* not while our own writes do not arrive, and not while it is disarmed */
        assert_false(watch_dead(&w, 2000 - WATCH_OWN_MS - 1, 0, 2000));
        assert_false(watch_dead(&w, 2000, 60000, 2000));
        /* a new epoch begins anew */
        watch_look(&w, 2, true, 42, 2100);
        assert_false(watch_dead(&w, 2100, 0, 2100));
}

static void a_gap_in_our_own_looking_is_no_death(void **state)
{
        struct watch w = {0};

        watch_look(&w, 1, true, 42, 0);
        watch_look(&w, 1, true, 42, 5000); /* we were paused: it may have changed and we cannot tell */
        assert_false(watch_dead(&w, 5000, 0, 5000));
        watch_look(&w, 1, false, 0, 5250); /* the storage did not answer: no look */
        assert_false(watch_dead(&w, 5250, 0, 8000));
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
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
