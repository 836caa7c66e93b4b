/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <gnutls/x509.h>

#include "common/util.h"
#include "hostd/virt/virt.h"

/* test-virt-tls SCRIPT: which makes the certificates, as a cluster's administrator does. */

#define ADDRESS "192.0.2.11"
#define STRANGER 64999 /* a user with no group of ours */

static const char *script;
static char folder[64], qemu[128];

static int run(const char *fmt, const char *a, const char *b)
{
        _cleanup_(freep) char *command = str_printf(fmt, a, b);

        assert_non_null(command);
        return system(command);
}

static int certificates_make(void **state)
{
        snprintf(folder, sizeof folder, "/tmp/wherry-tls-XXXXXX");
        assert_non_null(mkdtemp(folder));
        snprintf(qemu, sizeof qemu, "%s/alpha/pki/qemu", folder);
        assert_int_equal(run("%s %s alpha=" ADDRESS, script, folder), 0);
        assert_int_equal(chdir(folder), 0);
        /* mkdtemp() and the script keep the folders around them to themselves. */
        return run("chmod 755 %s && chmod 644 %s/*.pem", folder, qemu);
}

static int certificates_remove(void **state)
{
        return run("rm -rf %s%s", folder, "");
}

static void refused(const char *address, const char *text)
{
        struct err e = {0};

        assert_true(virt_tls_check(qemu, address, STRANGER, STRANGER, &e) < 0);
        if (!strstr(err_text(&e), text))
                fail_msg("\"%s\" does not say \"%s\"", err_text(&e), text);
}

static void accepted(const char *address)
{
        struct err e = {0};

        if (virt_tls_check(qemu, address, STRANGER, STRANGER, &e) < 0)
                fail_msg("%s", err_text(&e));
}

static void qemus_configuration_names_the_folder(void **state)
{
        static const struct {
                const char *conf, *folder;
        } cases[] = {
            {"", "/etc/pki/qemu"},
            {"#default_tls_x509_cert_dir = \"/no\"\n", "/etc/pki/qemu"},
            {"user = \"x\"\ndefault_tls_x509_cert_dir = \"/a b\"\n", "/a b"},
            {"default_tls_x509_cert_dir=\"/a\"\n  migrate_tls_x509_cert_dir\t= \"/m\" # yes", "/m"},
            {"migrate_tls_x509_cert_dir_old = \"/no\"\ndefault_tls_x509_cert_dir = '/a", "/a"},
            {"migrate_tls_x509_cert_dir = ", "/etc/pki/qemu"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_(freep) char *found = virt_tls_folder(cases[i].conf);

                assert_string_equal(found, cases[i].folder);
        }
}

static void what_the_script_makes_serves_both_ends(void **state)
{
        accepted(NULL);
        accepted(ADDRESS);
        accepted("alpha");
}

static void a_certificate_of_another_address_is_refused(void **state)
{
        refused("192.0.2.12", "server-cert.pem: not made for 192.0.2.12");
        refused("beta", "server-cert.pem: not made for beta");
}

static void each_end_needs_its_own_files(void **state)
{
        static const char *const files[] = {"ca-cert.pem", "server-cert.pem", "server-key.pem",
                                            "client-cert.pem", "client-key.pem"};

        for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
                bool client = files[i][0] != 's', server = files[i][1] != 'l';

                assert_int_equal(run("mv %s/%s .", qemu, files[i]), 0);
                if (server)
                        refused(ADDRESS, files[i]);
                else
                        accepted(ADDRESS);
                if (client)
                        refused(NULL, files[i]);
                else
                        accepted(NULL);
                assert_int_equal(run("mv %s %s/", files[i], qemu), 0);
        }
}

static void qemus_user_has_to_reach_them(void **state)
{
        struct err e = {0};

        assert_int_equal(run("chmod 640 %s/server-key.pem%s", qemu, ""), 0);
        refused(ADDRESS, "server-key.pem: QEMU's user 64999 may not read it: `chgrp 64999`");
        accepted(NULL);
        assert_int_equal(virt_tls_check(qemu, ADDRESS, 0, 0, &e), 0); /* root may */
        assert_int_equal(run("chmod 644 %s/server-key.pem && chmod 700 %s", qemu, qemu), 0);
        refused(NULL, "may not go through the folder");
        assert_int_equal(run("chmod 755 %s%s", qemu, ""), 0);
        accepted(ADDRESS);
}

/* Into client-cert.pem: a certificate that is valid from and to so many seconds from now. */
static void client_valid(long from, long to)
{
        _cleanup_(freep) char *path = str_printf("%s/client-cert.pem", qemu);
        gnutls_x509_privkey_t key;
        gnutls_x509_crt_t crt;
        gnutls_datum_t pem;

        assert_int_equal(gnutls_x509_privkey_init(&key), 0);
        assert_int_equal(gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
                                                      GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0),
                         0);
        assert_int_equal(gnutls_x509_crt_init(&crt), 0);
        gnutls_x509_crt_set_version(crt, 3);
        gnutls_x509_crt_set_serial(crt, "1", 1);
        gnutls_x509_crt_set_activation_time(crt, time(NULL) + from);
        gnutls_x509_crt_set_expiration_time(crt, time(NULL) + to);
        gnutls_x509_crt_set_key(crt, key);
        assert_int_equal(gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0), 0);
        assert_int_equal(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem), 0);
        assert_int_equal(file_write(path, pem.data, pem.size, 0644, NULL), 0);
        gnutls_free(pem.data);
        gnutls_x509_crt_deinit(crt);
        gnutls_x509_privkey_deinit(key);
}

static void a_certificate_is_valid_now_or_refused(void **state)
{
        assert_int_equal(run("cp %s/client-cert.pem %s/keep", qemu, folder), 0);
        client_valid(-10 * 86400, -3 * 86400);
        refused(NULL, "client-cert.pem: expired 3 days ago");
        client_valid(3600, 86400);
        refused(NULL, "client-cert.pem: not valid for another 3");
        client_valid(-3600, 86400);
        accepted(NULL);
        assert_int_equal(run("echo none >%s/client-cert.pem%s", qemu, ""), 0);
        refused(NULL, "client-cert.pem: not a certificate");
        assert_int_equal(run("cp %s/keep %s/client-cert.pem", folder, qemu), 0);
        accepted(NULL);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(qemus_configuration_names_the_folder),
            cmocka_unit_test(what_the_script_makes_serves_both_ends),
            cmocka_unit_test(a_certificate_of_another_address_is_refused),
            cmocka_unit_test(each_end_needs_its_own_files),
            cmocka_unit_test(qemus_user_has_to_reach_them),
            cmocka_unit_test(a_certificate_is_valid_now_or_refused),
        };

        if (argc != 2)
                return 2;
        script = argv[1];
        return cmocka_run_group_tests(tests, certificates_make, certificates_remove);
}
