/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/instance-view.h"

/* Placements, and starts that are handed on, decide which host starts an instance. */

static void a_placement_that_nobody_takes_goes_on(void **state)
{
        struct instance_view v = running();

        v.qemu = QEMU_NONE;
        v.placement_host = 2; /* handed on by me, or a user's start */
        v.placement_epoch = 5;
        v.now_ms = 100000;
        v.placed_ms = v.now_ms;
        decides(&v, ACTION_NONE);
        v.now_ms += PLACEMENT_PATIENCE_MS;
        decides(&v, ACTION_HAND_ON);
        v.placed_pause_ms = 60000; /* that one starts it then, and not before */
        decides(&v, ACTION_NONE);
        v.now_ms += 60000;
        decides(&v, ACTION_HAND_ON);
        v.trusted = false;
        decides(&v, ACTION_NONE);
        v.trusted = true;
        v.wanted = WANTED_STOPPED;
        decides(&v, ACTION_FORGET);
        v.wanted = WANTED_RUNNING;
        v.host = 2; /* taken */
        v.epoch = 6;
        decides(&v, ACTION_FORGET);
}

/* A placement that counts gives the instance to that host, even though the name is still mine. */
static void what_is_placed_elsewhere_is_not_started_here(void **state)
{
        struct instance_view v = running();

        v.qemu = QEMU_NONE;
        v.placement_host = 2;
        v.placement_epoch = 5;
        decides(&v, ACTION_NONE); /* until that one has claimed it, or is late */
        v.placement_epoch = 4;    /* void */
        decides(&v, ACTION_START);
        v.placement_epoch = 5;
        v.placement_host = 1;
        decides(&v, ACTION_START);
        v.placement_host = 2;
        v.host = 3;
        decides(&v, ACTION_FORGET);
        v.wanted = WANTED_DELETED;
        decides(&v, ACTION_FORGET);
        v.placement_host = 1;
        v.trusted = false;
        decides(&v, ACTION_NONE);
        v.wanted = WANTED_RUNNING;
        decides(&v, ACTION_NONE);
        v.wanted = WANTED_STOPPED; /* stopped before it was ever here */
        v.told_off = true;
        decides(&v, ACTION_FORGET);
        v.wanted = WANTED_RUNNING;
        v.trusted = true;
        v.retry_ms = 10;
        v.now_ms = 9;
        decides(&v, ACTION_NONE);
        v.now_ms = 10;
        decides(&v, ACTION_START);
}

static void what_a_dead_owner_cannot_say_its_heir_says(void **state)
{
        struct instance_view v = running();

        v.host = 2;
        v.qemu = QEMU_NONE;
        v.placement_host = 1;
        v.placement_epoch = 5;
        v.wanted = WANTED_STOPPED;
        v.settled = false;
        decides(&v, ACTION_CLAIM);
        v.told_off = true;
        decides(&v, ACTION_FORGET);
        v.told_off = v.trusted = false;
        decides(&v, ACTION_NONE);
        v.host = 1; /* claimed */
        decides(&v, ACTION_SETTLE);
}

static void a_host_without_libvirt_hands_on(void **state)
{
        struct instance_view v = running();

        v.qemu = QEMU_NONE;
        v.now_ms = v.no_libvirt_ms = 100000;
        decides(&v, ACTION_NONE); /* it may be restarted only */
        v.now_ms += LIBVIRT_PATIENCE_MS;
        decides(&v, ACTION_HAND_ON);
        v.host = 0; /* placed here, and not claimed */
        v.placement_host = 1;
        v.placement_epoch = 5;
        decides(&v, ACTION_HAND_ON);
        v.fixed = true;
        decides(&v, ACTION_NONE);
}

/* Nobody else may start it, and the start waits without an end: that has to be written down. */
static void a_start_that_is_tied_to_a_host_without_libvirt_says_so(void **state)
{
        struct instance_view v = running();

        v.qemu = QEMU_NONE;
        v.fixed = true;
        v.trusted = true;
        v.settled = false;
        v.retry_ms = 0;
        v.now_ms = LIBVIRT_PATIENCE_MS + 4;
        v.no_libvirt_ms = 5; /* a daemon that is started again */
        decides(&v, ACTION_NONE);
        v.now_ms++;
        assert_true(instance_waits_for_libvirt(&v));
        decides(&v, ACTION_SETTLE);
        v.settled = true;
        decides(&v, ACTION_NONE);
        v.host = 0; /* placed here, and not claimed yet */
        v.placement_host = 1, v.placement_epoch = v.epoch;
        v.settled = false;
        decides(&v, ACTION_SETTLE);
        v.fixed = false;
        assert_false(instance_waits_for_libvirt(&v));
        decides(&v, ACTION_HAND_ON);
        v.fixed = true, v.wanted = WANTED_STOPPED;
        assert_false(instance_waits_for_libvirt(&v));
        v.wanted = WANTED_RUNNING, v.leaving = true; /* it starts nothing anyway */
        assert_false(instance_waits_for_libvirt(&v));
        v.leaving = false, v.host = 1, v.placement_host = 2; /* another is to start it */
        assert_false(instance_waits_for_libvirt(&v));
}

static void three_failed_starts_try_another_host(void **state)
{
        struct instance_view v = running();

        v.qemu = QEMU_NONE;
        v.failed_starts = STARTS_HERE - 1;
        decides(&v, ACTION_START);
        v.failed_starts = STARTS_HERE;
        decides(&v, ACTION_HAND_ON);
        v.retry_ms = 10;
        decides(&v, ACTION_NONE);
        v.retry_ms = 0;
        v.fixed = true;
        decides(&v, ACTION_START);
}

static void the_time_of_a_placement_begins_when_it_is_seen(void **state)
{
        struct placement_watch w = {0};
        struct instance_view v = running();

        v.qemu = QEMU_NONE;
        v.now_ms = 100;
        assert_int_equal(placement_look(&w, &v), 0);
        v.placement_host = 2, v.placement_epoch = 5;
        assert_int_equal(placement_look(&w, &v), 100);
        v.now_ms = 200;
        assert_int_equal(placement_look(&w, &v), 100);
        v.placement_host = 3; /* the next one has time of its own */
        assert_int_equal(placement_look(&w, &v), 200);
        v.epoch = v.placement_epoch = 6, v.now_ms = 300;
        assert_int_equal(placement_look(&w, &v), 300);
        v.qemu = QEMU_RUNNING;
        assert_int_equal(placement_look(&w, &v), 0);
        v.qemu = QEMU_NONE, v.epoch = 7; /* void */
        assert_int_equal(placement_look(&w, &v), 0);
        v.placement_epoch = 7, v.placement_host = 1; /* it is to start here */
        assert_int_equal(placement_look(&w, &v), 0);
}

static void a_placement_is_open_until_something_has_run_by_it(void **state)
{
        assert_true(placement_open(1, 5, 2, 5, 5));  /* not claimed yet */
        assert_true(placement_open(1, 5, 1, 7, 5));  /* claimed twice, and nothing has run */
        assert_false(placement_open(1, 5, 1, 7, 6)); /* it ran at the first of them */
        assert_false(placement_open(1, 5, 2, 7, 5)); /* another has claimed */
        assert_false(placement_open(0, 0, 0, 7, 0));
        assert_false(placement_open(1, 8, 1, 7, 5));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(a_placement_that_nobody_takes_goes_on),
            cmocka_unit_test(what_is_placed_elsewhere_is_not_started_here),
            cmocka_unit_test(what_a_dead_owner_cannot_say_its_heir_says),
            cmocka_unit_test(a_host_without_libvirt_hands_on),
            cmocka_unit_test(a_start_that_is_tied_to_a_host_without_libvirt_says_so),
            cmocka_unit_test(three_failed_starts_try_another_host),
            cmocka_unit_test(the_time_of_a_placement_begins_when_it_is_seen),
            cmocka_unit_test(a_placement_is_open_until_something_has_run_by_it),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
