/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "migrate/start.h"

static bool takes(const char *stored, uint64_t stored_epoch, const char *start, uint64_t epoch,
                  const char *memory)
{
        return start_follows(&(struct start_change){.stored = stored,
                                                    .stored_epoch = stored_epoch,
                                                    .start = start,
                                                    .epoch = epoch,
                                                    .memory = memory});
}

static void a_record_takes_one_start_an_epoch(void **state)
{
        assert_true(takes("", 0, "p", 1, NULL));
        assert_true(takes("a", 4, "p", 5, NULL));
        assert_true(takes("a", 4, "p", 9, NULL));
        assert_true(takes("p", 5, "p", 5, NULL));  /* the answer was lost, and it is written again */
        assert_false(takes("q", 5, "p", 5, NULL)); /* two hosts with one number */
        assert_false(takes("q", 6, "p", 5, NULL)); /* late */
        assert_false(takes("p", 6, "p", 5, NULL));
}

static void memory_runs_on_the_disk_of_its_own_start_only(void **state)
{
        assert_true(takes("a", 4, "b", 5, "a"));  /* an arrival from a */
        assert_true(takes("a", 4, "a", 5, "a"));  /* a source runs on */
        assert_true(takes("b", 5, "b", 5, "a"));  /* the same arrival, written again */
        assert_false(takes("q", 4, "b", 5, "a")); /* q has run since, and may have written */
        assert_false(takes("q", 4, "a", 5, "a"));
        assert_false(takes("q", 5, "b", 5, "a"));
        assert_false(takes("a", 6, "b", 5, "a"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(a_record_takes_one_start_an_epoch),
            cmocka_unit_test(memory_runs_on_the_disk_of_its_own_start_only),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
