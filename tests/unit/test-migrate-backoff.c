/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "migrate/backoff.h"
#include "migrate/health.h"
#include "migrate/instance.h"

static void pauses_grow_up_to_a_minute(void **state)
{
        static const int64_t pause[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};
        struct backoff b = {0};

        for (unsigned i = 0; i < 8; i++) {
                backoff_start_failed(&b, false, 5000);
                assert_int_equal(b.retry_ms, 5000 + pause[i]);
                assert_int_equal(b.failures, i + 1);
                assert_int_equal(b.failed_starts, i + 1);
        }
}

static void a_long_run_forgives(void **state)
{
        struct backoff b = {0};

        backoff_failed(&b, 1000);
        backoff_failed(&b, 2000);
        backoff_started(&b, 10000);
        backoff_failed(&b, 10000 + HEALTH_RUN_LONG_ENOUGH_MS); /* just not long enough */
        assert_int_equal(b.failures, 3);
        backoff_failed(&b, 10000 + HEALTH_RUN_LONG_ENOUGH_MS + 1);
        assert_int_equal(b.failures, 1);
}

/* Runs that crash never make another host try; starts that fail do. */
static void starts_are_counted_until_one_works_or_another_host_has_it(void **state)
{
        struct backoff b = {0};

        backoff_failed(&b, 1000);
        assert_int_equal(b.failed_starts, 0);
        backoff_start_failed(&b, false, 1000);
        assert_int_equal(b.failed_starts, 1);
        backoff_start_failed(&b, true, 1000);
        assert_true(b.failed_starts >= STARTS_HERE);
        backoff_handed_on(&b);
        assert_int_equal(b.failed_starts, 0);
        assert_int_equal(b.failures, 3); /* the pause goes on growing */
        backoff_start_failed(&b, false, 1000);
        backoff_started(&b, 2000);
        assert_int_equal(b.failed_starts, 0);
}

static void its_own_wish_is_no_failure(void **state)
{
        struct backoff b = {0};

        backoff_failed(&b, 1000);
        backoff_off(&b);
        assert_true(b.failures == 0 && b.retry_ms == 0);
}

static void the_longer_pause_counts(void **state)
{
        struct backoff b = {.retry_ms = 3000};

        backoff_pause(&b, 500, 2000);
        assert_int_equal(b.retry_ms, 3000);
        backoff_pause(&b, 1500, 2000);
        assert_int_equal(b.retry_ms, 3500);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(pauses_grow_up_to_a_minute),
            cmocka_unit_test(a_long_run_forgives),
            cmocka_unit_test(starts_are_counted_until_one_works_or_another_host_has_it),
            cmocka_unit_test(its_own_wish_is_no_failure),
            cmocka_unit_test(the_longer_pause_counts),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
