/* SPDX-License-Identifier: Apache-2.0 */
#include "test-formats-util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "formats/bytes.h"

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

/* As disks were made before overlays had extended L2 entries: clusters of 64 KiB. */
static void old_overlay_make(uint64_t size, const char *backing)
{
        enum { CLUSTER = 64 * 1024, LEN = 3 * CLUSTER + 4096, NAME = 104 + 16 + 8 };
        uint8_t *h = calloc(1, LEN);

        assert_true(h && size <= 512 * MIB);
        memcpy(h, "QFI\xfb", 4);
        put_be32(h + 4, 3);
        put_be32(h + 20, 16);
        put_be64(h + 24, size);
        put_be32(h + 36, 1);
        put_be64(h + 40, 3 * CLUSTER);
        put_be64(h + 48, CLUSTER);
        put_be32(h + 56, 1);
        put_be32(h + 96, 4);
        put_be32(h + 100, 104);
        if (backing) {
                put_be64(h + 8, NAME);
                put_be32(h + 16, (uint32_t)strlen(backing));
                put_be32(h + 104, 0xe2792aca);
                put_be32(h + 108, 3);
                memcpy(h + 112, "raw", 3);
                memcpy(h + NAME, backing, strlen(backing));
        }
        put_be64(h + CLUSTER, 2 * CLUSTER);
        for (size_t i = 0; i < 4; i++)
                put_be16(h + 2 * CLUSTER + 2 * i, 1);
        file_save("overlay.qcow2", h, LEN);
        free(h);
}

static void (*const makers[])(uint64_t size, const char *backing) = {overlay_make, old_overlay_make};

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

        for (size_t i = 0; i < 2 * ARRAY_SIZE(golden); i++) {
                uint64_t size = 40 * MIB, below = golden[i / 2];
                const char *backing = below ? "golden.raw" : NULL;

                if (backing)
                        disk_make(backing, below, (uint32_t)i + 1);
                makers[i % 2](size, backing);
                same_as_qemu("fresh", size, backing);
                sh("qemu-io -c 'write -q -P 9 4k 4k' -c 'write -q -P 8 %" PRIu64 " 512' "
                   "-c 'write -q -P 7 1m 300k' -c 'write -q -z 2m 128k' -c 'write -q -z -u 2500k 256k' "
                   "-c 'discard -q 1m 64k' -c 'write -q -P 6 20m 1m' overlay.qcow2",
                   size - 512);
                same_as_qemu("written", size, backing);
                sh("qemu-img check -q overlay.qcow2");
        }
}

/* Each kind of subcluster beside each other one in the same cluster, and over what was there before. */
static void test_subclusters_are_read_as_qemu_reads_them(void **state)
{
        static const uint64_t golden[] = {0, 3 * MIB + 1024 + 512, 8 * MIB};

        for (size_t i = 0; i < ARRAY_SIZE(golden); i++) {
                const char *backing = golden[i] ? "golden.raw" : NULL;

                if (backing)
                        disk_make(backing, golden[i], (uint32_t)i + 11);
                overlay_make(8 * MIB, backing);
                /* data, a part of a subcluster, zeros, nothing; zeros over data and data over zeros */
                sh("qemu-io -c 'write -q -P 1 0 4k' -c 'write -q -P 2 9k 512' -c 'write -q -z 16k 4k' "
                   "-c 'write -q -P 3 128k 128k' -c 'write -q -z 132k 8k' -c 'write -q -P 4 136k 1k' "
                   "-c 'write -q -z -u 256k 128k' -c 'write -q -P 5 300k 4k' overlay.qcow2");
                same_as_qemu("mixed clusters", 8 * MIB, backing);
                /* zeros alone in a cluster that has no place in the file; across the end of what lies below
                 */
                sh("qemu-io -c 'write -q -z 1028k 4k' -c 'write -q -z %" PRIu64 " 12k' "
                   "-c 'write -q -P 6 %" PRIu64 " 512' overlay.qcow2",
                   3 * MIB - 4096, 3 * MIB + 2048);
                same_as_qemu("zeros and the end of what lies below", 8 * MIB, backing);
                /* whole clusters and parts of them given back */
                sh("qemu-io -c 'write -q -P 7 4m 512k' -c 'discard -q 4m 128k' -c 'discard -q 4228k 12k' "
                   "-c 'discard -q 4400k 200k' -c 'write -q -P 8 4100k 4k' overlay.qcow2");
                same_as_qemu("discarded", 8 * MIB, backing);
                sh("qemu-img check -q overlay.qcow2");
        }
}

/* A few hundred writes, zeros and discards of any size and place. */
static void test_what_a_guest_may_do_is_read_as_qemu_reads_it(void **state)
{
        static const uint32_t longest[] = {4, 40, 700}; /* sectors */

        for (uint32_t round = 0; round < 2 * ARRAY_SIZE(longest); round++) {
                FILE *f = fopen("guest.io", "we");
                uint32_t seed = 40 + round;

                assert_non_null(f);
                for (int i = 0; i < 250; i++) {
                        static const char *const verbs[] = {"write", "write", "write -z", "write -z -u",
                                                            "discard"};
                        uint32_t at = random_next(&seed) % 12000,
                                 n = random_next(&seed) % longest[round / 2];
                        uint32_t verb = random_next(&seed) % ARRAY_SIZE(verbs);

                        fprintf(f, "%s -q", verbs[verb]);
                        if (verb < 2)
                                fprintf(f, " -P %d", i + 1);
                        fprintf(f, " %u %u\n", at * 512, (n + 1) * 512);
                }
                assert_int_equal(fclose(f), 0);
                disk_make("golden.raw", 5 * MIB + 512, 60 + round);
                makers[round % 2](8 * MIB, "golden.raw");
                sh("qemu-io overlay.qcow2 <guest.io >guest.out && (! grep -i 'fail\\|error' guest.out)");
                same_as_qemu("a guest's work", 8 * MIB, "golden.raw");
                sh("qemu-img check -q overlay.qcow2");
        }
}

/* QEMU ends the file where its last write did; the rest of that cluster is zeros. */
static void test_a_last_cluster_may_be_cut_short(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(makers); i++) {
                struct bytes file;
                size_t end;

                makers[i](4 * MIB, NULL);
                sh("qemu-io -c 'write -q -P 9 1m 4k' overlay.qcow2");
                file = file_load("overlay.qcow2");
                for (end = file.len; file.data[end - 1] == 0; end--)
                        ;
                assert_int_equal(file.data[end - 1], 9);
                file_save("overlay.qcow2", file.data, end);
                free(file.data);
                same_as_qemu("cut", 4 * MIB, NULL);
        }
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
        sh("qemu-img create -q -f qcow2 -o cluster_size=128k overlay.qcow2 4M");
        refused(4 * MIB, NULL, "17 cluster bits without extended");
        sh("qemu-img create -q -f qcow2 -o cluster_size=64k,extended_l2=on overlay.qcow2 4M");
        refused(4 * MIB, NULL, "16 cluster bits with extended");
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
            cmocka_unit_test(test_subclusters_are_read_as_qemu_reads_them),
            cmocka_unit_test(test_what_a_guest_may_do_is_read_as_qemu_reads_it),
            cmocka_unit_test(test_a_last_cluster_may_be_cut_short),
            cmocka_unit_test(test_what_is_no_overlay_of_ours_is_refused),
        };

        return cmocka_run_group_tests(tests, work_begin, work_end);
}
