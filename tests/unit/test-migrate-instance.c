/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/instance-view.h"

/* A look at an instance decides what is done next: instance_decide(). */

static void the_name_alone_decides(void **state)
{
        struct instance_view v = running();

        decides(&v, ACTION_NONE);
        v.host = 2; /* another host has claimed it */
        v.epoch = 6;
        decides(&v, ACTION_KILL);
        v.placement_host = 1; /* made at an older epoch: void */
        v.placement_epoch = 5;
        decides(&v, ACTION_KILL);
        v.qemu = QEMU_NONE;
        decides(&v, ACTION_FORGET);
        v.placement_epoch = 6;
        decides(&v, ACTION_START);
}

static void a_qemu_of_an_older_epoch_is_killed_then_started_by_a_new_claim(void **state)
{
        struct instance_view v = running();

        v.qemu_epoch = 4;
        decides(&v, ACTION_KILL);
        v.qemu_epoch = 0; /* never let run */
        decides(&v, ACTION_KILL);
        v.qemu = QEMU_NONE;
        decides(&v, ACTION_START);
}

static void a_host_that_goes_down_starts_nothing_and_stops_what_it_is_told(void **state)
{
        struct instance_view v = running();

        v.leaving = true;
        decides(&v, ACTION_NONE);
        v.leave = true;
        decides(&v, ACTION_STOP);
        v.qemu = QEMU_PAUSED;
        decides(&v, ACTION_STOP);
        v.entry_epoch = 5, v.entry_source = 1; /* a move from here is open: that is closed first */
        decides(&v, ACTION_RECLAIM);
        v = running(), v.leaving = v.leave = true;
        v.qemu = QEMU_NONE;
        decides(&v, ACTION_NONE);
        v.placement_host = 2, v.placement_epoch = 5; /* handed on */
        decides(&v, ACTION_FORGET);
}

static void a_host_without_heartbeats_starts_nothing(void **state)
{
        struct instance_view v = running();

        v.trusted = false;
        decides(&v, ACTION_NONE); /* and kills nothing that still may write */
        v.qemu_refused = true;
        decides(&v, ACTION_KILL);
        v.qemu = QEMU_NONE;
        decides(&v, ACTION_NONE);
        v.trusted = true;
        v.retry_ms = 100;
        v.now_ms = 99;
        decides(&v, ACTION_NONE);
        v.now_ms = 100;
        decides(&v, ACTION_START);
}

static void wishes_are_carried_out(void **state)
{
        struct instance_view v = running();

        v.wanted = WANTED_STOPPED;
        decides(&v, ACTION_STOP);
        v.qemu = QEMU_NONE;
        v.settled = false;
        decides(&v, ACTION_SETTLE);
        v.settled = true;
        decides(&v, ACTION_FORGET);
        v = running();
        v.restart = true;
        decides(&v, ACTION_RESTART);
        v = running();
        v.move_to = 2;
        v.move_epoch = 5;
        decides(&v, ACTION_MIGRATE);
        v.move_epoch = 4; /* asked for at another epoch: void */
        decides(&v, ACTION_NONE);
        v = running();
        v.wanted = WANTED_DELETED;
        decides(&v, ACTION_KILL);
        v.qemu = QEMU_NONE;
        decides(&v, ACTION_REMOVE);
        v.host = 2;
        v.placement_host = 1;
        v.placement_epoch = 5;
        decides(&v, ACTION_CLAIM);
}

static void a_guest_that_powers_itself_off_stays_off(void **state)
{
        struct instance_view v = running();

        v.qemu = QEMU_NONE;
        v.guest_powered_off = true;
        decides(&v, ACTION_NOTE_OFF);
        v.guest_powered_off = false; /* a crash */
        decides(&v, ACTION_START);
}

static void a_pause_and_a_crash_are_told(void **state)
{
        struct instance_view v = running();

        v.qemu = QEMU_PAUSED;
        v.pause = PAUSE_SUSPENDED;
        decides(&v, ACTION_NONE);
        v.settled = false;
        decides(&v, ACTION_SETTLE);
        v.pause = PAUSE_PASSING; /* it arrives, or starts */
        decides(&v, ACTION_NONE);
        v.pause = PAUSE_SUSPENDED;
        v.move_to = 2;
        v.move_epoch = 5;
        decides(&v, ACTION_MIGRATE); /* which answers why not */
        v.restart = true;
        decides(&v, ACTION_RESTART);
        v = running();
        v.qemu = QEMU_NONE;
        v.settled = false;
        v.retry_ms = 100;
        decides(&v, ACTION_NONE); /* a failed start: its error is told already */
        v.crashed = true;
        decides(&v, ACTION_SETTLE);
        v.settled = true;
        decides(&v, ACTION_NONE);
        v.now_ms = 100;
        decides(&v, ACTION_START);
}

static void actions_have_names(void **state)
{
        for (int i = 0; i < ACTION_MAX; i++) {
                assert_non_null(instance_action_name(i));
                for (int k = 0; k < i; k++)
                        assert_string_not_equal(instance_action_name(i), instance_action_name(k));
        }
        assert_string_equal(instance_action_name(ACTION_MAX), "?");
}

static void what_has_no_record_is_ended_and_forgotten(void **state)
{
        struct instance_view v = running();

        v.record = false;
        decides(&v, ACTION_KILL);
        v.qemu = QEMU_NONE;
        decides(&v, ACTION_FORGET);
}

static void a_running_guests_wishes_have_an_order(void **state)
{
        struct instance_view v = running();

        v.move_to = 2;
        v.move_epoch = 5;
        v.restart = true;
        decides(&v, ACTION_RESTART);
        v.wanted = WANTED_STOPPED;
        decides(&v, ACTION_STOP);
        v.wanted = WANTED_DELETED;
        decides(&v, ACTION_KILL);
        v = running();
        v.move_to = 1; /* it is here */
        v.move_epoch = 5;
        decides(&v, ACTION_NONE);
        v.settled = false;
        decides(&v, ACTION_SETTLE);
        v.qemu = QEMU_PAUSED;
        v.pause = PAUSE_PASSING; /* it starts, or arrives */
        decides(&v, ACTION_NONE);
        v.qemu_go_on = true;
        v.trusted = false; /* no gate would open */
        decides(&v, ACTION_NONE);
        v.qemu_refused = true;
        decides(&v, ACTION_KILL);
}

static void a_guest_that_went_off_may_be_wanted_again(void **state)
{
        struct instance_view v = running();

        v.qemu = QEMU_NONE;
        v.guest_powered_off = true;
        v.restart = true;
        decides(&v, ACTION_START);
        v.restart = false;
        v.wanted = WANTED_STOPPED;
        v.settled = false;
        decides(&v, ACTION_SETTLE);
        v.wanted = WANTED_DELETED;
        decides(&v, ACTION_REMOVE);
}

/* Every view there is, within small bounds, against the rules that may never break. */
static void no_view_breaks_a_rule(void **state)
{
        for (unsigned n = 0; n < 1u << 19; n++) {
                unsigned b = n;
                struct instance_view v = {.me = 1, .record = true, .now_ms = 5, .epoch = 2, .settled = true};
                enum instance_action a;

                v.trusted = b & 1, b >>= 1;
                v.host = b & 1 ? 1 : 2, b >>= 1;
                v.wanted = (b & 3) % 3, b >>= 2;
                v.placement_host = b & 1 ? 1 : 2, b >>= 1;
                v.placement_epoch = b & 1 ? 2 : 1, b >>= 1;
                v.restart = b & 1, b >>= 1;
                v.move_to = b & 1 ? 2 : 0, b >>= 1;
                v.move_epoch = 2;
                v.entry_source = b & 1 ? 1 : 2, b >>= 1;
                v.entry_destination = 3 - v.entry_source;
                v.entry_epoch = b & 3, b >>= 2;
                v.qemu = (b & 3) % 3, b >>= 2;
                v.qemu_epoch = b & 3, b >>= 2;
                v.qemu_of_entry = b & 1, b >>= 1;
                v.qemu_refused = b & 1, b >>= 1;
                v.qemu_go_on = b & 1, b >>= 1;
                v.retry_ms = b & 1 ? 6 : 5, b >>= 1;
                a = instance_decide(&v);
                if (a == ACTION_START) {
                        assert_true(v.trusted && v.now_ms >= v.retry_ms && v.qemu == QEMU_NONE);
                        assert_true(v.wanted == WANTED_RUNNING);
                        assert_true(v.placement_epoch == v.epoch ? v.placement_host == v.me
                                                                 : v.host == v.me);
                }
                if (a == ACTION_REMOVE)
                        assert_true(v.wanted == WANTED_DELETED && v.qemu == QEMU_NONE);
                if (a == ACTION_CLAIM)
                        assert_true(v.wanted != WANTED_RUNNING && v.qemu == QEMU_NONE);
                if (a == ACTION_REMOVE || a == ACTION_MIGRATE || a == ACTION_RESUME || a == ACTION_RECLAIM ||
                    a == ACTION_STOP || a == ACTION_RESTART)
                        assert_int_equal(v.host, v.me);
                if (a == ACTION_CLAIM)
                        assert_true(v.trusted && v.placement_host == v.me && v.placement_epoch == v.epoch);
                /* Also of one that stands: the move is refused with its reason. */
                if (a == ACTION_MIGRATE || a == ACTION_RESTART)
                        assert_true(v.qemu != QEMU_NONE && !v.qemu_refused && v.qemu_epoch == v.epoch);
                if (a == ACTION_RESUME)
                        assert_true(v.qemu == QEMU_PAUSED && v.trusted);
                if (a == ACTION_KILL)
                        assert_true(v.qemu != QEMU_NONE);
                /* An entry that might still commit stands before everything that lets the source run on. */
                if (v.qemu != QEMU_NONE && v.host == v.me && v.entry_source == v.me &&
                    v.entry_epoch == v.epoch)
                        assert_true(a == ACTION_RECLAIM || a == ACTION_KILL);
                /* Nobody's running QEMU stays. */
                if (v.qemu == QEMU_RUNNING && v.host != v.me &&
                    !(v.qemu_of_entry && v.entry_epoch == v.epoch && v.entry_destination == v.me))
                        assert_int_equal(a, ACTION_KILL);
        }
}

/* The gate lets a process that was let run before go on; a start under way has to ask. */
static void what_was_let_run_is_adopted(void **state)
{
        struct instance_view v = running();

        assert_true(instance_adopts(&v));
        v.qemu = QEMU_PAUSED;
        v.pause = PAUSE_PASSING;
        assert_false(instance_adopts(&v));
        v.pause = PAUSE_ERROR;
        assert_true(instance_adopts(&v));
        v.pause = PAUSE_PASSING, v.qemu_go_on = true;
        assert_true(instance_adopts(&v));
        v.qemu_go_on = false, v.entry_source = 1, v.entry_epoch = 5; /* it stands after its switchover */
        assert_true(instance_adopts(&v));
        v.entry_epoch = 4;
        assert_false(instance_adopts(&v));
        v = running(), v.qemu_epoch = 4;
        assert_false(instance_adopts(&v));
        v = running(), v.host = 2;
        assert_false(instance_adopts(&v));
        v = running(), v.qemu = QEMU_NONE;
        assert_false(instance_adopts(&v));
}

static void an_end_that_nobody_wished_is_a_crash(void **state)
{
        struct instance_view v = running();

        assert_false(instance_crashed(&v, true));
        v.qemu = QEMU_NONE;
        assert_true(instance_crashed(&v, true));
        assert_false(instance_crashed(&v, false)); /* told before */
        v.guest_powered_off = true;
        assert_false(instance_crashed(&v, true));
        v.guest_powered_off = false, v.host = 2; /* it has left */
        assert_false(instance_crashed(&v, true));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(the_name_alone_decides),
            cmocka_unit_test(a_qemu_of_an_older_epoch_is_killed_then_started_by_a_new_claim),
            cmocka_unit_test(a_host_that_goes_down_starts_nothing_and_stops_what_it_is_told),
            cmocka_unit_test(a_host_without_heartbeats_starts_nothing),
            cmocka_unit_test(wishes_are_carried_out),
            cmocka_unit_test(a_guest_that_powers_itself_off_stays_off),
            cmocka_unit_test(a_pause_and_a_crash_are_told),
            cmocka_unit_test(actions_have_names),
            cmocka_unit_test(what_has_no_record_is_ended_and_forgotten),
            cmocka_unit_test(a_running_guests_wishes_have_an_order),
            cmocka_unit_test(a_guest_that_went_off_may_be_wanted_again),
            cmocka_unit_test(no_view_breaks_a_rule),
            cmocka_unit_test(what_was_let_run_is_adopted),
            cmocka_unit_test(an_end_that_nobody_wished_is_a_crash),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
