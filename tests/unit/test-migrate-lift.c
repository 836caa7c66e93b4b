/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "migrate/lift.h"

static const struct ring_host hosts[] = {{.number = 1},
                                         {.number = 2, .state = HOST_DEAD},
                                         {.number = 5},
                                         {.number = 3, .state = HOST_STOPPED},
                                         {.number = 9}};
#define N 5

static void the_owner_lifts_what_others_ran(void **state)
{
        assert_int_equal(lift_by(hosts, N, 5, 1), 5);
        assert_int_equal(lift_by(hosts, N, 5, 2), 5); /* dead: there will be no proof, but it is asked for */
        assert_int_equal(lift_by(hosts, N, 5, 77), 5);
}

static void no_host_lifts_its_own(void **state)
{
        const struct ring_host alone[] = {{.number = 5}, {.number = 6, .state = HOST_DEAD}};

        assert_int_equal(lift_by(hosts, N, 1, 1), 5); /* neither the dead 2 nor the stopped 3 */
        assert_int_equal(lift_by(hosts, N, 5, 5), 9);
        assert_int_equal(lift_by(hosts, N, 9, 9), 1); /* around the ring */
        assert_int_equal(lift_by(alone, 2, 5, 5), 0);
        for (unsigned owner = 0; owner < 12; owner++)
                for (unsigned client = 1; client < 12; client++)
                        assert_int_not_equal(lift_by(hosts, N, owner, client), client);
}

static void what_nobody_living_owns_waits(void **state)
{
        assert_int_equal(lift_by(hosts, N, 0, 1), 0);
        assert_int_equal(lift_by(hosts, N, 2, 1), 0);
        assert_int_equal(lift_by(hosts, N, 3, 3), 0);
        assert_int_equal(lift_by(hosts, N, 8, 1), 0);
}

static const struct machine ran_on = {.boot = "boot-1", .view = "10-20", .board = "m1/b1"};

static struct machine but(const char *boot, const char *view, const char *board)
{
        struct machine m = ran_on;

        if (boot)
                strcpy(m.boot, boot);
        if (view)
                strcpy(m.view, view);
        if (board)
                strcpy(m.board, board);
        return m;
}

#define proved(here, ...) lift_proved(&ran_on, &(struct machine[]){but(__VA_ARGS__)}[0], here)

static void the_same_kernel_says_whether_it_is_there(void **state)
{
        assert_true(proved(false, NULL, NULL, NULL));
        assert_false(proved(true, NULL, NULL, NULL));
}

/* hostd was put into a container, or out of one: it may not see the process that its forerunner let run. */
static void who_looks_from_elsewhere_sees_nothing(void **state)
{
        assert_false(proved(false, NULL, "10-21", NULL));
        assert_false(proved(false, NULL, "", NULL));
}

static void a_machine_that_was_started_anew_has_no_old_process(void **state)
{
        assert_true(proved(false, "boot-2", NULL, NULL));
        assert_true(proved(false, "boot-2", "11-20", NULL));
        /* The QEMU that is there is another one. */
        assert_true(proved(true, "boot-2", NULL, NULL));
}

/* The number or the name of a host was given to another machine: the first may run on somewhere. */
static void another_machine_proves_nothing(void **state)
{
        assert_false(proved(false, "boot-2", NULL, "m2/b1"));
        assert_false(proved(false, "boot-2", NULL, "m1/b2"));
        assert_false(proved(false, "boot-2", NULL, ""));
}

static void what_is_not_known_proves_nothing(void **state)
{
        const struct machine nothing = {0};

        assert_false(lift_proved(&nothing, &nothing, false));
        assert_false(lift_proved(&ran_on, &nothing, false));
        assert_false(lift_proved(&nothing, &ran_on, false));
        for (int i = 0; i < 2; i++) { /* no view, or no board, on either side */
                struct machine a = but(NULL, i ? NULL : "", i ? "" : NULL);
                struct machine b = but(i ? "boot-2" : NULL, i ? NULL : "", i ? "" : NULL);

                assert_false(lift_proved(&a, &b, false));
        }
}

static void after_the_proof_an_hour_passes(void **state)
{
        assert_false(lift_due(1000, 1000));
        assert_false(lift_due(1000, 1000 + LIFT_GRACE_MS - 1));
        assert_true(lift_due(1000, 1000 + LIFT_GRACE_MS));
        assert_true(LIFT_GRACE_MS >= 3600 * 1000);
}

static void this_machine_is_itself(void **state)
{
        struct machine a, b;

        machine_self(&a);
        machine_self(&b);
        assert_memory_equal(&a, &b, sizeof(a));
        assert_int_equal(strlen(a.boot), UUID_LEN);
        assert_int_not_equal(a.view[0], 0);
        assert_null(strpbrk(a.view, " \n"));
        assert_null(strpbrk(a.board, " \n"));
        assert_true(lift_proved(&a, &b, false));
}

static void the_nearest_of_several_lifts_whatever_their_order(void **state)
{
        const struct ring_host many[] = {{.number = 9}, {.number = 7}, {.number = 4}, {.number = 6}};

        assert_int_equal(lift_by(many, 4, 4, 4), 6);
        assert_int_equal(lift_by(many, 4, 9, 9), 4);
        assert_int_equal(lift_by(many, 4, 7, 7), 9);
}

static void a_round_is_due_after_ten_minutes(void **state)
{
        assert_false(lift_round_due(500, 500));
        assert_false(lift_round_due(500, 500 + LIFT_EVERY_MS - 1));
        assert_true(lift_round_due(500, 500 + LIFT_EVERY_MS));
        assert_true(LIFT_EVERY_MS == 600 * 1000);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(the_owner_lifts_what_others_ran),
            cmocka_unit_test(no_host_lifts_its_own),
            cmocka_unit_test(what_nobody_living_owns_waits),
            cmocka_unit_test(the_same_kernel_says_whether_it_is_there),
            cmocka_unit_test(who_looks_from_elsewhere_sees_nothing),
            cmocka_unit_test(a_machine_that_was_started_anew_has_no_old_process),
            cmocka_unit_test(another_machine_proves_nothing),
            cmocka_unit_test(what_is_not_known_proves_nothing),
            cmocka_unit_test(after_the_proof_an_hour_passes),
            cmocka_unit_test(this_machine_is_itself),
            cmocka_unit_test(the_nearest_of_several_lifts_whatever_their_order),
            cmocka_unit_test(a_round_is_due_after_ten_minutes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
