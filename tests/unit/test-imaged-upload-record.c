/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>

#include "common/json.h"
#include "common/util.h"
#include "imaged/upload-record.h"

#define FIRST "11111111-1111-4111-8111-111111111111"
#define SECOND "22222222-2222-4222-8222-222222222222"
#define THIRD "33333333-3333-4333-8333-333333333333"

static json_t *uploading(void)
{
        struct import_change c = {.image = "i", .nonce = FIRST, .status = "saving", .total = UINT64_MAX};
        json_t *record =
            json_pack("{s:s,s:s,s:s}", "status", "queued", "disk_format", "raw", "container_format", "bare");
        struct err err = {0};

        assert_false(import_open(record));
        assert_int_equal(import_begin(record, &c, &err), 0);
        assert_true(import_open(record));
        return record;
}

static const char *by(const json_t *record)
{
        return json_get_str(json_object_get(record, "import"), "by", NULL);
}

static void one_of_two_goes_on(void **state)
{
        _cleanup_(json_decrefpp) json_t *record = uploading();
        struct import_change last = {.image = "i", .nonce = FIRST, .at = 4711, .total = UINT64_MAX},
                             second = {.image = "i", .nonce = SECOND, .text = FIRST, .status = "saving"},
                             third = {.image = "i", .nonce = THIRD, .text = FIRST, .status = "saving"};
        struct err err = {0};

        assert_int_equal(import_beat(record, &last, &err), 0);
        assert_int_equal(import_resume(record, &second, &err), 0);
        assert_int_equal(second.at, 4711);
        assert_string_equal(by(record), SECOND);
        assert_int_equal(import_resume(record, &third, &err), -ESTALE);
        assert_int_equal(import_beat(record, &last, &err), -ESTALE);
        assert_int_equal(import_touch(record, &last, &err), -ESTALE);
        assert_int_equal(import_seize(record, &last, &err), -ESTALE);
        assert_string_equal(by(record), SECOND);
        /* how far it is stays said, for a third that goes on with the second's */
        third.text = SECOND;
        third.at = 0;
        assert_int_equal(import_resume(record, &third, &err), 0);
        assert_int_equal(third.at, 4711);
}

static void touch_changes_nothing(void **state)
{
        _cleanup_(json_decrefpp) json_t *record = uploading(), *was = json_deep_copy(record);
        struct import_change c = {.image = "i", .nonce = FIRST};
        struct err err = {0};

        assert_int_equal(import_touch(record, &c, &err), 0); /* 0: written, under a new version */
        assert_true(json_equal(record, was));
}

static void nobody_goes_on_with_what_is_being_undone(void **state)
{
        _cleanup_(json_decrefpp) json_t *record = uploading();
        struct import_change seize = {.image = "i", .nonce = FIRST, .text = SECOND},
                             resume = {.image = "i", .nonce = THIRD, .text = SECOND, .status = "saving"},
                             queued = {.image = "i", .nonce = SECOND, .text = "why"},
                             again = {.image = "i", .nonce = THIRD, .status = "saving"};
        struct err err = {0};

        assert_int_equal(import_seize(record, &seize, &err), 0);
        assert_false(import_open(record));
        assert_int_equal(import_resume(record, &resume, &err), -EEXIST);
        assert_string_equal(by(record), SECOND);
        assert_int_equal(import_queued(record, &queued, &err), 0);
        assert_false(import_open(record));
        assert_string_equal(json_get_str(record, "import_error", NULL), "why");
        assert_int_equal(import_begin(record, &again, &err), 0);
        assert_true(import_open(record)); /* nothing stays of the one before */
}

static void only_an_upload_goes_on(void **state)
{
        _cleanup_(json_decrefpp) json_t *record = uploading();
        struct import_change c = {.image = "i", .nonce = SECOND, .text = FIRST, .status = "saving"};
        static const char *const others[] = {"uploading", "importing", "pending_delete", "active"};
        struct err err = {0};

        for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
                json_object_set_new(record, "status", json_string(others[i]));
                assert_false(import_open(record));
                assert_int_equal(import_resume(record, &c, &err), -EEXIST);
                assert_string_equal(by(record), FIRST);
        }
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
            cmocka_unit_test(one_of_two_goes_on),
            cmocka_unit_test(touch_changes_nothing),
            cmocka_unit_test(nobody_goes_on_with_what_is_being_undone),
            cmocka_unit_test(only_an_upload_goes_on),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
