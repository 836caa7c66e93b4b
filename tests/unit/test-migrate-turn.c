/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "migrate/turn.h"

/* Waiting since 30, 10, 20 and 20. */
static const struct turn four[] = {{.since_ms = 30}, {.since_ms = 10}, {.since_ms = 20}, {.since_ms = 20}};

static unsigned begins(unsigned limit, unsigned leaving, const struct turn *waiting)
{
        unsigned set = 0;

        for (size_t i = 0; i < 4; i++)
                set |= (unsigned)turn_leaves(limit, leaving, waiting, 4, i, 100) << i;
        return set;
}

static void who_has_waited_longest_goes_first(void **state)
{
        assert_int_equal(begins(1, 0, four), 1 << 1);
        assert_int_equal(begins(2, 0, four), 1 << 1 | 1 << 2);
        assert_int_equal(begins(3, 0, four), 1 << 1 | 1 << 2 | 1 << 3);
        assert_int_equal(begins(4, 0, four), 15);
}

static void those_that_have_begun_take_their_turns(void **state)
{
        assert_int_equal(begins(2, 1, four), 1 << 1);
        assert_int_equal(begins(2, 2, four), 0);
        assert_int_equal(begins(2, 3, four), 0); /* a limit that was lowered meanwhile */
}

static void a_full_destination_holds_up_nobody_else(void **state)
{
        struct turn held[] = {four[0], four[1], four[2], four[3]};

        held[1].not_before_ms = 101;
        assert_int_equal(begins(1, 0, held), 1 << 2);
        held[1].not_before_ms = 100; /* asked again now */
        assert_int_equal(begins(1, 0, held), 1 << 1);
}

static void arrivals_are_counted(void **state)
{
        assert_true(turn_arrives(2, 0));
        assert_true(turn_arrives(2, 1));
        assert_false(turn_arrives(2, 2));
        assert_false(turn_arrives(2, 3));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(who_has_waited_longest_goes_first),
            cmocka_unit_test(those_that_have_begun_take_their_turns),
            cmocka_unit_test(a_full_destination_holds_up_nobody_else),
            cmocka_unit_test(arrivals_are_counted),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
