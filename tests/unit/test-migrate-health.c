/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "migrate/health.h"

static const struct end_view own = {.word = END_POWER_OFF};

static void a_guests_own_power_off_is_its_wish(void **state)
{
        struct end_view v = own;

        assert_true(health_wished_off(&v));
        v.word = END_SIGNAL;
        assert_false(health_wished_off(&v));
        v.word = END_UNKNOWN;
        assert_false(health_wished_off(&v));
}

static void a_press_of_the_power_button_is_not(void **state)
{
        struct end_view v = own;

        v.pressed = true;
        assert_false(health_wished_off(&v));
        v.pressed_ms = HEALTH_BUTTON_MS;
        assert_false(health_wished_off(&v));
        v.pressed_ms = HEALTH_BUTTON_MS + 1; /* it had not listened, and has its own idea hours later */
        assert_true(health_wished_off(&v));
}

static void nor_is_what_hostd_or_the_host_does(void **state)
{
        struct end_view v = own;

        v.ours = true;
        assert_false(health_wished_off(&v));
        v = own, v.host_leaves = true;
        assert_false(health_wished_off(&v));
        v = own, v.rebooted = true;
        assert_false(health_wished_off(&v));
}

static void errors_never_kill_whose_rights_are_its_own(void **state)
{
        struct health_stop s = {0};
        int64_t now = 1000;

        for (int i = 0; i < 100; i++) {
                health_stop_error(&s, now);
                assert_true(health_stop_ask(&s, ROOM_THERE, now));
                assert_int_equal(health_stopped(&s, RIGHTS_MINE, ROOM_THERE, now), HEALTH_STAND);
                assert_false(health_stop_ask(&s, ROOM_THERE, now)); /* answered: until the next try */
                now = s.try_ms;
                assert_true(health_stop_ask(&s, ROOM_THERE, now));
                assert_int_equal(health_stopped(&s, RIGHTS_MINE, ROOM_THERE, now), HEALTH_GO_ON);
        }
}

static void a_refusal_kills_at_the_first_error(void **state)
{
        struct health_stop s = {0};

        health_stop_error(&s, 1000);
        assert_int_equal(health_stopped(&s, RIGHTS_REFUSED, ROOM_NONE, 1000), HEALTH_KILL);
}

static void without_an_answer_it_stands(void **state)
{
        struct health_stop s = {0};

        health_stop_error(&s, 1000);
        assert_int_equal(health_stopped(&s, RIGHTS_UNKNOWN, ROOM_THERE, 1000), HEALTH_STAND);
        assert_true(health_stop_ask(&s, ROOM_THERE, 1001)); /* again at once */
        assert_int_equal(health_stopped(&s, RIGHTS_UNKNOWN, ROOM_UNKNOWN, 90000), HEALTH_STAND);
        assert_int_equal(health_stopped(&s, RIGHTS_MINE, ROOM_UNKNOWN, 90000), HEALTH_GO_ON);
}

static void a_full_storage_is_waited_for(void **state)
{
        struct health_stop s = {0};

        health_stop_error(&s, 1000);
        assert_int_equal(health_stopped(&s, RIGHTS_MINE, ROOM_NONE, 1000), HEALTH_STAND);
        assert_false(health_stop_ask(&s, ROOM_NONE, 900000)); /* however long */
        assert_int_equal(health_stopped(&s, RIGHTS_UNKNOWN, ROOM_NONE, 900000), HEALTH_STAND);
        s = (struct health_stop){0};
        for (int i = 0; i < 6; i++)
                health_stop_error(&s, 1000); /* the next try would be a minute away */
        assert_int_equal(health_stopped(&s, RIGHTS_MINE, ROOM_NONE, 1000), HEALTH_STAND);
        assert_true(health_stop_ask(&s, ROOM_THERE, 1100)); /* room: at once */
        assert_int_equal(health_stopped(&s, RIGHTS_MINE, ROOM_THERE, 1100), HEALTH_GO_ON);
        s = (struct health_stop){0};
        health_stop_error(&s, 1000);
        assert_int_equal(health_stopped(&s, RIGHTS_MINE, ROOM_NONE, 1000), HEALTH_STAND);
        health_stop_error(&s, 1100); /* another error, when there is room: that is not what it stands for */
        assert_true(health_stop_ask(&s, ROOM_THERE, 1100));
        assert_int_equal(health_stopped(&s, RIGHTS_MINE, ROOM_THERE, 1100), HEALTH_STAND);
        assert_false(health_stop_ask(&s, ROOM_THERE, s.try_ms - 1));
        assert_int_equal(health_stopped(&s, RIGHTS_MINE, ROOM_THERE, s.try_ms), HEALTH_GO_ON);
}

static void tries_are_spaced_and_forgiven(void **state)
{
        static const int64_t pauses[] = {2000, 4000, 8000, 16000, 32000, 60000, 60000};
        struct health_stop s = {0};
        int64_t now = 1000;

        for (unsigned i = 0; i < sizeof(pauses) / sizeof(*pauses); i++) {
                health_stop_error(&s, now);
                assert_int_equal(s.try_ms - now, pauses[i]);
                now = s.try_ms + 1;
        }
        now += 200000;
        health_stop_error(&s, now);
        assert_int_equal(s.try_ms - now, 2000);
}

static void a_pause_says_why(void **state)
{
        assert_int_equal(health_pause(true, false, "booted", ROOM_NONE), PAUSE_NONE);
        assert_int_equal(health_pause(true, false, "booted", ROOM_NONE_WAITS), PAUSE_FULL);
        assert_int_equal(health_pause(false, false, "ioerror", ROOM_NONE), PAUSE_FULL);
        assert_int_equal(health_pause(false, true, "ioerror", ROOM_UNKNOWN), PAUSE_ERROR);
        assert_int_equal(health_pause(false, false, "user", ROOM_THERE), PAUSE_SUSPENDED);
        assert_int_equal(health_pause(false, true, "user", ROOM_THERE), PAUSE_PASSING);
        assert_int_equal(health_pause(false, false, "starting-up", ROOM_THERE), PAUSE_PASSING);
        assert_int_equal(health_pause(false, false, "migration", ROOM_NONE), PAUSE_PASSING);
        assert_int_equal(health_pause(false, false, "watchdog", ROOM_THERE), PAUSE_OTHER);
        for (unsigned i = 0; i < PAUSE_MAX; i++)
                assert_string_not_equal(health_pause_name(i), "?");
}

static void restarts_are_spaced(void **state)
{
        static const int64_t pauses[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};

        for (unsigned i = 0; i < sizeof(pauses) / sizeof(*pauses); i++)
                assert_int_equal(health_restart_pause_ms(i + 1), pauses[i]);
        assert_int_equal(health_restart_pause_ms(4000000000u), 60000);
        assert_string_equal(health_end_name("panicked"), "its kernel panicked");
        assert_string_not_equal(health_end_name(""), "");
}

/* A source that no hostd could say yes to stays paused, and nobody asks again. */
static void what_stands_without_a_reason_is_let_go_on(void **state)
{
        int64_t since = 0;

        assert_false(health_stalled(&since, false, false, "migration", 1000));
        assert_false(health_stalled(&since, false, false, "migration", 1000 + HEALTH_STALLED_MS - 1));
        assert_true(health_stalled(&since, false, false, "migration", 1000 + HEALTH_STALLED_MS));
        assert_false(health_stalled(&since, false, true, "migration", 9000)); /* a move is under way */
        assert_false(health_stalled(&since, false, false, "migration", 9001));
        assert_false(health_stalled(&since, false, false, "ioerror", 90000));
        assert_false(health_stalled(&since, false, false, "user", 90001));
        assert_false(health_stalled(&since, true, false, "booted", 90002));
        assert_int_equal(since, 0);
}

static void an_end_is_judged_once(void **state)
{
        struct end_look l = {.record_says_running = true, .ran_at_epoch = true};

        assert_true(health_end_asks(&l));
        l.known = true;
        assert_false(health_end_asks(&l));
        l.heard = true; /* an event tells of an end that was not judged yet */
        assert_true(health_end_asks(&l));
        l = (struct end_look){.record_says_running = true};
        assert_false(health_end_asks(&l));
        l = (struct end_look){.ran_at_epoch = true};
        assert_false(health_end_asks(&l));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(a_guests_own_power_off_is_its_wish),
            cmocka_unit_test(a_press_of_the_power_button_is_not),
            cmocka_unit_test(nor_is_what_hostd_or_the_host_does),
            cmocka_unit_test(errors_never_kill_whose_rights_are_its_own),
            cmocka_unit_test(a_refusal_kills_at_the_first_error),
            cmocka_unit_test(without_an_answer_it_stands),
            cmocka_unit_test(a_full_storage_is_waited_for),
            cmocka_unit_test(tries_are_spaced_and_forgiven),
            cmocka_unit_test(a_pause_says_why),
            cmocka_unit_test(restarts_are_spaced),
            cmocka_unit_test(what_stands_without_a_reason_is_let_go_on),
            cmocka_unit_test(an_end_is_judged_once),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
