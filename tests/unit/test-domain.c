/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/util.h"
#include "hostd/domain/domain.h"
#include "hostd/virt/internal.h"

#define A "11111111-2222-4333-8444-555555555555"
#define B "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"

static void lease_survives_its_text(void **state)
{
        struct domain_lease l = {
            .instance = A, .epoch = UINT64_MAX, .start = {.id = B, .uid = UINT32_MAX, .gid = 0}};
        struct domain_lease back;
        char key[DOMAIN_LEASE_KEY_MAX];

        assert_int_equal(domain_lease_format(&l, key, sizeof key), 0);
        assert_string_equal(key, A ":18446744073709551615:" B ":4294967295:0:-");
        assert_int_equal(domain_lease_parse(key, &back, NULL), 0);
        assert_memory_equal(&l, &back, sizeof l);
        memcpy(l.attempt, A, sizeof A);
        assert_int_equal(domain_lease_format(&l, key, sizeof key), 0);
        assert_int_equal(domain_lease_parse(key, &back, NULL), 0);
        assert_memory_equal(&l, &back, sizeof l);
        assert_int_equal(domain_lease_format(&l, key, 40), -ENOSPC);
}

static void lease_in_any_other_form_is_refused(void **state)
{
        static const char *const bad[] = {
            "",
            ":",
            A,
            A ":1:" B ":0:0",
            A ":1:" B ":0:0:",
            A ":1:" B ":0:0:-:",
            A ":1:" B ":0:0:-x",
            A ":1:" B ":0:0:" B "x",
            A ":1:" B ":0:0:" B ":",
            A ":01:" B ":0:0:-",
            A ":-1:" B ":0:0:-",
            A ":+1:" B ":0:0:-",
            A ": 1:" B ":0:0:-",
            A ":18446744073709551616:" B ":0:0:-",
            A ":1:" B ":4294967296:0:-",
            A ":1:" B ":0:4294967296:-",
            "x" A ":1:" B ":0:0:-",
            "../../../../etc/passwd-4333-8444-5555:1:" B ":0:0:-",
        };

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                struct domain_lease l;
                struct err err = {0};

                if (domain_lease_parse(bad[i], &l, &err) != -EINVAL)
                        fail_msg("taken: %s", bad[i]);
                assert_int_equal(err.code, -EINVAL);
        }
}

static struct domain_spec example(struct domain_disk *disks, size_t n)
{
        struct domain_spec s = {
            .instance = A,
            .name = "web1",
            .cpus = 2,
            .memory = 1 << 30,
            .bridge = "br0",
            .mac = "52:54:00:00:00:01",
            .disks = disks,
            .n_disks = n,
            .lock_path = "/dev/null",
            .lease = {.instance = A, .epoch = 3, .start = {.id = B, .uid = 7, .gid = 8}}};

        return s;
}

static struct domain_disk file_disk(const char *path, bool read_only)
{
        struct domain_disk d = {
            .attach = {.kind = ATTACH_FILE, .read_only = read_only, .qcow2 = !read_only}};

        snprintf(d.attach.path, sizeof d.attach.path, "%s", path);
        return d;
}

static void has(const char *xml, const char *part)
{
        if (!strstr(xml, part))
                fail_msg("no %s in\n%s", part, xml);
}

static void xml_says_what_the_specification_says(void **state)
{
        struct domain_disk disks[] = {file_disk("/s/seed", true), file_disk("/s/disk0", false),
                                      file_disk("/s/disk1", false), file_disk("/s/iso", true)};
        struct domain_spec s = example(disks, ARRAY_SIZE(disks));
        _cleanup_(freep) char *xml = NULL, *kvm = NULL;
        struct domain_lease l;

        disks[1].attach.has_backing = true;
        strcpy(disks[1].attach.backing_path, "/s/golden");
        s.boot_cdrom_second = true;
        assert_int_equal(domain_xml(&s, &xml, NULL), 0);
        has(xml, "<domain type='qemu' ");
        has(xml, "<name>wherry-web1</name>");
        has(xml, "<memory unit='b'>1073741824</memory>");
        has(xml, "<source file='/s/disk0'/><backingStore type='file'><format type='raw'/><source "
                 "file='/s/golden'/>"
                 "<backingStore/></backingStore><target dev='vda' bus='virtio'/><boot order='1'/></disk>");
        has(xml, "<source file='/s/disk1'/><backingStore/><target dev='vdb' bus='virtio'/></disk>");
        has(xml, "<target dev='sda' bus='scsi'/><boot order='2'/><readonly/>");
        has(xml, "<target dev='sdb' bus='scsi'/><boot order='3'/><readonly/>");
        has(xml, "cache='none' error_policy='stop' rerror_policy='stop' discard='unmap'");
        has(xml, "<seclabel type='none' model='dac'/>");
        has(xml, "<on_poweroff>destroy</on_poweroff>");
        has(xml, "<on_reboot>restart</on_reboot>");
        has(xml, "<on_crash>destroy</on_crash>");
        has(xml, "<vcpu placement='static'>");
        has(xml, "<panic model='isa'/>");
        has(xml, "<qemu:arg value='qemu_system_powerdown_request'/>");
        has(xml, "<graphics type='vnc'><listen type='socket'/></graphics>");
        has(xml, "<interface type='bridge'><source bridge='br0'/><mac address='52:54:00:00:00:01'/>");
        assert_null(strstr(xml, "<cpu "));
        assert_int_equal(virt_xml_lease(xml, &l, NULL), 0);
        assert_memory_equal(&l, &s.lease, sizeof l);

        s.kvm = true;
        s.bridge = NULL;
        assert_int_equal(domain_xml(&s, &kvm, NULL), 0);
        has(kvm, "<domain type='kvm' ");
        has(kvm, "<cpu mode='host-model'");
        assert_null(strstr(kvm, "<interface"));
}

static void names_cannot_break_out_of_the_xml(void **state)
{
        struct domain_disk d = file_disk("/s/a'/><evil b=\"&", false);
        struct domain_spec s = example(&d, 1);
        _cleanup_(freep) char *xml = NULL;

        s.name = "<x>&'\"%s%n";
        s.lock_path = "/l'<>";
        assert_int_equal(domain_xml(&s, &xml, NULL), 0);
        has(xml, "<name>wherry-&lt;x&gt;&amp;&apos;&quot;%s%n</name>");
        has(xml, "<source file='/s/a&apos;/&gt;&lt;evil b=&quot;&amp;'/>");
        has(xml, "<target path='/l&apos;&lt;&gt;'/>");
        assert_null(strstr(xml, "<evil"));
}

static void specification_that_cannot_be_is_refused(void **state)
{
        struct domain_disk d = file_disk("relative", false);
        struct domain_spec s = example(&d, 1);
        struct err err = {0};
        char *xml = (char *)"untouched";

        assert_int_equal(domain_xml(&s, &xml, &err), -EINVAL);
        assert_non_null(strstr(err_text(&err), "relative"));
        d = file_disk("/s/disk0", false);
        s.lease.instance[0] = '2';
        assert_int_equal(domain_xml(&s, &xml, &err), -EINVAL);
        s = example(&d, 1);
        s.cpus = 0;
        assert_int_equal(domain_xml(&s, &xml, &err), -EINVAL);
        s = example(&d, 1);
        s.lock_path = NULL;
        assert_int_equal(domain_xml(&s, &xml, &err), -EINVAL);
        s = example(&d, 1);
        d.attach.kind = ATTACH_RBD;
        strcpy(d.attach.path, "pool/namespace/image");
        strcpy(d.attach.server, "10.0.0.1:6789");
        assert_int_equal(domain_xml(&s, &xml, &err), -EOPNOTSUPP);
        d.attach.server[0] = '\0';
        assert_int_equal(domain_xml(&s, &xml, &err), -EINVAL);
        assert_string_equal(xml, "untouched");
}

static void monitors_are_taken_apart(void **state)
{
        struct domain_disk d = {.attach = {.kind = ATTACH_RBD, .path = "pool/image"}};
        struct domain_spec s = example(&d, 1);
        _cleanup_(freep) char *xml = NULL;

        strcpy(d.attach.server, "10.0.0.1:6789,[fd00::1]:3300,mon3,fd00::2,");
        s.rbd_user = "wherry";
        s.rbd_secret = "client.wherry";
        assert_int_equal(domain_xml(&s, &xml, NULL), 0);
        has(xml, "<host name='10.0.0.1' port='6789'/><host name='fd00::1' port='3300'/><host name='mon3'/>"
                 "<host name='fd00::2'/><auth username='wherry'><secret type='ceph' "
                 "usage='client.wherry'/></auth>");
}

static void destination_gets_the_machine_and_cpu_that_run(void **state)
{
        static const char live[] =
            "<domain><os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>"
            "<cpu mode='custom' match='exact'>\n<model>Skylake</model></cpu><clock offset='utc'/>";
        static const char small[] =
            "<domain><type machine='pc-q35-7.2'/><cpu mode='maximum'/><clock offset='utc'/>";
        struct domain_disk d = file_disk("/s/disk0", false);
        struct domain_spec s = example(&d, 1);
        _cleanup_(freep) char *tcg = NULL, *kvm = NULL, *one = NULL, *two = NULL, *three = NULL;

        assert_int_equal(domain_xml(&s, &tcg, NULL), 0);
        s.kvm = true;
        assert_int_equal(domain_xml(&s, &kvm, NULL), 0);
        assert_int_equal(virt_destination_xml(live, tcg, &one, NULL), 0);
        has(one, "machine='pc-q35-7.2'>hvm");
        has(one, "<model>Skylake</model></cpu><clock offset='utc'>");
        assert_int_equal(virt_destination_xml(live, kvm, &two, NULL), 0);
        has(two, "<model>Skylake</model></cpu>");
        assert_null(strstr(two, "host-model"));
        has(kvm, "<panic model='isa'/>");
        assert_null(strstr(two, "<panic")); /* what runs has none */
        assert_int_equal(virt_destination_xml(small, kvm, &three, NULL), 0);
        has(three, "<cpu mode='maximum'/>\n");
        assert_int_equal(virt_destination_xml("<domain/>", kvm, &three, NULL), -EINVAL);
}

static void every_event_has_a_name(void **state)
{
        for (unsigned i = 0; i < VIRT_EVENT_KIND_MAX; i++)
                assert_string_not_equal(virt_event_name(i), "unknown");
        assert_string_equal(virt_event_name(VIRT_EVENT_KIND_MAX), "unknown");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(lease_survives_its_text),
            cmocka_unit_test(lease_in_any_other_form_is_refused),
            cmocka_unit_test(xml_says_what_the_specification_says),
            cmocka_unit_test(names_cannot_break_out_of_the_xml),
            cmocka_unit_test(specification_that_cannot_be_is_refused),
            cmocka_unit_test(monitors_are_taken_apart),
            cmocka_unit_test(destination_gets_the_machine_and_cpu_that_run),
            cmocka_unit_test(every_event_has_a_name),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
