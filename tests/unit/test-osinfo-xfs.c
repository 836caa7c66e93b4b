/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "imaged/osinfo/helper.h"
#include "test-formats-util.h"
#include "tests/fuzz/packed.h"

/*
 * XFS by mkfs.xfs, which fills a file system from a list (-p) without mounting it; --unsupported lets it be
 * small. What only a kernel makes (fragmented files, places that were reserved and never written) is in the
 * fuzzer's corpus, which a kernel has made.
 */
static const char *corpus, *helper; /* empty: the helper is not built */

static const char release[] =
    "ID=\"rocky\"\nVERSION_ID=\"9.4\"\nPRETTY_NAME=\"Rocky Linux 9.4 (Blue Onyx)\"\n";

/* /etc has n files whose names are as long as os-release's, which comes last. */
static void proto_make(unsigned n, const char *link)
{
        FILE *f = fopen("proto", "w");

        assert_non_null(f);
        fprintf(f, "/none\n0 0\nd--755 0 0\nbin l--777 0 0 usr/bin\netc d--755 0 0\n");
        for (unsigned i = 0; i < n; i++)
                fprintf(f, "f%09u ---644 0 0 %s\n", i, i % 8 ? "empty" : "small");
        fprintf(f, "os-release l--777 0 0 %s\n$\n", link);
        fprintf(f, "usr d--755 0 0\nbin d--755 0 0\ndash ---755 0 0 program\nsh l--777 0 0 dash\n$\n"
                   "lib d--755 0 0\nos-release ---644 0 0 release\n$\n$\n$\n");
        fclose(f);
        file_save("release", release, strlen(release));
        file_save("small", "x", 1);
        sh(": >empty && head -c 4096 /proc/self/exe >program");
}

static void xfs_make(const char *options)
{
        sh("rm -f disk && truncate -s 52M disk && mkfs.xfs -q --unsupported -p proto %s disk >mkfs.log 2>&1 "
           "|| "
           "{ cat mkfs.log; exit 1; }",
           options);
}

static bool look(const struct source *disk, struct os_release *ret, const char **architecture)
{
        *ret = (struct os_release){0};
        *architecture = NULL;
        assert_int_equal(xfs_look(disk, ret, architecture, NULL), 0);
        return ret->id[0] || *architecture;
}

static bool is_rocky(const struct source *disk)
{
        struct os_release r;
        const char *architecture;

        if (!look(disk, &r, &architecture))
                return false;
        assert_string_equal(r.id, "rocky");
        assert_string_equal(r.version_id, "9.4");
        assert_string_equal(r.name, "Rocky Linux 9.4 (Blue Onyx)");
        assert_non_null(architecture);
        return true;
}

static bool disk_is_rocky(void)
{
        struct bytes b = file_load("disk");
        struct source disk = memory_source(&b);
        bool found = is_rocky(&disk);

        free(b.data);
        return found;
}

static void every_layout_is_read(void **state)
{
        static const char *const layouts[] = {
            "",
            "-s size=4096",
            "-b size=1024 -i size=512",
            "-b size=2048 -i size=1024",
            "-i size=2048",
            "-n size=65536",
            "-i nrext64=1",
            "-d agcount=3 -m rmapbt=1,reflink=1",
            "-m bigtime=0,reflink=0,finobt=0,inobtcount=0 -i sparse=0",
            "-m crc=0",
            "-m crc=0 -n ftype=0 -b size=512 -i size=256",
            "-m crc=0 -b size=1024 -i size=256 -n size=8192",
            "-m crc=0 -n version=ci -i size=2048",
        };
        static const unsigned names[] = {0, 30, 4000}; /* in the inode, in one block, in many */

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                proto_make(names[i], "../usr/lib/os-release");
                for (size_t k = 0; k < ARRAY_SIZE(layouts); k++) {
                        xfs_make(layouts[k]);
                        if (!disk_is_rocky())
                                fail_msg("%u names, %s", names[i], layouts[k]);
                }
        }
}

/* A link that does not fit into its inode, and links that lead nowhere. mkfs.xfs 6.1 forgets such a link's
 * header where there are check sums; the corpus has one of a kernel's. */
static void links_are_followed(void **state)
{
        char far[400] = "";

        for (unsigned i = 0; i < 150; i++)
                strcat(far, "./");
        strcat(far, "../usr/lib/os-release");
        proto_make(0, far);
        xfs_make("-m crc=0 -i size=256");
        assert_true(disk_is_rocky());
        proto_make(0, "/../../usr/./lib/../lib/os-release");
        xfs_make("");
        assert_true(disk_is_rocky());
        proto_make(0, "os-release");
        xfs_make("");
        assert_true(disk_is_rocky()); /* by /usr/lib */
}

/* The corpus' files, each with its bytes on the heap. */
static struct bytes corpus_load(unsigned which)
{
        static const char *const names[] = {"short",     "v4-block", "v4-link",   "leaf",
                                            "large-dir", "v4-tree",  "fragmented"};
        char path[512];

        if (which >= ARRAY_SIZE(names))
                return (struct bytes){0};
        snprintf(path, sizeof(path), "%s/%s", corpus, names[which]);
        return file_load(path);
}

static void what_a_kernel_made_is_read(void **state)
{
        struct bytes b;

        for (unsigned i = 0; (b = corpus_load(i)).data; i++) {
                struct packed packed;
                struct source disk = packed_source(&packed, b.data, b.len);

                assert_true(is_rocky(&disk));
                free(b.data);
        }
}

static void features_that_are_unknown_are_not_read(void **state)
{
        struct bytes b;
        struct source disk;

        proto_make(0, "../usr/lib/os-release");
        xfs_make("");
        b = file_load("disk");
        disk = memory_source(&b);
        put_be32(b.data + 216, get_be32(b.data + 216) | 0x1d4); /* without a meaning for where things lie */
        assert_true(is_rocky(&disk));
        put_be32(b.data + 216, get_be32(b.data + 216) | 0x200);
        assert_false(is_rocky(&disk));
        put_be32(b.data + 216, 3);
        assert_true(is_rocky(&disk));
        b.data[126] = 1; /* mkfs has not ended */
        assert_false(is_rocky(&disk));
        b.data[126] = 0;
        for (size_t i = 120; i < 125; i++) { /* sizes that do not fit each other */
                b.data[i]++;
                assert_false(is_rocky(&disk));
                b.data[i]--;
        }
        for (size_t cut = 0; cut < 300; cut += 7) { /* a file that ends too early */
                struct source part = disk;

                part.size = cut;
                assert_false(is_rocky(&part));
        }
        free(b.data);
}

/* Bytes changed at random. Whatever comes out: it ends, and has asked for less than the caller gives. */
static void damaged_ones_hurt_nobody(void **state)
{
        struct bytes b;
        unsigned most = 0;
        uint32_t seed = 11;

        for (unsigned i = 0; (b = corpus_load(i)).data; i++) {
                uint8_t *copy = malloc(b.len);

                for (unsigned round = 0; round < 1000; round++) {
                        struct packed packed;
                        struct source disk;
                        struct os_release r;
                        const char *architecture;

                        memcpy(copy, b.data, b.len);
                        for (unsigned k = random_next(&seed) % 40; k > 0; k--)
                                copy[4 + random_next(&seed) % (b.len - 4)] = (uint8_t)random_next(&seed);
                        disk = packed_source(&packed, copy, b.len);
                        look(&disk, &r, &architecture);
                        most = MAX_OF(most, packed.reads);
                }
                free(copy);
                free(b.data);
        }
        assert_in_range(most, 10, 3200);
}

static void an_xfs_in_a_partition_tells_its_system(void **state)
{
        struct osinfo o = {0};
        struct err err = {0};
        struct bytes b;
        struct source whole;

        proto_make(500, "../usr/lib/os-release");
        xfs_make("-m rmapbt=1");
        sh("truncate -s 72M whole && sfdisk -q whole <<'END'\n"
           "label: gpt\n"
           "start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649\n"
           "start=4096, size=16384, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\n"
           "start=20480, size=106496\nEND\n"
           "truncate -s 8M efi && mkfs.fat efi >/dev/null && mmd -i efi ::/EFI ::/EFI/BOOT ::/EFI/rocky && "
           "echo x >BOOTX64.EFI && mcopy -i efi BOOTX64.EFI ::/EFI/BOOT/ && "
           "dd if=efi of=whole bs=1M seek=2 conv=notrunc status=none && "
           "dd if=disk of=whole bs=1M seek=10 conv=notrunc status=none");
        b = file_load("whole");
        whole = memory_source(&b);
        if (osinfo_find_by(helper, 60000, &whole, false, &o, &err) < 0)
                fail_msg("%s", err_text(&err));
        free(b.data);
        assert_string_equal(o.id, "rocky9");
        assert_string_equal(o.distro, "rocky");
        assert_string_equal(o.version, "9.4");
        assert_string_equal(o.type, "linux");
        assert_string_equal(o.from, "os-release");
        assert_true(o.bios && o.uefi);
#ifdef __x86_64__
        assert_string_equal(o.architecture, "x86_64");
#endif
}

int main(int argc, char **argv)
{
        const struct CMUnitTest plain[] = {
            cmocka_unit_test(every_layout_is_read),
            cmocka_unit_test(links_are_followed),
            cmocka_unit_test(what_a_kernel_made_is_read),
            cmocka_unit_test(features_that_are_unknown_are_not_read),
            cmocka_unit_test(damaged_ones_hurt_nobody),
        };
        const struct CMUnitTest real[] = {cmocka_unit_test(an_xfs_in_a_partition_tells_its_system)};
        int failed;

        if (argc < 2)
                return 2;
        corpus = realpath(argv[1], NULL);
        helper = argc > 2 ? realpath(argv[2], NULL) : NULL;
        failed = cmocka_run_group_tests(plain, work_begin, work_end);
        if (helper)
                failed += cmocka_run_group_tests(real, work_begin, work_end);
        free((char *)corpus);
        free((char *)helper);
        return failed;
}
