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

#define PRESSED "4711@1795396094.168000:qemu_system_powerdown_request \n" /* 10.5 s before END */

static bool off(const char *text)
{
        struct virt_end e;

        virt_log_ended(text, &e);
        return e.off;
}

static void a_power_off_is_told_from_every_other_end(void **state)
{
        assert_true(off(BEGIN END("shutdown")));
        assert_true(off(BEGIN SIGNALLED("libvirtd") END("shutdown")));
        assert_true(off(BEGIN END("shutdown") SIGNALLED("libvirtd")));
        assert_false(off(BEGIN SIGNALLED("systemd") END("shutdown")));
        assert_false(off(BEGIN SIGNALLED("libvirtd") SIGNALLED("sh") END("shutdown")));
        assert_false(off(BEGIN END("destroyed")));
        assert_false(off(BEGIN END("crashed")));
        assert_false(off(BEGIN END("migrated")));
}

static void only_the_last_run_counts(void **state)
{
        assert_false(off(BEGIN END("shutdown") BEGIN));
        assert_true(off(BEGIN END("crashed") BEGIN END("shutdown")));
        assert_true(off(BEGIN SIGNALLED("sh") END("shutdown") BEGIN END("shutdown")));
}

static void a_text_that_tells_nothing_is_no_power_off(void **state)
{
        assert_false(off(""));
        assert_false(off(END("shutdown"))); /* its beginning is not there */
        assert_false(off(BEGIN "x: shutting down, reason=shutdown"));
        assert_false(off(BEGIN "x: terminating on signal 15\n" END("shutdown")));
}

static void a_press_of_the_power_button_is_seen(void **state)
{
        struct virt_end e;

        virt_log_ended(BEGIN END("shutdown"), &e);
        assert_false(e.pressed);
        virt_log_ended(BEGIN PRESSED END("shutdown"), &e);
        assert_true(e.off && e.pressed);
        assert_int_equal(e.pressed_ms, 10500);
        virt_log_ended(BEGIN "1@1.5:qemu_system_powerdown_request\n" PRESSED END("shutdown"), &e);
        assert_int_equal(e.pressed_ms, 10500);
        /* of an earlier run, and after the end */
        virt_log_ended(BEGIN PRESSED END("shutdown") BEGIN END("shutdown") PRESSED, &e);
        assert_false(e.pressed);
        virt_log_ended(BEGIN PRESSED "x: shutting down, reason=shutdown\n", &e);
        assert_true(e.pressed);
        assert_int_equal(e.pressed_ms, 0); /* when it ended cannot be read */
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(a_power_off_is_told_from_every_other_end),
            cmocka_unit_test(a_press_of_the_power_button_is_seen),
            cmocka_unit_test(only_the_last_run_counts),
            cmocka_unit_test(a_text_that_tells_nothing_is_no_power_off),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
