/* SPDX-License-Identifier: Apache-2.0 */
#include "test-formats-util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/util.h"

/* qcow2 images that we write of a disk: QEMU finds nothing wrong with them, and the same disk in them. */
#define MIB (UINT64_C(1) << 20)

struct out {
        int fd;
        uint64_t end;
        bool full; /* writes fail */
};

/* Blocks of zeros stay holes: a test may have more clusters than the disk has room. */
static int out_write(void *state, const void *buf, size_t len, uint64_t offset, struct err *err)
{
        static const uint8_t zeros[4096];
        struct out *o = state;

        if (o->full)
                return err_set(err, -ENOSPC, "full");
        o->end = MAX_OF(o->end, offset + len);
        for (size_t at = 0; at < len; at += sizeof(zeros)) {
                size_t n = MIN_OF(sizeof(zeros), len - at);

                if (memcmp((const char *)buf + at, zeros, n) != 0)
                        assert_int_equal(pwrite(o->fd, (const char *)buf + at, n, (off_t)(offset + at)), n);
        }
        return 0;
}

static void begin(struct out *o, uint64_t size, struct qcow2_writer **ret)
{
        const struct byte_sink sink = {out_write, o};
        struct err err = {0};

        *o = (struct out){.fd = open("saved.qcow2", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)};
        assert_true(o->fd >= 0);
        if (qcow2_writer_new(size, &sink, ret, &err) < 0)
                fail_msg("%s", err_text(&err));
}

static void end(struct out *o, struct qcow2_writer *w)
{
        struct err err = {0};

        if (qcow2_writer_finish(w, &err) < 0)
                fail_msg("%s", err_text(&err));
        qcow2_writer_free(w);
        assert_int_equal(ftruncate(o->fd, (off_t)o->end), 0);
        close(o->fd);
        sh("qemu-img check -q -f qcow2 saved.qcow2");
}

/* Our own import takes it, too, by file and as a stream. */
static void imports(const struct bytes *disk)
{
        struct bytes saved = file_load("saved.qcow2");
        struct source src = memory_source(&saved);
        struct image_info info;
        struct err err = {0};
        uint64_t size;
        uint8_t *got;

        assert_int_equal(image_inspect(&src, IMAGE_QCOW2, &info, &err), 0);
        assert_int_equal(info.n_refusals, 0);
        assert_int_equal(info.virtual_size, disk->len);
        got = disk_stream(&src, IMAGE_QCOW2, true, 3, &size, &err);
        if (!got)
                fail_msg("%s", err_text(&err));
        assert_int_equal(size, disk->len);
        assert_memory_equal(got, disk->data, size);
        free(got);
        free(saved.data);
}

static void test_a_saved_disk_is_the_same_disk(void **state)
{
        static const uint64_t sizes[] = {512, 65536, 66048, 3 * MIB, 24 * MIB + 512};

        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
                for (int holes = 0; holes < 2; holes++) {
                        uint32_t seed = (uint32_t)i * 7 + 1;
                        struct err err = {0};
                        struct qcow2_writer *w;
                        struct bytes disk;
                        struct out o;

                        disk_make("disk.raw", sizes[i], seed);
                        disk = file_load("disk.raw");
                        begin(&o, sizes[i], &w);
                        for (size_t at = 0, n; at < disk.len; at += n) {
                                n = 1 + random_next(&seed) % 200000;
                                n = MIN_OF(n, disk.len - at);
                                if (holes && memcmp(disk.data + at, disk.data + at + 1, n - 1) == 0 &&
                                    disk.data[at] == 0)
                                        continue; /* zeros need not be given */
                                assert_int_equal(qcow2_writer_data(w, disk.data + at, n, at, &err), 0);
                        }
                        end(&o, w);
                        sh("qemu-img compare -q -f raw -F qcow2 disk.raw saved.qcow2");
                        imports(&disk);
                        free(disk.data);
                }
}

static void test_zeros_take_no_room(void **state)
{
        static const uint8_t data[512] = {1, 2, 3};
        struct err err = {0};
        struct qcow2_writer *w;
        struct out o;

        begin(&o, UINT64_C(16) << 40, &w); /* empty */
        end(&o, w);
        assert_true(o.end < MIB);
        begin(&o, UINT64_C(100) << 30, &w); /* a byte in the middle of each of three L2 tables */
        for (uint64_t at = 0; at < 3; at++)
                assert_int_equal(qcow2_writer_data(w, data, sizeof(data), (at * 1000 + 77) * MIB, &err), 0);
        end(&o, w);
        assert_true(o.end < MIB);
        for (uint64_t at = 0; at < 3; at++)
                sh("qemu-io -f qcow2 -c 'read -q -P 2 %" PRIu64 " 1' -c 'read -q -P 0 %" PRIu64
                   " 4k' saved.qcow2 | (! grep -i fail)",
                   (at * 1000 + 77) * MIB + 1, (at * 1000 + 77) * MIB + 512);
}

/* More than what one refcount block counts: 2 GiB of clusters, in memory. */
static void test_many_clusters_are_counted(void **state)
{
        const uint64_t n = 32768 + 10;
        struct out o = {.fd = memfd_create("saved", 0)};
        const struct byte_sink sink = {out_write, &o};
        struct qcow2_writer *w;
        struct err err = {0};

        assert_true(o.fd >= 0);
        assert_int_equal(qcow2_writer_new(n * 65536, &sink, &w, &err), 0);
        for (uint64_t i = 0; i < n; i++)
                assert_int_equal(qcow2_writer_data(w, &(uint8_t){1}, 1, i * 65536 + i % 4096, &err), 0);
        assert_int_equal(qcow2_writer_finish(w, &err), 0);
        qcow2_writer_free(w);
        assert_int_equal(ftruncate(o.fd, (off_t)o.end), 0);
        sh("qemu-img check -q -f qcow2 /proc/%d/fd/%d", getpid(), o.fd);
        sh("qemu-io -r -f qcow2 -c 'read -q -P 1 %" PRIu64 " 1' /proc/%d/fd/%d | (! grep -i fail)",
           (n - 1) * 65536 + (n - 1) % 4096, getpid(), o.fd);
        close(o.fd);
}

static void test_wrong_use_is_refused(void **state)
{
        const struct byte_sink sink = {out_write, NULL};
        uint8_t data[1024] = {1};
        struct err err = {0};
        struct qcow2_writer *w;
        struct bytes saved;
        struct out o;

        assert_int_equal(qcow2_writer_new(0, &sink, &w, &err), -EINVAL);
        assert_int_equal(qcow2_writer_new(1000, &sink, &w, &err), -EINVAL);
        assert_int_equal(qcow2_writer_new((UINT64_C(16) << 40) + 512, &sink, &w, &err), -EINVAL);
        begin(&o, MIB, &w);
        assert_int_equal(qcow2_writer_data(w, data, 1024, 65536, &err), 0);
        assert_int_equal(qcow2_writer_data(w, data, 1, 65536 + 1023, &err), -EINVAL); /* behind the last */
        assert_int_equal(qcow2_writer_data(w, data, 2, MIB - 1, &err), -EINVAL);
        assert_int_equal(qcow2_writer_data(w, data, 1, UINT64_MAX, &err), -EINVAL);
        o.full = true;
        assert_int_equal(qcow2_writer_data(w, data, 1, 3 * 65536, &err), -ENOSPC);
        assert_int_equal(qcow2_writer_finish(w, &err), -ENOSPC);
        qcow2_writer_free(w);
        close(o.fd);
        saved = file_load("saved.qcow2"); /* what is there of it is no qcow2 */
        assert_true(saved.len < 4 || memcmp(saved.data, "QFI", 3) != 0);
        free(saved.data);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_a_saved_disk_is_the_same_disk),
            cmocka_unit_test(test_zeros_take_no_room),
            cmocka_unit_test(test_many_clusters_are_counted),
            cmocka_unit_test(test_wrong_use_is_refused),
        };

        return cmocka_run_group_tests(tests, work_begin, work_end);
}
