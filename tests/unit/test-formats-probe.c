/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "formats/probe.h"
#include "test-formats-util.h"

/* Partition tables by sfdisk, file systems by mkfs.fat and mtools, ISO images by xorriso: what others make.
 */

static void table_of(const char *file, struct partition_table *ret)
{
        struct bytes b = file_load(file);
        struct source src = memory_source(&b);

        assert_int_equal(partition_table_read(&src, ret, NULL), 0);
        free(b.data);
}

static void partition_is(const struct partition *p, uint64_t mib, uint64_t len_mib, enum partition_kind kind)
{
        assert_int_equal(p->offset, mib << 20);
        assert_int_equal(p->len, len_mib << 20);
        assert_int_equal(p->kind, kind);
}

static void gpt_tells_its_partitions(void **state)
{
        struct partition_table t;

        sh("truncate -s 64M gpt && sfdisk -q gpt <<'END'\n"
           "label: gpt\n"
           "start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649\n"
           "start=4096, size=16384, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\n"
           "start=20480, size=65536, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4\nEND");
        table_of("gpt", &t);
        assert_true(t.found);
        assert_false(t.boot_code);
        assert_int_equal(t.n, 3);
        partition_is(&t.list[0], 1, 1, PARTITION_BIOS_BOOT);
        partition_is(&t.list[1], 2, 8, PARTITION_EFI);
        partition_is(&t.list[2], 10, 32, PARTITION_OTHER);
        sh("printf code | dd of=gpt conv=notrunc status=none");
        table_of("gpt", &t);
        assert_true(t.boot_code);
}

static void mbr_tells_its_partitions_logical_ones_too(void **state)
{
        struct partition_table t;

        sh("truncate -s 64M mbr && sfdisk -q mbr <<'END'\n"
           "label: dos\n"
           "start=2048, size=2048, type=83, bootable\n"
           "start=4096, size=2048, type=ef\n"
           "start=8192, type=5\n"
           "start=10240, size=4096, type=83\n"
           "start=16384, size=8192, type=82\nEND");
        table_of("mbr", &t);
        assert_true(t.found);
        assert_int_equal(t.n, 4);
        partition_is(&t.list[0], 1, 1, PARTITION_OTHER);
        partition_is(&t.list[1], 2, 1, PARTITION_EFI);
        partition_is(&t.list[2], 5, 2, PARTITION_OTHER);
        partition_is(&t.list[3], 8, 4, PARTITION_OTHER);
}

static void partitions_beyond_the_end_and_loops_are_left_out(void **state)
{
        struct partition_table t;
        struct bytes b;
        struct source src;

        sh("truncate -s 16M cut && sfdisk -q cut <<'END'\nlabel: gpt\nstart=2048, "
           "size=2048\nstart=20480\nEND\n"
           "truncate -s 4M cut");
        table_of("cut", &t);
        assert_true(t.found);
        assert_int_equal(t.n, 1);

        b = file_load("mbr");
        src = memory_source(&b);
        put_le32(b.data + 8192 * 512 + 446 + 16 + 8, 0); /* the chain ends */
        assert_int_equal(partition_table_read(&src, &t, NULL), 0);
        assert_int_equal(t.n, 3);
        put_le32(b.data + 8192 * 512 + 446 + 16 + 8, 2048); /* to the second record */
        b.data[(8192 + 2048) * 512 + 510] = 0x55;
        b.data[(8192 + 2048) * 512 + 511] = 0xaa;
        b.data[(8192 + 2048) * 512 + 446 + 16 + 4] = 5;
        put_le32(b.data + (8192 + 2048) * 512 + 446 + 16 + 8, 2048); /* which leads to itself */
        assert_int_equal(partition_table_read(&src, &t, NULL), 0);
        assert_int_equal(t.n, 3);
        free(b.data);
}

static void a_file_system_is_no_table(void **state)
{
        struct partition_table t;

        sh("truncate -s 4M plain && mkfs.fat plain >/dev/null");
        table_of("plain", &t);
        assert_false(t.found);
        sh("truncate -s 100 tiny");
        table_of("tiny", &t);
        assert_false(t.found);
}

static unsigned loaders_of(const char *file)
{
        struct bytes b = file_load(file);
        struct source src = memory_source(&b);
        struct efi efi;

        assert_int_equal(fat_efi_look(&src, &efi, NULL), 0);
        free(b.data);
        assert_int_equal(efi.n_vendors, 2);
        assert_string_equal(efi.vendors[0], "debian");
        assert_string_equal(efi.vendors[1], "micros~1");
        return efi.loaders;
}

static void fat_of_each_width_shows_its_loaders(void **state)
{
        static const struct {
                int bits;
                const char *size, *name;
                unsigned loader;
        } cases[] = {{12, "2M", "BOOTX64.EFI", EFI_LOADER_X64},
                     {16, "16M", "BOOTAA64.EFI", EFI_LOADER_AA64},
                     {32, "64M", "BOOTIA32.EFI", EFI_LOADER_IA32}};

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                sh("rm -f fat && truncate -s %s fat && mkfs.fat -F %d fat >/dev/null && mmd -i fat ::/EFI "
                   "::/EFI/debian ::/EFI/Microsoft",
                   cases[i].size, cases[i].bits);
                assert_int_equal(loaders_of("fat"), 0);
                sh("mmd -i fat ::/EFI/BOOT && echo loader >%s && mcopy -i fat %s ::/EFI/BOOT/",
                   cases[i].name, cases[i].name);
                assert_int_equal(loaders_of("fat"), cases[i].loader);
                /* a directory of several clusters */
                sh("mkdir many && for i in $(seq 300); do : >many/file-of-a-long-name-$i; done && "
                   "mdel -i fat ::/EFI/BOOT/%s && mcopy -i fat many/* ::/EFI/BOOT/ && rm -r many && "
                   "mcopy -i fat %s ::/EFI/BOOT/ && echo x >BOOTARM.EFI && mcopy -i fat BOOTARM.EFI "
                   "::/EFI/BOOT/",
                   cases[i].name, cases[i].name);
                assert_int_equal(loaders_of("fat"), cases[i].loader | EFI_LOADER_ARM);
        }
}

static void a_broken_fat_ends(void **state)
{
        struct bytes b;
        struct source src;
        struct efi efi;

        sh("rm -f fat && truncate -s 2M fat && mkfs.fat -F 12 -r 16 fat >/dev/null && mmd -i fat ::/EFI "
           "::/EFI/BOOT && echo x >BOOTX64.EFI && mcopy -i fat BOOTX64.EFI ::/EFI/BOOT/");
        b = file_load("fat");
        src = memory_source(&b);
        for (uint32_t seed = 1, i = 0; i < 2000; i++) {
                uint32_t at = random_next(&seed) % 8192;
                uint8_t was = b.data[at];

                b.data[at] = (uint8_t)random_next(&seed);
                fat_efi_look(&src, &efi, NULL); /* whatever it says: no byte beyond, and an end */
                b.data[at] = was;
        }
        assert_int_equal(fat_efi_look(&src, &efi, NULL), 0);
        assert_int_equal(efi.loaders, EFI_LOADER_X64);
        free(b.data);
}

static void iso_tells_its_identifiers_and_its_boot_entries(void **state)
{
        struct iso_probe p;
        struct bytes b;
        struct source src;

        sh("rm -rf tree && mkdir -p tree && truncate -s 2M tree/efi.img && mkfs.fat tree/efi.img >/dev/null "
           "&& "
           "head -c 2048 /dev/zero >tree/bios.img && "
           "xorriso -as mkisofs -quiet -V 'A volume' -sysid LINUX -publisher 'A PUBLISHER' -A 'AN "
           "APPLICATION' "
           "-o iso -b bios.img -no-emul-boot -boot-load-size 4 -eltorito-alt-boot -e efi.img -no-emul-boot "
           "tree "
           "2>/dev/null");
        b = file_load("iso");
        src = memory_source(&b);
        assert_int_equal(iso_probe(&src, &p, NULL), 0);
        assert_string_equal(p.volume, "A volume");
        assert_string_equal(p.system, "LINUX");
        assert_string_equal(p.publisher, "A PUBLISHER");
        assert_string_equal(p.application, "AN APPLICATION");
        assert_true(p.volume_size > 2 << 20 && p.volume_size <= b.len);
        assert_true(p.bios);
        assert_true(p.efi);
        assert_memory_equal(b.data + p.efi_offset + 510, "\x55\xaa", 2);
        memset(b.data + 16 * 2048 + 1, 'x', 5);
        assert_int_equal(iso_probe(&src, &p, NULL), -EBADMSG);
        free(b.data);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(gpt_tells_its_partitions),
            cmocka_unit_test(mbr_tells_its_partitions_logical_ones_too),
            cmocka_unit_test(partitions_beyond_the_end_and_loops_are_left_out),
            cmocka_unit_test(a_file_system_is_no_table),
            cmocka_unit_test(fat_of_each_width_shows_its_loaders),
            cmocka_unit_test(a_broken_fat_ends),
            cmocka_unit_test(iso_tells_its_identifiers_and_its_boot_entries),
        };

        return cmocka_run_group_tests(tests, work_begin, work_end);
}
