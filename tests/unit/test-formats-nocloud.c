/* SPDX-License-Identifier: Apache-2.0 */
#include "test-formats-util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/util.h"

static const char *const keys[] = {
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHOmx ann@example: \"it's\" #1 \\ {a: [b]} \xc3\xa4",
    "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHA=", NULL};
static const char *const nameservers[] = {"10.77.0.1", "2001:db8::1", NULL};
static const struct nocloud plain = {
    .instance_id = "8c1f5a52-3f0e-4c7e-9d0c-1f4a2b3c4d5e",
    .hostname = "web1",
    .ssh_keys = keys,
    .mac = "52:54:00:AB:cd:01",
    .address = "10.77.0.10",
    .prefix = 24,
    .gateway = "10.77.0.1",
    .nameservers = nameservers,
};

/* Writes the seed and reads its files back with another program. */
static void seed(const struct nocloud *nc)
{
        struct err err = {0};
        uint8_t *data;
        size_t len;

        if (nocloud_iso(nc, &data, &len, &err) < 0)
                fail_msg("%s", err_text(&err));
        file_save("seed.iso", data, len);
        free(data);
        sh("rm -rf seed && xorriso -osirrox on -indev seed.iso -extract / seed 2>/dev/null >/dev/null && "
           "chmod -R u+w seed");
}

static char *file_text(const char *path)
{
        char *text = NULL;
        struct err err = {0};

        if (file_read(path, 1 << 20, &text, NULL, &err) < 0)
                fail_msg("%s", err_text(&err));
        return text;
}

/* A YAML file as JSON: a real YAML reader has to agree with what we meant. */
static json_t *yaml_load(const char *path)
{
        _cleanup_(freep) char *text =
            sh_text("python3 -c 'import json, yaml; print(json.dumps(yaml.safe_load(open(\"%s\"))))'", path);
        json_t *j = NULL;
        struct err err = {0};

        if (json_parse(text, path, &j, &err) < 0)
                fail_msg("%s", err_text(&err));
        return j;
}

static void test_plain(void **state)
{
        _cleanup_(freep) char *meta = NULL, *network = NULL, *user = NULL, *volume = NULL;

        seed(&plain);
        volume = sh_text("isoinfo -d -i seed.iso");
        assert_non_null(strstr(volume, "Volume id: cidata\n"));
        meta = file_text("seed/meta-data");
        assert_string_equal(
            meta, "instance-id: 8c1f5a52-3f0e-4c7e-9d0c-1f4a2b3c4d5e\nlocal-hostname: web1\npublic-keys:\n"
                  "- ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHOmx\n"
                  "- ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHA=\n");
        network = file_text("seed/network-config");
        assert_non_null(strstr(network, "\n    - 10.77.0.10/24\n"));
        assert_non_null(strstr(network, "\n    gateway4: 10.77.0.1\n"));
        user = file_text("seed/user-data");
        assert_true(strncmp(user, "#cloud-config\n", 14) == 0);
}

static void test_yaml(void **state)
{
        _cleanup_(json_decrefpp) json_t *meta = NULL, *network = NULL, *user = NULL;
        const json_t *nic;

        seed(&plain);
        meta = yaml_load("seed/meta-data");
        assert_string_equal(json_get_str(meta, "local-hostname", ""), "web1");
        assert_int_equal(json_array_size(json_object_get(meta, "public-keys")), 2);
        user = yaml_load("seed/user-data");
        assert_false(json_get_bool(user, "disable_root", true));
        assert_string_equal(
            json_string_value(json_array_get(json_object_get(user, "ssh_authorized_keys"), 0)), keys[0]);
        assert_string_equal(
            json_string_value(json_array_get(json_object_get(user, "ssh_authorized_keys"), 1)), keys[1]);
        network = yaml_load("seed/network-config");
        assert_int_equal(json_get_int(network, "version", 0), 2);
        nic = json_path(network, "ethernets.eth0");
        assert_non_null(nic);
        assert_string_equal(json_get_str(json_object_get(nic, "match"), "macaddress", ""),
                            "52:54:00:ab:cd:01");
        assert_string_equal(json_get_str(nic, "set-name", ""), "eth0");
        assert_string_equal(json_get_str(nic, "gateway4", ""), "10.77.0.1");
        assert_string_equal(json_string_value(json_array_get(json_object_get(nic, "addresses"), 0)),
                            "10.77.0.10/24");
        assert_string_equal(json_string_value(json_array_get(json_path(nic, "nameservers.addresses"), 1)),
                            "2001:db8::1");
}

/* The parts of a MIME message, as Python's own mail reader sees them: [[type, merge type, text], ...]. */
static json_t *mime_load(const char *path)
{
        _cleanup_(freep) char *text = sh_text(
            "python3 -c 'import email, json; m = email.message_from_bytes(open(\"%s\", \"rb\").read()); "
            "print(json.dumps([[p.get_content_type(), p.get(\"Merge-Type\"), "
            "p.get_payload(decode=True).decode()] "
            "for p in m.walk() if not p.is_multipart()]))'",
            path);
        json_t *j = NULL;
        struct err err = {0};

        if (json_parse(text, path, &j, &err) < 0)
                fail_msg("%s", err_text(&err));
        return j;
}

static const char *part(const json_t *parts, size_t i, size_t k)
{
        const char *text = json_string_value(json_array_get(json_array_get(parts, i), k));

        return text ? text : "";
}

static void test_user_data(void **state)
{
        static const struct {
                const char *text, *type;
        } cases[] = {
            {"#!/bin/sh\necho \"--==wherry-0==\" > /root/x\n\necho \xc3\xa4\n", "text/x-shellscript"},
            {"#cloud-config\npackages: [nginx]\nssh_authorized_keys: [ssh-rsa BBBB]\n", "text/cloud-config"},
            {"#cloud-config-archive\n- content: x\n", "text/cloud-config-archive"},
            {"#include\nhttp://example.com/x\n", "text/x-include-url"},
            {"## template: jinja\n#cloud-config\nruncmd: []\n", "text/jinja2"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_(json_decrefpp) json_t *parts = NULL;
                struct nocloud nc = plain;

                nc.user_data = cases[i].text;
                seed(&nc);
                parts = mime_load("seed/user-data");
                assert_int_equal(json_array_size(parts), 2);
                assert_string_equal(part(parts, 0, 0), cases[i].type);
                assert_string_equal(part(parts, 0, 2), cases[i].text);
                assert_string_equal(part(parts, 1, 0), "text/cloud-config");
                assert_non_null(strstr(part(parts, 1, 1), "no_replace"));
                assert_non_null(strstr(part(parts, 1, 2), "disable_root: false"));
        }
}

static void test_user_data_mime(void **state)
{
        struct nocloud nc = plain;
        _cleanup_(json_decrefpp) json_t *parts = NULL;

        nc.user_data =
            "Content-Type: multipart/mixed; boundary=\"b\"\nMIME-Version: 1.0\n\n--b\nContent-Type: "
            "text/x-shellscript\n\n#!/bin/sh\n\n--b\nContent-Type: "
            "text/cloud-config\n\n#cloud-config\n\n--b--\n";
        seed(&nc);
        parts = mime_load("seed/user-data");
        assert_int_equal(json_array_size(parts), 3);
        assert_string_equal(part(parts, 0, 0), "text/x-shellscript");
        assert_string_equal(part(parts, 2, 0), "text/cloud-config");
        assert_non_null(strstr(part(parts, 2, 2), "ssh-ed25519"));
}

static void test_least(void **state)
{
        static const struct nocloud least = {.instance_id = "a", .hostname = "b"};
        static const struct nocloud six = {.instance_id = "a",
                                           .hostname = "b",
                                           .address = "2001:db8::5",
                                           .prefix = 64,
                                           .gateway = "2001:db8::1"};
        _cleanup_(json_decrefpp) json_t *network = NULL, *user = NULL;
        _cleanup_(freep) char *text = NULL;

        seed(&least);
        network = yaml_load("seed/network-config");
        assert_true(json_get_bool(json_path(network, "ethernets.eth0"), "dhcp4", false));
        user = yaml_load("seed/user-data");
        assert_false(json_get_bool(user, "disable_root", true));
        seed(&six);
        text = file_text("seed/network-config");
        assert_non_null(strstr(text, "\n    gateway6: 2001:db8::1\n"));
}

static void refused(struct nocloud nc, const char *what)
{
        struct err err = {0};
        uint8_t *data = NULL;
        size_t len;

        if (nocloud_iso(&nc, &data, &len, &err) != -EINVAL)
                fail_msg("%s: accepted", what);
        assert_true(err.text[0] != '\0');
}

#define REFUSED(member, v)                                                                                  \
        do {                                                                                                \
                struct nocloud nc_ = plain;                                                                 \
                nc_.member = v;                                                                             \
                refused(nc_, #member " " #v);                                                               \
        } while (0)

static void test_refused(void **state)
{
        static const char *const bad_keys[][2] = {{"command=\"rm\" ssh-rsa AAAA", NULL},
                                                  {"ssh-rsa AAAA\nruncmd: [x]", NULL},
                                                  {"ssh-rsa", NULL},
                                                  {"ssh-rsa ", NULL},
                                                  {"ssh-rsa AA\"AA", NULL},
                                                  {"", NULL},
                                                  {"ssh-rsa AAAA \x01", NULL},
                                                  {"hello AAAA", NULL}};
        static const char *const bad_server[] = {"10.0.0.1\n", NULL};

        REFUSED(hostname, "web1\nruncmd: x");
        REFUSED(hostname, "");
        REFUSED(hostname, NULL);
        REFUSED(hostname, "a: b");
        REFUSED(instance_id, "x y");
        REFUSED(mac, "52:54:00:ab:cd");
        REFUSED(mac, "52:54:00:ab:cd:0\n");
        REFUSED(address, "10.77.0");
        REFUSED(address, "10.77.0.1\n- x");
        REFUSED(prefix, 33);
        REFUSED(prefix, 0);
        REFUSED(gateway, "gw");
        REFUSED(nameservers, bad_server);
        REFUSED(user_data, "echo no first line that says what it is");
        for (size_t i = 0; i < ARRAY_SIZE(bad_keys); i++)
                REFUSED(ssh_keys, bad_keys[i]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_plain),     cmocka_unit_test(test_yaml),
            cmocka_unit_test(test_user_data), cmocka_unit_test(test_user_data_mime),
            cmocka_unit_test(test_least),     cmocka_unit_test(test_refused),
        };

        return cmocka_run_group_tests_name("formats-nocloud", tests, work_begin, work_end);
}
