/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "common/util.h"
#include "imaged/osinfo/helper.h"
#include "test-formats-util.h"

static struct osinfo release_find(const char *id, const char *version)
{
        struct os_release r = {.name = "As it calls itself"};
        struct osinfo o = {0};

        strcpy(r.id, id);
        strcpy(r.version_id, version);
        assert_int_equal(database_release(&r, &o, NULL), 0);
        return o;
}

/* An os-release's words, and what libosinfo calls the same. Versions of .99 are newer than any database:
 * where that has an entry for such, the system keeps the name that it has itself. */
static void releases_are_found_by_libosinfos_names(void **state)
{
        static const struct {
                const char *id, *version, *os, *distro, *name;
        } all[] = {
            {"rhel", "9.99", "rhel9-unknown", "rhel", "As it calls itself"},
            {"rocky", "9.99", "rocky9", "rocky", "Rocky Linux 9"},
            {"almalinux", "99.0", "", "almalinux", ""},
            {"centos", "9", "centos-stream9", "centos", "CentOS Stream 9"},
            {"ol", "99.0", "", "ol", ""},
            {"amzn", "2023", "", "amzn", ""},
            {"fedora", "99", "fedora-unknown", "fedora", "As it calls itself"},
            {"sles", "12.5", "sles12sp5", "sles", "SUSE Linux Enterprise Server 12 SP5"},
            {"sles", "15.99", "sle15", "sle", "SUSE Linux Enterprise 15"},
            {"opensuse-leap", "15.99", "opensuse-unknown", "opensuse", "As it calls itself"},
            {"opensuse-tumbleweed", "20240131", "opensusetumbleweed", "opensuse", "openSUSE Tumbleweed"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
                struct osinfo o = release_find(all[i].id, all[i].version);

                if (!streq(o.id, all[i].os) || !streq(o.distro, all[i].distro) ||
                    !streq(o.name, all[i].name))
                        fail_msg("%s %s: \"%s\", %s, %s", all[i].id, all[i].version, o.id, o.distro, o.name);
                assert_string_equal(o.version, all[i].version);
                assert_string_equal(o.type, "linux");
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(releases_are_found_by_libosinfos_names),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
