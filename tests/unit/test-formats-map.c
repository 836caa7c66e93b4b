/* SPDX-License-Identifier: Apache-2.0 */
#include "test-formats-util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/util.h"

/* What QEMU says that the disk is, against both of our ways to read it. */
static void same_as_qemu(const char *path, const char *driver, enum image_format format, bool streams,
                         const char *what)
{
        struct bytes want;
        struct source src;
        struct image_info info;
        struct err err = {0};
        uint8_t *got;
        uint64_t size = 0;
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        sh("qemu-img convert -f %s -O raw %s want.raw", driver, path);
        want = file_load("want.raw");
        assert_true(fd >= 0);
        assert_int_equal(source_from_fd(fd, &src, &err), 0);
        assert_int_equal(image_inspect(&src, (int)format, &info, &err), 0);
        if (info.n_refusals > 0)
                fail_msg("%s: %s: %s: %s", what, info.refusals[0].code, info.refusals[0].field,
                         info.refusals[0].message);
        if (info.virtual_size != want.len)
                fail_msg("%s: %llu bytes, QEMU says %zu", what, (unsigned long long)info.virtual_size,
                         want.len);
        got = disk_read(&src, &info, 7, &err);
        if (!got)
                fail_msg("%s: read: %s", what, err_text(&err));
        if (memcmp(got, want.data, want.len) != 0)
                fail_msg("%s: read: other content than QEMU's", what);
        free(got);
        got = disk_stream(&src, format, true, 9, &size, &err);
        if (!streams) {
                assert_null(got);
                assert_non_null(strstr(err.text, "table-order"));
        } else if (!got) {
                fail_msg("%s: stream: %s", what, err_text(&err));
        } else {
                assert_true(size == want.len);
                if (memcmp(got, want.data, want.len) != 0)
                        fail_msg("%s: stream: other content than QEMU's", what);
                free(got);
        }
        free(want.data);
        close(fd);
}

static void test_convert(void **state)
{
        static const struct {
                uint64_t size;
                const char *driver;
                enum image_format format;
                const char *options;
        } cases[] = {
            {512, "vmdk", IMAGE_VMDK, ""},
            {(1 << 20) + 512, "vmdk", IMAGE_VMDK, ""},
            {20 << 20, "vmdk", IMAGE_VMDK, "-o adapter_type=lsilogic"},
            {20 << 20, "vmdk", IMAGE_VMDK, "-o compat6=on"},
            {20 << 20, "vmdk", IMAGE_VMDK, "-o zeroed_grain=on"},
            {20 << 20, "vmdk", IMAGE_VMDK, "-W -m 8"},
            {UINT64_C(300) << 20, "vmdk", IMAGE_VMDK, ""},
            {512, "vmdk", IMAGE_VMDK, "-o subformat=streamOptimized"},
            {(1 << 20) + 512, "vmdk", IMAGE_VMDK, "-o subformat=streamOptimized"},
            {20 << 20, "vmdk", IMAGE_VMDK, "-o subformat=streamOptimized"},
            {UINT64_C(300) << 20, "vmdk", IMAGE_VMDK, "-o subformat=streamOptimized"},
            {512, "vdi", IMAGE_VDI, ""},
            {(1 << 20) + 512, "vdi", IMAGE_VDI, ""},
            {20 << 20, "vdi", IMAGE_VDI, ""},
            {20 << 20, "vdi", IMAGE_VDI, "-W -m 8"},
            {20 << 20, "vdi", IMAGE_VDI, "-o static=on"},
            {UINT64_C(300) << 20, "vdi", IMAGE_VDI, ""},
            {512, "vpc", IMAGE_VHD, ""},
            {(1 << 20) + 512, "vpc", IMAGE_VHD, ""},
            {(1 << 20) + 512, "vpc", IMAGE_VHD, "-o force_size=on"},
            {20 << 20, "vpc", IMAGE_VHD, ""},
            {20 << 20, "vpc", IMAGE_VHD, "-o force_size=on"},
            {20 << 20, "vpc", IMAGE_VHD, "-o subformat=fixed"},
            {20 << 20, "vpc", IMAGE_VHD, "-o subformat=fixed,force_size=on"},
            {UINT64_C(300) << 20, "vpc", IMAGE_VHD, "-o force_size=on"},
            {512, "vhdx", IMAGE_VHDX, ""},
            {(1 << 20) + 512, "vhdx", IMAGE_VHDX, ""},
            {20 << 20, "vhdx", IMAGE_VHDX, ""},
            {20 << 20, "vhdx", IMAGE_VHDX, "-o block_size=1M"},
            {20 << 20, "vhdx", IMAGE_VHDX, "-o block_size=4M,log_size=2M"},
            {20 << 20, "vhdx", IMAGE_VHDX, "-o subformat=fixed"},
            {UINT64_C(300) << 20, "vhdx", IMAGE_VHDX, "-o block_size=1M"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                char *what = str_printf("%s %s, %llu bytes", cases[i].driver, cases[i].options,
                                        (unsigned long long)cases[i].size);

                assert_non_null(what);
                unlink("disk.img");
                disk_make("disk.raw", cases[i].size, 500 + (uint32_t)i);
                sh("qemu-img convert -f raw -O %s %s disk.raw disk.img", cases[i].driver, cases[i].options);
                same_as_qemu("disk.img", cases[i].driver, cases[i].format, true, what);
                free(what);
        }
}

/* Blocks in the order of chance, some overwritten, some zeroed. */
static void test_lived_in(void **state)
{
        static const struct {
                const char *driver;
                enum image_format format;
        } all[] = {{"vmdk", IMAGE_VMDK}, {"vdi", IMAGE_VDI}, {"vpc", IMAGE_VHD}, {"vhdx", IMAGE_VHDX}};

        for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
                sh("qemu-img create -q -f %s lived.img 40M", all[i].driver);
                sh("qemu-io -f %s -c 'write -q -P 1 30M 3M' -c 'write -q -P 2 0 5M' -c 'write -q -P 3 38M "
                   "1M' "
                   "-c 'write -q -P 4 12345k 77k' -c 'write -q -P 5 1M 64k' lived.img",
                   all[i].driver);
                same_as_qemu("lived.img", all[i].driver, all[i].format, true, all[i].driver);
        }
}

static int counting_read(void *state, void *buf, size_t len, uint64_t offset, struct err *err)
{
        struct source *outer = ((void **)state)[0];

        ++*(unsigned *)((void **)state)[1];
        return source_read(outer, buf, len, offset, err);
}

/* Who reads a full disk piece by piece has each table read about once, not all of them for each piece. */
static void test_tables_are_read_once(void **state)
{
        static const struct {
                const char *options;
                enum image_format format;
        } all[] = {{"vmdk -S 0", IMAGE_VMDK}, {"qcow2 -S 0 -o cluster_size=4k", IMAGE_QCOW2}};

        for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
                struct image_info info;
                struct source file, src;
                struct image *img = NULL;
                struct err err = {0};
                unsigned reads = 0;
                void *counted[] = {&file, &reads};
                bool data = false;
                uint64_t len = 0;
                int fd;

                sh("rm -f full.img && qemu-img create -q -f raw full.raw 64M && "
                   "qemu-img convert -f raw -O %s full.raw full.img",
                   all[i].options);
                fd = open("full.img", O_RDONLY | O_CLOEXEC);
                assert_int_equal(source_from_fd(fd, &file, &err), 0);
                src = (struct source){.size = file.size, .read = counting_read, .state = counted};
                assert_int_equal(image_inspect(&src, (int)all[i].format, &info, &err), 0);
                assert_int_equal(info.n_refusals, 0);
                assert_int_equal(image_open(&src, &info, &img, &err), 0);
                reads = 0;
                for (uint64_t at = 0; at < image_size(img); at += 1 << 20) {
                        assert_int_equal(image_extent(img, at, &len, &data, &err), 0);
                        assert_true(data && len >= 1 << 20);
                }
                if (reads > 40)
                        fail_msg("%s: %u reads", all[i].options, reads);
                image_close(img);
                close(fd);
        }
}

/* Blocks of which only the tables were written are holes, so that a sparse disk costs what its data does. */
static void test_holes_below_tables(void **state)
{
        static const struct {
                const char *driver, *options;
                enum image_format format;
        } all[] = {{"qcow2", "qcow2 -o preallocation=metadata", IMAGE_QCOW2},
                   {"qcow2", "qcow2 -o preallocation=metadata,extended_l2=on", IMAGE_QCOW2},
                   {"vdi", "vdi -o static=on", IMAGE_VDI},
                   {"vhdx", "vhdx -o subformat=fixed,block_size=32M", IMAGE_VHDX}};

        for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
                struct image_info info;
                struct source src;
                struct image *img = NULL;
                struct err err = {0};
                uint64_t len = 0, total = 0;
                bool data = false;
                int fd;

                sh("rm -f thin.img && qemu-img create -q -f %s thin.img 256M && "
                   "qemu-io -f %s -c 'write -q -P 7 100M 1M' thin.img",
                   all[i].options, all[i].driver);
                fd = open("thin.img", O_RDONLY | O_CLOEXEC);
                assert_int_equal(source_from_fd(fd, &src, &err), 0);
                assert_int_equal(image_inspect(&src, (int)all[i].format, &info, &err), 0);
                assert_int_equal(info.n_refusals, 0);
                assert_int_equal(image_open(&src, &info, &img, &err), 0);
                for (uint64_t at = 0; at < image_size(img); at += len) {
                        assert_int_equal(image_extent(img, at, &len, &data, &err), 0);
                        total += data ? len : 0;
                }
                if (total < 1 << 20 || total > 8 << 20)
                        fail_msg("%s: %llu bytes of data", all[i].options, (unsigned long long)total);
                image_close(img);
                close(fd);
                same_as_qemu("thin.img", all[i].driver, all[i].format, true, all[i].options);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_convert),
            cmocka_unit_test(test_lived_in),
            cmocka_unit_test(test_tables_are_read_once),
            cmocka_unit_test(test_holes_below_tables),
        };

        return cmocka_run_group_tests_name("formats-map", tests, work_begin, work_end);
}
