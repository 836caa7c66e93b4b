/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/json.h"
#include "imaged/image-system.h"
#include "imaged/image.h"

/* What was found goes where nobody said anything else. */

static const struct osinfo debian = {.id = "debian11",
                                     .name = "Debian 11",
                                     .distro = "debian",
                                     .version = "11",
                                     .type = "linux",
                                     .architecture = "x86_64",
                                     .bios = true,
                                     .min_ram = 1024,
                                     .min_disk = 10,
                                     .from = "media"};

/* A record with these members, after it. */
static json_t *after(const char *members, const struct osinfo *o)
{
        json_t *record = json_loads(members, 0, NULL);

        assert_non_null(record);
        image_system_set(record, o);
        return record;
}

static void is(const json_t *record, const char *key, const char *value)
{
        const char *found = json_get_str(record, key, NULL);

        if (value) {
                assert_non_null(found);
                assert_string_equal(found, value);
        } else
                assert_null(json_object_get(record, key));
}

static void an_image_of_which_nothing_is_said(void **state)
{
        json_t *r = after("{\"min_ram\":0,\"min_disk\":0}", &debian);

        is(r, "os_distro", "debian");
        is(r, "os_version", "11");
        is(r, "os_type", "linux");
        is(r, "architecture", "x86_64");
        is(r, "hw_firmware_type", "bios");
        assert_int_equal(json_get_int(r, "min_ram", 0), 1024);
        assert_int_equal(json_get_int(r, "min_disk", 0), 10);
        assert_string_equal(json_string_value(json_path(r, "detected.name")), "Debian 11");
        json_decref(r);
}

static void what_the_user_said_stays(void **state)
{
        json_t *r = after("{\"min_ram\":64,\"min_disk\":1,\"os_distro\":\"debian\",\"os_version\":\"11.5\","
                          "\"architecture\":\"i686\",\"hw_firmware_type\":\"uefi\"}",
                          &debian);

        is(r, "os_version", "11.5");
        is(r, "architecture", "i686");
        is(r, "hw_firmware_type", "uefi");
        assert_int_equal(json_get_int(r, "min_ram", 0), 64);
        assert_int_equal(json_get_int(r, "min_disk", 0), 1);
        json_decref(r);
        r = after("{\"hw_architecture\":\"i686\"}", &debian);
        is(r, "architecture", NULL);
        json_decref(r);
}

static void the_short_names_count_as_well(void **state)
{
        json_t *r = after("{\"os\":\"debian\"}", &debian);

        is(r, "os_distro", NULL);
        is(r, "os_version", "11"); /* it is the same system: its version is news */
        json_decref(r);
        r = after("{\"version\":\"12\"}", &debian);
        is(r, "os_distro", "debian");
        is(r, "os_version", NULL);
        json_decref(r);
}

static void another_system_takes_no_version_and_no_needs(void **state)
{
        json_t *r = after("{\"os\":\"ubuntu\",\"min_ram\":0}", &debian);

        is(r, "os_distro", NULL);
        is(r, "os_version", NULL);
        is(r, "os_type", NULL);
        is(r, "architecture", "x86_64"); /* which it has whatever its name is */
        assert_int_equal(json_get_int(r, "min_ram", 0), 0);
        json_decref(r);
}

static void either_firmware_will_do(void **state)
{
        struct osinfo both = debian;
        json_t *r;

        both.uefi = true;
        r = after("{}", &both);
        is(r, "hw_firmware_type", NULL);
        assert_int_equal(json_array_size(json_path(r, "detected.firmware")), 2);
        json_decref(r);
}

static void no_more_properties_than_an_image_may_have(void **state)
{
        json_t *r = json_object();

        for (int i = 0; i < IMAGE_PROPERTIES_MAX - 1; i++) {
                char key[16];

                snprintf(key, sizeof(key), "p%d", i);
                json_object_set_new(r, key, json_string("x"));
        }
        image_system_set(r, &debian);
        is(r, "os_distro", "debian");
        is(r, "os_version", NULL);
        json_decref(r);
}

static void callers_cannot_write_what_was_detected(void **state)
{
        json_t *value = json_object();

        assert_int_equal(image_check_member("detected", value, NULL), -EACCES);
        json_decref(value);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(an_image_of_which_nothing_is_said),
            cmocka_unit_test(what_the_user_said_stays),
            cmocka_unit_test(the_short_names_count_as_well),
            cmocka_unit_test(another_system_takes_no_version_and_no_needs),
            cmocka_unit_test(either_firmware_will_do),
            cmocka_unit_test(no_more_properties_than_an_image_may_have),
            cmocka_unit_test(callers_cannot_write_what_was_detected),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
