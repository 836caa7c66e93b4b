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
        v.epoch = 8, v.ended = true; /* it had claimed, and its QEMU is gone */
        assert_int_equal(move_verdict(&v), MOVE_FAILED);
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

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(an_attempt_is_open_until_somebody_claims),
            cmocka_unit_test(it_is_done_once_its_qemu_may_run),
            cmocka_unit_test(it_has_failed_once_the_source_runs_on),
            cmocka_unit_test(a_destination_that_starts_from_the_disk_has_not_received_it),
            cmocka_unit_test(what_was_never_begun_fails_with_its_epoch),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
