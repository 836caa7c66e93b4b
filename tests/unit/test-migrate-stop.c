/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "migrate/stop.h"

/* By its user, at 1000, a moment ago. */
static const struct stop_view asked = {.wanted = WANTED_STOPPED,
                                       .begun_ms = 1000,
                                       .asked_ms = 1000,
                                       .now_ms = 1001,
                                       .here = true,
                                       .running = true};

static void it_is_asked_again_and_again_for_a_minute(void **state)
{
        struct stop_view v = asked;

        v.asked_ms = 0;
        assert_int_equal(stop_step(&v), STOP_ASK);
        v = asked;
        assert_int_equal(stop_step(&v), STOP_WAIT);
        v.now_ms = 1000 + STOP_ASK_MS - 1;
        assert_int_equal(stop_step(&v), STOP_WAIT);
        v.now_ms++;
        assert_int_equal(stop_step(&v), STOP_ASK);
        v.now_ms = v.asked_ms = 1000 + STOP_PATIENCE_MS - 1;
        assert_int_equal(stop_step(&v), STOP_WAIT);
        v.now_ms++;
        assert_int_equal(stop_step(&v), STOP_FORCE);
}

static void a_wish_that_was_taken_back_is_none(void **state)
{
        struct stop_view now = asked;

        assert_false(stop_withdrawn(&asked, &now));
        now.wanted = WANTED_RUNNING;
        assert_true(stop_withdrawn(&asked, &now));
        assert_false(stop_withdrawn(&now, &now)); /* nobody had it: its network is the reason */
        now.restart = true;
        assert_false(stop_withdrawn(&asked, &now));
        now.restart = false, now.leave = true;
        assert_false(stop_withdrawn(&asked, &now));
}

static void an_end_and_a_loss_come_first(void **state)
{
        struct stop_view v = asked;

        v.force = true;
        assert_int_equal(stop_step(&v), STOP_FORCE);
        v.lost = true; /* then it is not this host's to end in the name of its user */
        assert_int_equal(stop_step(&v), STOP_LOST);
        v.here = false;
        assert_int_equal(stop_step(&v), STOP_ENDED);
}

/* It would hear nothing for a minute. */
static void one_that_stands_is_ended_at_once(void **state)
{
        static const enum health_pause stands[] = {PAUSE_FULL, PAUSE_ERROR, PAUSE_SUSPENDED, PAUSE_OTHER};
        struct stop_view v = asked;

        for (size_t i = 0; i < sizeof(stands) / sizeof(*stands); i++) {
                v.running = false, v.pause = stands[i];
                assert_int_equal(stop_step(&v), STOP_FORCE);
        }
        v.pause = PAUSE_PASSING; /* it arrives, or is just powering off */
        assert_int_equal(stop_step(&v), STOP_WAIT);
        v.running = true, v.pause = PAUSE_FULL; /* only its writes wait: it may hear */
        assert_int_equal(stop_step(&v), STOP_WAIT);
}

/* Whose wish an end is decides how it comes about. */
static void an_end_is_forced_by_its_user_only(void **state)
{
        struct stop_view v = asked;

        v.wanted = WANTED_RUNNING, v.force = true; /* that was another stop's */
        assert_true(!stop_forced(&v) && stop_step(&v) == STOP_WAIT);
        v.leave = true;
        assert_true(!stop_forced(&v) && stop_step(&v) == STOP_WAIT);
        v.restart = true;
        assert_true(stop_forced(&v) && stop_step(&v) == STOP_FORCE);
        v = asked, v.force = true;
        assert_true(stop_forced(&v));
        v = asked, v.wanted = WANTED_DELETED;
        assert_true(stop_forced(&v) && stop_step(&v) == STOP_FORCE);
        v = asked, v.wanted = WANTED_RUNNING, v.leave = true, v.at_once = true;
        assert_true(stop_forced(&v) && stop_step(&v) == STOP_FORCE);
        v = asked;
        assert_false(stop_forced(&v));
}

static void what_stands_is_not_ended_for_its_network(void **state)
{
        struct stop_view v = asked;

        v.wanted = WANTED_RUNNING, v.running = false, v.pause = PAUSE_ERROR, v.force = true;
        assert_int_equal(stop_step(&v), STOP_GIVE_UP);
        v.now_ms = 1000 + STOP_PATIENCE_MS;
        assert_int_equal(stop_step(&v), STOP_GIVE_UP);
        v.leave = true;
        assert_int_equal(stop_step(&v), STOP_FORCE);
        v.leave = false, v.restart = true;
        assert_int_equal(stop_step(&v), STOP_FORCE);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(it_is_asked_again_and_again_for_a_minute),
            cmocka_unit_test(a_wish_that_was_taken_back_is_none),
            cmocka_unit_test(an_end_and_a_loss_come_first),
            cmocka_unit_test(one_that_stands_is_ended_at_once),
            cmocka_unit_test(an_end_is_forced_by_its_user_only),
            cmocka_unit_test(what_stands_is_not_ended_for_its_network),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
