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

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(a_guests_own_power_off_is_its_wish),
            cmocka_unit_test(a_press_of_the_power_button_is_not),
            cmocka_unit_test(nor_is_what_hostd_or_the_host_does),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
