/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "migrate/move.h"

/* From host 1, which owns epoch 7, to host 2. */
static const struct move_view begun = {
    .asked_epoch = 7, .to = 2, .entry = true, .run_epoch = 7, .epoch = 7, .host = 1};

static void an_attempt_is_open_until_somebody_claims(void **state)
{
        struct move_view v = begun;

        assert_int_equal(move_verdict(&v), MOVE_OPEN);
        v.entry = false;
        assert_int_equal(move_verdict(&v), MOVE_OPEN);
}

static void it_is_done_once_its_qemu_may_run(void **state)
{
        struct move_view v = begun;

        v.epoch = 8, v.host = 2;
        assert_int_equal(move_verdict(&v), MOVE_OPEN); /* between its claim and its record */
        v.arrived = true, v.run_epoch = 8;
        assert_int_equal(move_verdict(&v), MOVE_DONE);
        v.epoch = 12, v.host = 3; /* whatever came afterwards */
        assert_int_equal(move_verdict(&v), MOVE_DONE);
}

static void it_has_failed_once_the_source_runs_on(void **state)
{
        struct move_view v = begun;

        v.epoch = 8;
        assert_int_equal(move_verdict(&v), MOVE_FAILED);
}

static void a_destination_that_starts_from_the_disk_has_not_received_it(void **state)
{
        struct move_view v = begun;

        v.epoch = 8, v.host = 2, v.run_epoch = 8; /* a placement's start */
        assert_int_equal(move_verdict(&v), MOVE_FAILED);
        v.epoch = 9, v.run_epoch = 7;
        assert_int_equal(move_verdict(&v), MOVE_FAILED);
}

/* The destination has claimed and not told that its QEMU may run. Only its owner can see that it never will. */
static void a_claim_without_a_qemu_ends_with_the_wish_to_run(void **state)
{
        for (unsigned bits = 0; bits < 8; bits++) {
                struct move_view v = begun;

                v.epoch = 8, v.host = 2;
                v.mine = bits & 1, v.absent = bits & 2, v.wanted = bits & 4;
                assert_int_equal(move_verdict(&v), bits == 3 ? MOVE_FAILED : MOVE_OPEN);
        }
}

static void what_was_never_begun_fails_with_its_epoch(void **state)
{
        struct move_view v = begun;

        v.entry = false;
        v.epoch = 8, v.host = 2;
        assert_int_equal(move_verdict(&v), MOVE_FAILED);
        v.arrived = true; /* of an attempt before it */
        assert_int_equal(move_verdict(&v), MOVE_FAILED);
}

/* Asked for at epoch 7, which host 1 has; seen there, by a hostd that knows nothing of it. */
static const struct move_outlook asked = {
    .record = true, .mine = true, .wanted = true, .asked_epoch = 7, .epoch = 7};

static void who_made_it_tells_it_wherever_the_name_is(void **state)
{
        struct move_outlook o = asked;

        o.own = o.begun = true;
        assert_int_equal(move_teller(&o), MOVE_SOURCE);
        o.mine = false, o.epoch = 8;
        assert_int_equal(move_teller(&o), MOVE_SOURCE);
        o.told = true; /* without its figures */
        assert_int_equal(move_teller(&o), MOVE_SOURCE);
        o.record = false;
        assert_int_equal(move_teller(&o), MOVE_NOBODY);
}

static void the_owner_tells_what_the_name_has_left_behind(void **state)
{
        struct move_outlook o = asked;

        assert_int_equal(move_teller(&o), MOVE_NOBODY); /* its turn comes */
        o.epoch = 8;
        assert_int_equal(move_teller(&o), MOVE_OWNER);
        o.mine = false;
        assert_int_equal(move_teller(&o), MOVE_NOBODY);
        o.mine = true, o.told = true;
        assert_int_equal(move_teller(&o), MOVE_NOBODY);
}

static void a_stop_before_its_turn_gives_it_up(void **state)
{
        struct move_outlook o = asked;

        o.wanted = false;
        assert_int_equal(move_teller(&o), MOVE_GIVE_UP);
        o.begun = true; /* it may still arrive: the claim decides */
        assert_int_equal(move_teller(&o), MOVE_NOBODY);
        o.begun = false, o.told = true;
        assert_int_equal(move_teller(&o), MOVE_NOBODY);
        o.told = false, o.mine = false;
        assert_int_equal(move_teller(&o), MOVE_NOBODY);
}

static void an_owner_waits_for_the_figures_of_a_move_that_is_done(void **state)
{
        assert_true(move_owner_waits(MOVE_DONE, 1000, 1000 + MOVE_TOLD_MS - 1));
        assert_false(move_owner_waits(MOVE_DONE, 1000, 1000 + MOVE_TOLD_MS));
        assert_false(move_owner_waits(MOVE_FAILED, 1000, 1000));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(an_attempt_is_open_until_somebody_claims),
            cmocka_unit_test(it_is_done_once_its_qemu_may_run),
            cmocka_unit_test(it_has_failed_once_the_source_runs_on),
            cmocka_unit_test(a_destination_that_starts_from_the_disk_has_not_received_it),
            cmocka_unit_test(a_claim_without_a_qemu_ends_with_the_wish_to_run),
            cmocka_unit_test(what_was_never_begun_fails_with_its_epoch),
            cmocka_unit_test(who_made_it_tells_it_wherever_the_name_is),
            cmocka_unit_test(the_owner_tells_what_the_name_has_left_behind),
            cmocka_unit_test(a_stop_before_its_turn_gives_it_up),
            cmocka_unit_test(an_owner_waits_for_the_figures_of_a_move_that_is_done),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
