/* SPDX-License-Identifier: Apache-2.0 */
#include "test-formats-util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"

/* Overlays that we make, QEMU writes through, and we read again: the same disk as QEMU sees. */
#define MIB (UINT64_C(1) << 20)

static void overlay_make(uint64_t size, const char *backing)
{
        struct err err = {0};
        uint8_t *data;
        size_t len;

        assert_int_equal(qcow2_overlay(size, backing, &data, &len, &err), 0);
        file_save("overlay.qcow2", data, len);
        free(data);
}

/* Every extent that is no data reads as zeros, and the whole is what qemu-img makes of it. */
static void same_as_qemu(const char *what, uint64_t size, const char *backing)
{
        struct bytes file = file_load("overlay.qcow2"), golden = {0}, want;
        struct source src = memory_source(&file), below;
        _cleanup_(freep) uint8_t *got = malloc(size);
        struct image *img = NULL;
        struct err err = {0};
        bool data;

        if (backing) {
                golden = file_load(backing);
                below = memory_source(&golden);
        }
        sh("qemu-img convert -f qcow2 -O raw overlay.qcow2 want.raw");
        want = file_load("want.raw");
        assert_int_equal(want.len, size);
        if (image_open_overlay(&src, size, backing, backing ? &below : NULL, &img, &err) < 0)
                fail_msg("%s: %s", what, err_text(&err));
        for (uint64_t at = 0, len; at < size; at += len) {
                assert_int_equal(image_extent(img, at, &len, &data, &err), 0);
                assert_true(len > 0 && len <= size - at);
                if (data)
                        assert_int_equal(image_read(img, got + at, len, at, &err), 0);
                else
                        memset(got + at, 0, len);
        }
        if (memcmp(got, want.data, size) != 0)
                fail_msg("%s: its extents give another disk than QEMU", what);
        for (uint64_t at = 0; at < size; at += 77777) /* odd pieces, whatever the extents say */
                assert_int_equal(image_read(img, got + at, MIN_OF(77777, size - at), at, &err), 0);
        if (memcmp(got, want.data, size) != 0)
                fail_msg("%s: another disk than QEMU's", what);
        image_close(img);
        free(file.data);
        free(golden.data);
        free(want.data);
}

static void test_overlay_is_read_as_qemu_reads_it(void **state)
{
        static const uint64_t golden[] = {0, 512, 3 * MIB, 3 * MIB + 1024, 40 * MIB};

        for (size_t i = 0; i < ARRAY_SIZE(golden); i++) {
                const char *backing = golden[i] ? "golden.raw" : NULL;
                uint64_t size = 40 * MIB;

                if (backing)
                        disk_make(backing, golden[i], (uint32_t)i + 1);
                overlay_make(size, backing);
                same_as_qemu("fresh", size, backing);
                sh("qemu-io -c 'write -q -P 9 4k 4k' -c 'write -q -P 8 %" PRIu64 " 512' "
                   "-c 'write -q -P 7 1m 300k' -c 'write -q -z 2m 128k' -c 'write -q -z -u 2500k 256k' "
                   "-c 'discard -q 1m 64k' -c 'write -q -P 6 20m 1m' overlay.qcow2",
                   size - 512);
                same_as_qemu("written", size, backing);
        }
}

/* QEMU ends the file where its last write did; the rest of that cluster is zeros. */
static void test_a_last_cluster_may_be_cut_short(void **state)
{
        struct bytes file;

        overlay_make(4 * MIB, NULL);
        sh("qemu-io -c 'write -q -P 9 1m 4k' overlay.qcow2");
        file = file_load("overlay.qcow2");
        for (size_t i = 1; i <= 60 * 1024; i++) /* what is cut off below is zeros as it is */
                assert_int_equal(file.data[file.len - i], 0);
        file_save("overlay.qcow2", file.data, file.len - 60 * 1024);
        free(file.data);
        same_as_qemu("cut", 4 * MIB, NULL);
}

static void refused(uint64_t size, const char *backing, const char *why)
{
        struct bytes file = file_load("overlay.qcow2");
        struct source src = memory_source(&file);
        struct image *img = NULL;
        struct err err = {0};

        assert_int_equal(image_open_overlay(&src, size, backing, NULL, &img, &err), -EBADMSG);
        if (!strstr(err_text(&err), why))
                fail_msg("\"%s\" in place of \"%s\"", err_text(&err), why);
        free(file.data);
}

static void test_what_is_no_overlay_of_ours_is_refused(void **state)
{
        struct bytes file;

        disk_make("golden.raw", MIB, 5);
        overlay_make(4 * MIB, "golden.raw");
        refused(8 * MIB, "golden.raw", "size is 4194304");
        refused(4 * MIB, "other.raw", "backing file is golden.raw");
        refused(4 * MIB, "golden.rawx", "backing file is golden.raw");
        refused(4 * MIB, NULL, "backing-file");
        overlay_make(4 * MIB, NULL);
        refused(4 * MIB, "golden.raw", "names no backing file");
        file = file_load("overlay.qcow2");
        file.data[79] |= 2; /* marked as corrupt */
        file_save("overlay.qcow2", file.data, file.len);
        refused(4 * MIB, NULL, "corrupt");
        file.data[79] = 4; /* its data lies in another file */
        file_save("overlay.qcow2", file.data, file.len);
        refused(4 * MIB, NULL, "data-file");
        free(file.data);
        sh("qemu-img create -q -f qcow2 -o cluster_size=4k overlay.qcow2 4M");
        refused(4 * MIB, NULL, "12 cluster bits");
        sh("qemu-img create -q -f qcow2 -o compat=0.10 overlay.qcow2 4M");
        refused(4 * MIB, NULL, "version 2");
        sh("qemu-img create -q -f qcow2 overlay.qcow2 4M && qemu-img snapshot -c one overlay.qcow2");
        refused(4 * MIB, NULL, "1 snapshots");
        disk_make("overlay.qcow2", 4 * MIB, 6);
        refused(4 * MIB, NULL, "format-mismatch");
        file_save("overlay.qcow2", "", 0);
        refused(4 * MIB, NULL, "empty");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_overlay_is_read_as_qemu_reads_it),
            cmocka_unit_test(test_a_last_cluster_may_be_cut_short),
            cmocka_unit_test(test_what_is_no_overlay_of_ours_is_refused),
        };

        return cmocka_run_group_tests(tests, work_begin, work_end);
}
