/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hostd/virt/virt.h"

#define BEGIN "2026-11-23 01:08:02.181+0000: starting up libvirt version: 9.0.0, package: 4\nLC_ALL=C \\\n"
#define END(reason) "2026-11-23 01:08:24.668+0000: shutting down, reason=" reason "\n"
#define SIGNALLED(by)                                                                                       \
        "2026-11-23T01:08:24.66Z qemu-system-x86_64: terminating on signal 15 from pid 30 (" by ")\n"

static void a_guests_own_power_off_is_told_from_every_other_end(void **state)
{
        assert_true(virt_log_powered_off(BEGIN END("shutdown")));
        assert_true(virt_log_powered_off(BEGIN SIGNALLED("libvirtd") END("shutdown")));
        assert_true(virt_log_powered_off(BEGIN END("shutdown") SIGNALLED("libvirtd")));
        assert_false(virt_log_powered_off(BEGIN SIGNALLED("systemd") END("shutdown")));
        assert_false(virt_log_powered_off(BEGIN SIGNALLED("libvirtd") SIGNALLED("sh") END("shutdown")));
        assert_false(virt_log_powered_off(BEGIN END("destroyed")));
        assert_false(virt_log_powered_off(BEGIN END("crashed")));
        assert_false(virt_log_powered_off(BEGIN END("migrated")));
}

static void only_the_last_run_counts(void **state)
{
        assert_false(virt_log_powered_off(BEGIN END("shutdown") BEGIN));
        assert_true(virt_log_powered_off(BEGIN END("crashed") BEGIN END("shutdown")));
        assert_true(virt_log_powered_off(BEGIN SIGNALLED("sh") END("shutdown") BEGIN END("shutdown")));
}

static void a_text_that_tells_nothing_is_no_power_off(void **state)
{
        assert_false(virt_log_powered_off(""));
        assert_false(virt_log_powered_off(END("shutdown"))); /* its beginning is not there */
        assert_false(virt_log_powered_off(BEGIN "x: shutting down, reason=shutdown"));
        assert_false(virt_log_powered_off(BEGIN "x: terminating on signal 15\n" END("shutdown")));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(a_guests_own_power_off_is_told_from_every_other_end),
            cmocka_unit_test(only_the_last_run_counts),
            cmocka_unit_test(a_text_that_tells_nothing_is_no_power_off),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
