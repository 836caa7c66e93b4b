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
static void same_as_qemu(const char *path, bool streams, const char *what)
{
        struct bytes want;
        struct source src;
        struct image_info info;
        struct err err = {0};
        uint8_t *got;
        uint64_t size = 0;
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        sh("qemu-img convert -f qcow2 -O raw %s want.raw", path);
        want = file_load("want.raw");
        assert_true(fd >= 0);
        assert_int_equal(source_from_fd(fd, &src, &err), 0);
        assert_int_equal(image_inspect(&src, -1, &info, &err), 0);
        if (info.n_refusals > 0)
                fail_msg("%s: %s: %s", what, info.refusals[0].code, info.refusals[0].message);
        assert_int_equal(info.format, IMAGE_QCOW2);
        assert_true(info.virtual_size == want.len);
        got = disk_read(&src, &info, 7, &err);
        if (!got)
                fail_msg("%s: read: %s", what, err_text(&err));
        if (memcmp(got, want.data, want.len) != 0)
                fail_msg("%s: read: other content than QEMU's", what);
        free(got);
        for (int known = 0; known < 2; known++) {
                got = disk_stream(&src, IMAGE_QCOW2, known, 9, &size, &err);
                if (!streams) {
                        assert_null(got);
                        assert_int_equal(err.code, -EBADMSG);
                        assert_non_null(strstr(err.text, "table-order"));
                        continue;
                }
                if (!got)
                        fail_msg("%s: stream: %s", what, err_text(&err));
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
                const char *options;
        } cases[] = {
            {512, ""},
            {65536, "-o compat=0.10"},
            {(1 << 20) + 512, ""},
            {(1 << 20) + 512, "-c"},
            {(1 << 20) + 512, "-c -o compression_type=zstd"},
            {20 << 20, "-o compat=0.10"},
            {20 << 20, "-c -o compat=0.10"},
            {20 << 20, "-o compat=1.1"},
            {20 << 20, "-c"},
            {20 << 20, "-c -o compression_type=zstd"},
            {20 << 20, "-o cluster_size=512"},
            {20 << 20, "-c -o cluster_size=512"},
            {20 << 20, "-c -o cluster_size=4k,compression_type=zstd"},
            {20 << 20, "-o cluster_size=2M"},
            {20 << 20, "-c -o cluster_size=2M"},
            {20 << 20, "-c -o cluster_size=2M,compression_type=zstd"},
            {20 << 20, "-o preallocation=metadata"},
            {20 << 20, "-o preallocation=falloc"},
            {20 << 20, "-o preallocation=full"},
            {20 << 20, "-o lazy_refcounts=on"},
            {20 << 20, "-o refcount_bits=1"},
            {20 << 20, "-o refcount_bits=64"},
            {20 << 20, "-o extended_l2=on"},
            {(1 << 20) + 512, "-o extended_l2=on"},
            {20 << 20, "-c -o extended_l2=on"},
            {20 << 20, "-o extended_l2=on,cluster_size=16k"},
            {20 << 20, "-o extended_l2=on,cluster_size=2M"},
            {20 << 20, "-W -m 16"},
            {20 << 20, "-c -W -m 16"},
            {20 << 20, "-S 0"},
            {(UINT64_C(600) << 20) + 512, "-c"},
            {48 << 20, "-o cluster_size=4k"},
            {48 << 20, "-c -o cluster_size=4k,compression_type=zstd"},
            {48 << 20, "-c -W -m 16 -o cluster_size=4k"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                disk_make("disk.raw", cases[i].size, 1000 + (uint32_t)i);
                sh("qemu-img convert -f raw -O qcow2 %s disk.raw disk.qcow2", cases[i].options);
                same_as_qemu("disk.qcow2", true, cases[i].options);
        }
}

/* Sparse compressed data: many L2 tables pass before the cluster that holds all their data is full. */
static void test_late_compressed(void **state)
{
        sh("qemu-img create -q -f raw disk.raw 48M");
        for (int i = 0; i < 24; i++)
                sh("qemu-io -f raw -c 'write -q -P %d %dk 4k' disk.raw", i + 1, i * 2048 + 12);
        sh("qemu-img convert -f raw -O qcow2 -c -o cluster_size=4k disk.raw disk.qcow2");
        same_as_qemu("disk.qcow2", true, "sparse compressed");
}

/* What QEMU itself makes while a guest writes: order by chance, zeroed and discarded clusters, snapshots, a
 * moved L1. */
static void test_lived_in(void **state)
{
        sh("qemu-img create -q -f qcow2 lived.qcow2 40M");
        sh("qemu-io -c 'write -q -P 1 30M 3M' -c 'write -q -P 2 0 5M' -c 'write -q -z 1M 1M' "
           "-c 'write -q -P 3 39M 1M' -c 'discard -q 31M 1M' -c 'write -q -P 4 12345k 77k' lived.qcow2");
        same_as_qemu("lived.qcow2", true, "written at random");
        sh("qemu-img snapshot -c one lived.qcow2 && qemu-io -c 'write -q -P 5 2M 2M' lived.qcow2");
        same_as_qemu("lived.qcow2", true, "with a snapshot; small enough to be kept");
        sh("qemu-img create -q -f qcow2 -o cluster_size=512 grown.qcow2 1M");
        sh("qemu-io -c 'write -q -P 1 0 1M' grown.qcow2 && qemu-img resize -q grown.qcow2 64M");
        sh("qemu-io -c 'write -q -P 2 40M 20M' grown.qcow2");
        same_as_qemu("grown.qcow2", true, "its L1 table moved");
        sh("qemu-img create -q -f qcow2 late.qcow2 600M && qemu-io -c 'write -q -P 7 0 40M' late.qcow2");
        sh("qemu-img snapshot -c one late.qcow2 && qemu-io -c 'write -q -P 8 50M 64k' late.qcow2");
        same_as_qemu("late.qcow2", false, "an L2 table 40 MiB after its data");
}

static void test_overwritten_compressed(void **state)
{
        disk_make("disk.raw", 8 << 20, 5);
        sh("qemu-img convert -f raw -O qcow2 -c disk.raw disk.qcow2");
        sh("qemu-io -c 'write -q -P 9 1M 1M' -c 'write -q -z 3M 1M' disk.qcow2");
        same_as_qemu("disk.qcow2", true, "compressed, then written");
        sh("qemu-img convert -f raw -O qcow2 -o compat=0.10 disk.raw old.qcow2");
        sh("qemu-io -c 'write -q -P 9 1M 1M' old.qcow2 && qemu-img amend -f qcow2 -o compat=1.1 old.qcow2");
        same_as_qemu("old.qcow2", true, "amended from version 2 to 3");
}

/* A disk that is marked as in use (lazy refcounts): its tables are what counts. */
static void test_dirty(void **state)
{
        struct bytes b;

        disk_make("disk.raw", 4 << 20, 6);
        sh("qemu-img convert -f raw -O qcow2 -o lazy_refcounts=on disk.raw disk.qcow2");
        b = file_load("disk.qcow2");
        b.data[79] |= 1;
        file_save("disk.qcow2", b.data, b.len);
        free(b.data);
        same_as_qemu("disk.qcow2", true, "dirty");
}

static void test_raw(void **state)
{
        static const uint64_t sizes[] = {1, 512, 1000, 32774, 128 * 1024, 128 * 1024 + 1, (5 << 20) + 77};

        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
                struct bytes b;
                struct source src;
                struct image_info info;
                struct err err = {0};
                uint64_t size = 0, whole = (sizes[i] + 511) / 512 * 512;
                uint8_t *got, *streamed;

                disk_make("disk.raw", sizes[i], 50 + (uint32_t)i);
                b = file_load("disk.raw");
                src = memory_source(&b);
                assert_int_equal(image_inspect(&src, IMAGE_RAW, &info, &err), 0);
                assert_int_equal(info.n_refusals, 0);
                assert_int_equal(info.format, IMAGE_RAW);
                assert_true(info.virtual_size == whole);
                got = disk_read(&src, &info, 3, &err);
                streamed = disk_stream(&src, IMAGE_RAW, true, 4, &size, &err);
                assert_non_null(got);
                assert_non_null(streamed);
                assert_true(size == whole);
                assert_memory_equal(got, b.data, b.len);
                assert_memory_equal(streamed, b.data, b.len);
                for (uint64_t k = b.len; k < whole; k++)
                        assert_true(got[k] == 0 && streamed[k] == 0);
                free(streamed);
                streamed = disk_stream(&src, IMAGE_RAW, false, 4, &size, &err); /* the end tells its size */
                assert_non_null(streamed);
                assert_true(size == whole);
                assert_memory_equal(streamed, b.data, b.len);
                free(got);
                free(streamed);
                free(b.data);
        }
}

static void test_bounds_of_reading(void **state)
{
        struct bytes b = {calloc(1, 1024), 1024};
        struct source src = memory_source(&b);
        struct image_info info;
        struct image *img = NULL;
        struct err err = {0};
        uint64_t len;
        bool data;
        uint8_t buf[8];

        assert_int_equal(image_inspect(&src, -1, &info, &err), 0);
        assert_int_equal(image_open(&src, &info, &img, &err), 0);
        assert_int_equal(image_read(img, buf, 8, 1016, &err), 0);
        assert_int_equal(image_read(img, buf, 8, 1017, &err), -EINVAL);
        assert_int_equal(image_read(img, buf, 8, UINT64_MAX - 3, &err), -EINVAL);
        assert_int_equal(image_extent(img, 1024, &len, &data, &err), -EINVAL);
        assert_int_equal(image_extent(img, 0, &len, &data, &err), 0);
        assert_true(len == 1024 && !data);
        assert_int_equal(source_read(&src, buf, 8, 1020, &err), -EBADMSG);
        image_close(img);
        free(b.data);
}

static void test_names(void **state)
{
        for (int f = 0; f < IMAGE_FORMAT_MAX; f++)
                assert_int_equal(image_format_parse(image_format_name((enum image_format)f)), f);
        assert_int_equal(image_format_parse("luks"), -EINVAL);
        assert_int_equal(image_format_parse(NULL), -EINVAL);
}

/* A file of 8 TiB that is all hole but for some data: walked in no time only where holes are not read. */
static void test_holes(void **state)
{
        static const uint64_t places[] = {0, UINT64_C(3) << 40, (UINT64_C(8) << 40) - 4096};
        struct image_info info;
        struct image *img = NULL;
        struct source src;
        struct err err = {0};
        uint64_t len = 0, total = 0, found = 0;
        uint8_t block[4096], back[4096];
        bool data = false;
        int fd = open("holes.raw", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        memset(block, 7, sizeof(block));
        assert_int_equal(ftruncate(fd, (off_t)(UINT64_C(8) << 40)), 0);
        for (size_t i = 0; i < ARRAY_SIZE(places); i++)
                assert_int_equal(pwrite(fd, block, sizeof(block), (off_t)places[i]), sizeof(block));
        assert_int_equal(source_from_fd(fd, &src, &err), 0);
        assert_int_equal(image_inspect(&src, IMAGE_RAW, &info, &err), 0);
        assert_int_equal(info.n_refusals, 0);
        assert_int_equal(image_open(&src, &info, &img, &err), 0);
        for (uint64_t at = 0; at < image_size(img); at += len) {
                assert_int_equal(image_extent(img, at, &len, &data, &err), 0);
                total += len;
                if (!data)
                        continue;
                assert_true(found < ARRAY_SIZE(places) && at == places[found] && len == sizeof(block));
                assert_int_equal(image_read(img, back, sizeof(back), at, &err), 0);
                assert_memory_equal(back, block, sizeof(block));
                found++;
        }
        assert_true(total == UINT64_C(8) << 40);
        assert_int_equal(found, ARRAY_SIZE(places));
        image_close(img);
        close(fd);
        unlink("holes.raw");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_names),    cmocka_unit_test(test_bounds_of_reading),
            cmocka_unit_test(test_raw),      cmocka_unit_test(test_holes),
            cmocka_unit_test(test_convert),  cmocka_unit_test(test_late_compressed),
            cmocka_unit_test(test_lived_in), cmocka_unit_test(test_overwritten_compressed),
            cmocka_unit_test(test_dirty),
        };

        return cmocka_run_group_tests_name("formats-read", tests, work_begin, work_end);
}
