/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/json.h"
#include "common/util.h"
#include "formats/bytes.h"
#include "imaged/osinfo/helper.h"
#include "imaged/osinfo/osinfo.h"
#include "test-formats-util.h"

/* argv: the real helper (empty: not built), and the rogue one. */
static const char *helper, *rogue;

static void release_is(const char *text, const char *id, const char *version, const char *name)
{
        struct bytes b = {.data = malloc(strlen(text)), .len = strlen(text)}; /* a byte beyond is seen */
        struct os_release r;

        memcpy(b.data, text, b.len);
        os_release_parse((char *)b.data, b.len, &r);
        assert_string_equal(r.id, id);
        assert_string_equal(r.version_id, version);
        assert_string_equal(r.name, name);
        free(b.data);
}

static void os_release_files_are_read(void **state)
{
        release_is(
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\n"
            "ID=debian\nID_LIKE=x\n",
            "debian", "12", "Debian GNU/Linux 12 (bookworm)");
        release_is("ID='opensuse-leap'\nVERSION_ID='15.6'", "opensuse-leap", "15.6", "");
        release_is("PRETTY_NAME=\"a \\\"b\\\" \\$c\"\nID=x", "x", "", "a \"b\" $c");
        release_is("#ID=a\n XID=b\nID=\nIDX=c", "", "", "");
        release_is("ID=../../etc; rm\nVERSION_ID=\"1\"2\"", "....etcrm", "1", "");
        release_is("ID=\"never ends\nVERSION_ID=\\", "neverends", "", "");
        release_is("PRETTY_NAME=\"\x1b[31mred\xc3\xa4\"\n", "", "", "[31mred");
        release_is("ID=0123456789012345678901234567890123456789\n", "0123456789012345678901234567890", "",
                   "");
        release_is("ID", "", "", "");
}

static void volume_is(const char *volume, const char *distro, const char *version, const char *architecture)
{
        struct osinfo o = {0};

        assert_int_equal(volume_id_parse(volume, &o), distro[0] != '\0');
        assert_string_equal(o.distro, distro);
        assert_string_equal(o.version, version);
        assert_string_equal(o.architecture, architecture);
}

static void volume_identifiers_name_what_is_newer_than_the_database(void **state)
{
        volume_is("Debian 12.5.0 amd64 n", "debian", "12.5.0", "x86_64");
        volume_is("Ubuntu-Server 24.04 LTS amd64", "ubuntu", "24.04", "x86_64");
        volume_is("Fedora-S-dvd-x86_64-40", "fedora", "40", "x86_64");
        volume_is("Rocky-9-4-x86_64-dvd", "rocky", "9.4", "x86_64");
        volume_is("openSUSE-Leap-15.6-DVD-aarch64", "opensuse", "15.6", "aarch64");
        volume_is("alpine-std 3.19.1 x86_64", "alpinelinux", "3.19.1", "x86_64");
        volume_is("Debian testing amd64 n", "", "", "");
        volume_is("MY DEBIAN 12", "", "", "");
        volume_is("WHERRY_SMALL", "", "", "");
        volume_is("", "", "", "");
}

static void programs_tell_their_architecture(void **state)
{
        struct bytes b = file_load("/proc/self/exe");
        uint8_t head[ELF_HEAD] = {0x7f, 'E', 'L', 'F', 2, 1, 1};

#ifdef __x86_64__
        assert_string_equal(elf_architecture(b.data), "x86_64");
#endif
        free(b.data);
        put_le16(head + 18, 183);
        assert_string_equal(elf_architecture(head), "aarch64");
        head[5] = 2;
        put_be16(head + 18, 22);
        assert_string_equal(elf_architecture(head), "s390x");
        put_be16(head + 18, 183);
        assert_null(elf_architecture(head));
        head[0] = '#';
        assert_null(elf_architecture(head));
}

static int parse_text(const char *text, struct osinfo *ret)
{
        json_t *j = json_loads(text, 0, NULL);
        int r = osinfo_parse(j, ret, NULL);

        json_decref(j);
        return r;
}

static void what_was_found_survives_its_way_as_json(void **state)
{
        struct osinfo a = {.id = "debian11",
                           .name = "Debian 11 (x)",
                           .distro = "debian",
                           .version = "11",
                           .type = "linux",
                           .architecture = "x86_64",
                           .bios = true,
                           .uefi = true,
                           .min_ram = 1024,
                           .min_disk = 10,
                           .from = "media"},
                      b, none = {0};
        json_t *j = osinfo_json(&a);

        assert_int_equal(osinfo_parse(j, &b, NULL), 0);
        json_decref(j);
        j = osinfo_json(&b);
        assert_string_equal(b.name, a.name);
        assert_true(b.bios && b.uefi && b.min_ram == 1024 && b.min_disk == 10);
        assert_string_equal(osinfo_firmware(&b), "bios, uefi");
        json_decref(j);
        assert_int_equal(parse_text("{}", &b), 0);
        assert_true(osinfo_empty(&b) && osinfo_empty(&none) && !osinfo_empty(&a));

        assert_int_equal(parse_text("[]", &b), -EBADMSG);
        assert_int_equal(parse_text("{\"distro\":1}", &b), -EBADMSG);
        assert_int_equal(parse_text("{\"distro\":\"a b\"}", &b), -EBADMSG);
        assert_int_equal(parse_text("{\"version\":\"12\\n\"}", &b), -EBADMSG);
        assert_int_equal(parse_text("{\"type\":\"01234567890123456\"}", &b), -EBADMSG);
        assert_int_equal(parse_text("{\"min_disk\":99999999}", &b), -EBADMSG);
        assert_int_equal(parse_text("{\"firmware\":[1,\"coreboot\"]}", &b), 0);
        assert_true(osinfo_empty(&b));
}

/* --- the caller against a helper that was taken over --- */

static int rogue_says(char mode, int time_ms, struct osinfo *ret, struct err *err)
{
        struct bytes b = {.data = calloc(1, 1 << 20), .len = 1 << 20};
        struct source disk = memory_source(&b);
        int r;

        b.data[0] = (uint8_t)mode;
        b.data[b.len - 1] = 'z';
        *err = (struct err){0};
        r = osinfo_find_by(rogue, time_ms, &disk, false, ret, err);
        free(b.data);
        return r;
}

static void a_rogue_helper_hurts_nobody(void **state)
{
        static const struct {
                char mode;
                int r;
                const char *text;
        } cases[] = {{'l', -EBADMSG, "asks for 4294967295 bytes"},
                     {'0', -EBADMSG, "asks for 0 bytes"},
                     {'m', -EBADMSG, "having read 67"},
                     {'f', -EAGAIN, "does not take"},
                     {'j', -EBADMSG, "not a JSON object"},
                     {'p', -EBADMSG, "distro"},
                     {'n', -EBADMSG, "min_ram"},
                     {'a', -EBADMSG, "no message"},
                     {'k', -EPIPE, "Killed"},
                     {'e', -EPIPE, "exit status 3"},
                     {'c', -EPIPE, "without an answer"}};
        struct osinfo o = {0};
        struct err err;

        assert_int_equal(rogue_says('w', 30000, &o, &err), 0);
        assert_string_equal(o.distro, "rogue");
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                int r = rogue_says(cases[i].mode, 30000, &o, &err);

                if (r != cases[i].r || !strstr(err_text(&err), cases[i].text))
                        fail_msg("%c: %d, %s", cases[i].mode, r, err_text(&err));
        }
        assert_int_equal(rogue_says('s', 300, &o, &err), -ETIMEDOUT);
        /* killed and waited for, all of them */
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
        assert_int_equal(errno, ECHILD);
}

static void a_helper_that_is_not_there(void **state)
{
        struct bytes b = {.data = calloc(1, 512), .len = 512};
        struct source disk = memory_source(&b);
        struct osinfo o;
        struct err err = {0};

        assert_int_equal(osinfo_find_by("/nowhere/wherry-osinfo", 1000, &disk, false, &o, &err), -ENOENT);
        free(b.data);
}

/* --- the real one --- */

static int find_in(const char *file, bool iso, struct osinfo *ret, struct err *err)
{
        struct bytes b = file_load(file);
        struct source disk = memory_source(&b);
        int r = osinfo_find_by(helper, 60000, &disk, iso, ret, err);

        free(b.data);
        return r;
}

static void root_make(const char *folder, const char *release)
{
        sh("rm -rf %s && mkdir -p %s/etc %s/usr/lib %s/usr/bin && ln -s usr/bin %s/bin && "
           "printf '%s' >%s/usr/lib/os-release && ln -s ../usr/lib/os-release %s/etc/os-release && "
           "head -c 4096 /proc/self/exe >%s/usr/bin/dash && ln -s dash %s/usr/bin/sh",
           folder, folder, folder, folder, folder, release, folder, folder, folder, folder);
}

static void a_disk_tells_its_system(void **state)
{
        struct osinfo o = {0};
        struct err err = {0};

        root_make("root", "ID=debian\\nVERSION_ID=\"11\"\\nPRETTY_NAME=\"Debian\"\\n");
        sh("truncate -s 64M disk && sfdisk -q disk <<'END'\n"
           "label: gpt\n"
           "start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649\n"
           "start=4096, size=16384, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\n"
           "start=20480, size=81920\nEND\n"
           "truncate -s 8M efi && mkfs.fat efi >/dev/null && mmd -i efi ::/EFI ::/EFI/BOOT && echo x "
           ">BOOTX64.EFI && "
           "mcopy -i efi BOOTX64.EFI ::/EFI/BOOT/ && dd if=efi of=disk bs=1M seek=2 conv=notrunc "
           "status=none && "
           "mke2fs -q -F -t ext4 -d root -E offset=10485760 disk 40M 2>/dev/null");
        if (find_in("disk", false, &o, &err) < 0)
                fail_msg("%s", err_text(&err));
        assert_string_equal(o.id, "debian11");
        assert_string_equal(o.distro, "debian");
        assert_string_equal(o.version, "11");
        assert_string_equal(o.type, "linux");
        assert_string_equal(o.from, "os-release");
        assert_true(o.bios && o.uefi);
        assert_true(o.min_ram >= 256);
        assert_int_equal(o.min_disk, 0);
#ifdef __x86_64__
        assert_string_equal(o.architecture, "x86_64");
#endif
}

/* Its database has variants of the same distribution and version, in no order. */
static void a_plain_system_is_no_variant(void **state)
{
        static const char *const all[][3] = {{"fedora", "36", "fedora36"},
                                             {"fedora", "37", "fedora37"},
                                             {"rhel", "7.0", "rhel7.0"},
                                             {"rhel", "7.1", "rhel7.1"},
                                             {"centos", "8", "centos8"}};

        for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
                struct osinfo o = {0};
                struct err err = {0};
                char release[64];

                snprintf(release, sizeof(release), "ID=%s\\nVERSION_ID=\"%s\"\\n", all[i][0], all[i][1]);
                root_make("root", release);
                sh("rm -f disk && mke2fs -q -F -t ext2 -d root disk 8M");
                assert_int_equal(find_in("disk", false, &o, &err), 0);
                assert_string_equal(o.id, all[i][2]);
        }
}

static void disks_that_are_not_as_usual(void **state)
{
        struct osinfo o = {0};
        struct err err = {0};

        root_make("root", "ID=ourlinux\\nVERSION_ID=7.1\\nPRETTY_NAME=\"Our Linux\"\\n");
        sh("rm -f disk && mke2fs -q -F -t ext2 -d root disk 8M");
        assert_int_equal(find_in("disk", false, &o, &err), 0);
        assert_string_equal(o.id, "");
        assert_string_equal(o.distro, "ourlinux");
        assert_string_equal(o.version, "7.1");
        assert_string_equal(o.name, "Our Linux");
        assert_false(o.bios || o.uefi);
        /* what is encrypted or on LVM cannot be read; whose boot loader there is can */
        sh("truncate -s 64M esp && sfdisk -q esp <<'END'\n"
           "label: gpt\n"
           "start=4096, size=16384, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\nEND\n"
           "truncate -s 8M efi && mkfs.fat efi >/dev/null && mmd -i efi ::/EFI ::/EFI/BOOT ::/EFI/rocky && "
           "echo x >BOOTAA64.EFI && mcopy -i efi BOOTAA64.EFI ::/EFI/BOOT/ && "
           "dd if=efi of=esp bs=1M seek=2 conv=notrunc status=none");
        assert_int_equal(find_in("esp", false, &o, &err), 0);
        assert_string_equal(o.distro, "rocky");
        assert_string_equal(o.version, "");
        assert_string_equal(o.architecture, "aarch64");
        assert_string_equal(o.from, "loader");
        assert_true(o.uefi && !o.bios);
        sh("head -c 1M /dev/urandom >disk");
        assert_int_equal(find_in("disk", false, &o, &err), 0);
        assert_true(osinfo_empty(&o));
}

static void an_iso_tells_its_system(void **state)
{
        struct osinfo o = {0};
        struct err err = {0};

        sh("rm -rf tree iso && mkdir tree && head -c 2048 /dev/zero >tree/boot.img");
        sh("xorriso -as mkisofs -quiet -V 'Debian 11.5.0 amd64 n' -b boot.img -no-emul-boot -o iso tree "
           "2>/dev/null");
        if (find_in("iso", true, &o, &err) < 0)
                fail_msg("%s", err_text(&err));
        assert_string_equal(o.id, "debian11");
        assert_string_equal(o.name, "Debian 11");
        assert_string_equal(o.distro, "debian");
        assert_string_equal(o.version, "11");
        assert_string_equal(o.architecture, "x86_64");
        assert_string_equal(o.from, "media");
        assert_true(o.bios && !o.uefi);
        assert_true(o.min_ram >= 256 && o.min_disk >= 1);
        sh("rm iso && xorriso -as mkisofs -quiet -V 'Debian 99.1.0 arm64 n' -o iso tree 2>/dev/null");
        assert_int_equal(find_in("iso", true, &o, &err), 0);
        assert_string_equal(o.distro, "debian");
        assert_string_equal(o.version, "99.1.0");
        assert_string_equal(o.architecture, "aarch64");
        assert_string_equal(o.from, "volume-id");
        sh("rm iso && xorriso -as mkisofs -quiet -V 'Fedora-S-dvd-x86_64-99' -o iso tree 2>/dev/null");
        assert_int_equal(find_in("iso", true, &o, &err), 0);
        assert_string_equal(o.id, "fedora-unknown");
        assert_string_equal(o.version, "99");
        assert_string_equal(o.from, "media");
}

/* Links that lead out or nowhere, and no end of them. */
static void links_stay_inside(void **state)
{
        struct osinfo o = {0};
        struct err err = {0};

        sh("rm -rf root disk && mkdir -p root/etc root/usr/lib root/bin && "
           "ln -s ../../../../../../etc/os-release root/etc/os-release && ln -s os-release "
           "root/usr/lib/os-release && "
           "ln -s /proc/self/exe root/bin/sh && mke2fs -q -F -t ext4 -d root disk 8M");
        assert_int_equal(find_in("disk", false, &o, &err), 0);
        assert_true(osinfo_empty(&o));
}

/* A file system that claims 2^28 groups: their table takes 16 GiB. Then ones with errors all over. */
static void a_hostile_file_system_meets_the_limits(void **state)
{
        struct osinfo o = {0};
        struct bytes b, good;
        struct err err = {0};
        uint32_t seed = 7;

        root_make("root", "ID=debian\\nVERSION_ID=11\\n");
        sh("rm -f disk && mke2fs -q -F -t ext4 -b 1024 -O ^metadata_csum,64bit -d root disk 8M");
        good = file_load("disk");
        b = file_load("disk");
        put_le32(b.data + 1024, UINT32_C(8) << 28); /* s_inodes_count */
        put_le32(b.data + 1024 + 4, 0);             /* s_blocks_count: 2^36 */
        put_le32(b.data + 1024 + 0x150, 16);        /* its high half */
        put_le32(b.data + 1024 + 32, 256);          /* s_blocks_per_group */
        put_le32(b.data + 1024 + 36, 256);          /* s_clusters_per_group */
        put_le32(b.data + 1024 + 40, 8);            /* s_inodes_per_group */
        file_save("hostile", b.data, b.len);
#ifdef __SANITIZE_ADDRESS__
        find_in("hostile", false, &o, &err);
#else
        assert_int_equal(find_in("hostile", false, &o, &err), -EPIPE);
        assert_non_null(strstr(err_text(&err), "exit status 1"));
#endif
        assert_true(osinfo_empty(&o));
        for (unsigned i = 0; i < 12; i++) {
                memcpy(b.data, good.data, b.len);
                for (unsigned k = 0; k < 20; k++)
                        b.data[1024 + random_next(&seed) % 32768] = (uint8_t)random_next(&seed);
                file_save("hostile", b.data, b.len);
                find_in("hostile", false, &o, &err); /* whatever it says: it ends */
        }
        free(b.data);
        free(good.data);
}

/* --- its limits, seen from outside while it waits for a byte --- */

struct watched {
        bool looked;
        long open_files, memory, seconds;
        unsigned uid, fds;
        bool network, rights;
};

static long number_behind(const char *text, const char *word)
{
        const char *p = text ? strstr(text, word) : NULL;

        return p ? strtol(p + strlen(word), NULL, 0) : -1;
}

static int look_at_it(void *state, void *buf, size_t len, uint64_t offset, struct err *err)
{
        struct watched *w = state;
        char *pid = sh_text("pgrep -P %d -x wherry-osinfo | tr -d '\\n'", getpid());
        char *limits = sh_text("cat /proc/%s/limits", pid), *status = sh_text("cat /proc/%s/status", pid),
             *fds = sh_text("ls /proc/%s/fd | wc -l", pid),
             *net = sh_text("readlink /proc/%s/ns/net /proc/self/ns/net | uniq | wc -l", pid);

        w->looked = true;
        w->open_files = number_behind(limits, "Max open files");
        w->memory = number_behind(limits, "Max address space");
        w->seconds = number_behind(limits, "Max cpu time");
        w->uid = (unsigned)number_behind(status, "Uid:");
        w->rights =
            number_behind(status, "NoNewPrivs:") != 1 || !strstr(status, "CapEff:\t0000000000000000");
        w->fds = (unsigned)atoi(fds);
        w->network = atoi(net) == 1;
        free(pid);
        free(limits);
        free(status);
        free(fds);
        free(net);
        memset(buf, 0, len);
        return 0;
}

static void the_helper_has_no_rights(void **state)
{
        struct watched w = {0};
        struct source disk = {.size = 1 << 20, .read = look_at_it, .state = &w};
        struct osinfo o = {0};
        struct err err = {0};
        int leak = open("/dev/null", O_RDONLY); /* no CLOEXEC: somebody forgot it */

        if (osinfo_find_by(helper, 60000, &disk, false, &o, &err) < 0)
                fail_msg("%s", err_text(&err));
        close(leak);
        assert_true(w.looked);
        assert_int_equal(w.fds, 3);
        assert_int_equal(w.open_files, 64);
        assert_int_equal(w.seconds, 5);
#ifndef __SANITIZE_ADDRESS__
        assert_int_equal(w.memory, 384 << 20);
#endif
        if (getuid() == 0) {
                assert_int_equal(w.uid, 65534);
                assert_false(w.rights);
                assert_false(w.network);
        }
}

int main(int argc, char **argv)
{
        const struct CMUnitTest plain[] = {
            cmocka_unit_test(os_release_files_are_read),
            cmocka_unit_test(volume_identifiers_name_what_is_newer_than_the_database),
            cmocka_unit_test(programs_tell_their_architecture),
            cmocka_unit_test(what_was_found_survives_its_way_as_json),
            cmocka_unit_test(a_rogue_helper_hurts_nobody),
            cmocka_unit_test(a_helper_that_is_not_there),
        };
        const struct CMUnitTest real[] = {
            cmocka_unit_test(a_disk_tells_its_system),
            cmocka_unit_test(a_plain_system_is_no_variant),
            cmocka_unit_test(disks_that_are_not_as_usual),
            cmocka_unit_test(an_iso_tells_its_system),
            cmocka_unit_test(links_stay_inside),
            cmocka_unit_test(a_hostile_file_system_meets_the_limits),
            cmocka_unit_test(the_helper_has_no_rights),
        };
        int failed;

        if (argc < 2)
                return 2;
        rogue = realpath(argv[1], NULL);
        helper = argc > 2 ? realpath(argv[2], NULL) : NULL;
        failed = cmocka_run_group_tests(plain, work_begin, work_end);
        if (helper)
                failed += cmocka_run_group_tests(real, work_begin, work_end);
        free((char *)rogue);
        free((char *)helper);
        return failed;
}
