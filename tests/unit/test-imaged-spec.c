/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "common/json.h"
#include "common/util.h"
#include "imaged/spec.h"

#define KEY "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"

static int parse(const char *body, json_t **json, struct spec *s, struct err *err)
{
        assert_int_equal(json_parse(body, "test", json, err), 0);
        return spec_parse(*json, s, err);
}

static void test_defaults(void **state)
{
        _cleanup_(json_decrefpp) json_t *j = NULL;
        struct spec s;

        assert_int_equal(parse("{\"name\":\"web-1\",\"image\":\"x\"}", &j, &s, NULL), 0);
        assert_string_equal(s.name, "web-1");
        assert_int_equal(s.cpus, 1);
        assert_int_equal(s.memory, 512 << 20);
        assert_int_equal(s.disk, 0);
        assert_null(s.host);
}

static void test_disk_is_rounded_up(void **state)
{
        _cleanup_(json_decrefpp) json_t *j = NULL;
        struct spec s;

        assert_int_equal(
            parse("{\"name\":\"w\",\"iso\":\"x\",\"disk\":1048577,\"host\":2,\"user_data\":null}", &j, &s,
                  NULL),
            0);
        assert_int_equal(s.disk, 1048576 + 512);
        assert_int_equal(json_integer_value(s.host), 2);
}

static void test_refusals(void **state)
{
        static const struct {
                const char *body, *text;
        } t[] = {
            {"[]", "not a JSON object"},
            {"{\"image\":\"x\"}", "name is missing"},
            {"{\"name\":\"a\"}", "image or iso is missing"},
            {"{\"name\":\"\",\"image\":\"x\"}", "0 characters"},
            {"{\"name\":\"-a\",\"image\":\"x\"}", "character 1"},
            {"{\"name\":\"a_b\",\"image\":\"x\"}", "character 2"},
            {"{\"name\":\"0b9f61ae-9d0b-4b0e-8a53-7d5f5c1f2c3d\",\"image\":\"x\"}", "looks like an id"},
            {"{\"name\":\"a\",\"image\":\"x\",\"group\":\"A\"}", "group \"A\": character 1"},
            {"{\"name\":\"a\",\"image\":\"x\",\"group\":1}", "group is not a string"},
            {"{\"name\":7,\"image\":\"x\"}", "name is not a string"},
            {"{\"name\":\"a\",\"image\":\"x\",\"cpus\":257}", "cpus is 257; 1 to 256"},
            {"{\"name\":\"a\",\"image\":\"x\",\"cpus\":1.5}", "cpus is not a whole number"},
            {"{\"name\":\"a\",\"image\":\"x\",\"memory\":16777215}", "memory is 16777215; 16777216 to"},
            {"{\"name\":\"a\",\"image\":\"x\",\"disk\":1024}", "disk is 1024; 1048576 to"},
            {"{\"name\":\"a\",\"image\":\"x\",\"disk\":-1}", "disk is -1; 0 to"},
            {"{\"name\":\"a\",\"iso\":\"x\"}", "disk is missing"},
            {"{\"name\":\"a\",\"image\":\"x\",\"priority\":1001}", "priority is 1001"},
            {"{\"name\":\"a\",\"image\":\"x\",\"host\":true}", "neither a number nor a name"},
            {"{\"name\":\"a\",\"image\":\"x\",\"ssh_keys\":\"k\"}", "ssh_keys is not a list"},
            {"{\"name\":\"a\",\"image\":\"x\",\"ssh_keys\":[1]}", "entry 1 is not a string"},
            {"{\"name\":\"a\",\"image\":\"x\",\"sudo\":true}", "\"sudo\" is not known"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
                _cleanup_(json_decrefpp) json_t *j = NULL;
                struct err err = {0};
                struct spec s;

                assert_int_equal(parse(t[i].body, &j, &s, &err), -EINVAL);
                if (!strstr(err.text, t[i].text))
                        fail_msg("%s: wanted \"%s\", got \"%s\"", t[i].body, t[i].text, err.text);
        }
}

static void test_keys(void **state)
{
        static const char *const good[] = {
            KEY, KEY " me@here", KEY " a comment of words",
            "ecdsa-sha2-nistp256 "
            "AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMj"
            "NuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg= x"};
        static const char *const bad[] = {
            "",
            " ",
            "ssh-ed25519",
            "ssh-ed25519 ",
            "ssh-dss AAAAB3NzaC1kc3MAAAA",
            "ssh-rsa " /* another type's blob: */
            "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl",
            KEY "\n",
            "command=\"x\" " KEY,
            "ssh-ed25519  AAAA",
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            KEY "\tx",
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA"};

        for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
                struct err err = {0};

                if (spec_key_check(good[i], &err) != 0)
                        fail_msg("%s", err.text);
        }
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                if (spec_key_check(bad[i], NULL) != -EINVAL)
                        fail_msg("accepted: \"%s\"", bad[i]);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_defaults),
            cmocka_unit_test(test_disk_is_rounded_up),
            cmocka_unit_test(test_refusals),
            cmocka_unit_test(test_keys),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
