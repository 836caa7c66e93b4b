/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/conformance.h"

#include <errno.h>
#include <signal.h>

#include "formats/formats.h"

/* Real QEMUs before and after a take-over. */

static struct qemu *must_open(const struct attach *a)
{
        _cleanup_(freep) char *why = NULL;
        struct qemu *q = qemu_open(a, &why);

        if (!q)
                fail_msg("QEMU cannot open %s: %s", a->path, why);
        return q;
}

/* claim, fence, attach and open: a start of the instance on `host`; the last step, the gate, last. */
static struct qemu *start_on(struct store *s, const char *id, const struct lease *from, unsigned host,
                             const struct disk_spec *disk, struct lease *ret, struct start *ret_start)
{
        struct attach a = {};
        struct qemu *q;
        struct err err;

        assert_ok(lease_claim(s, id, from, host, false, ret, &err));
        start_init(ret_start, id, ret->epoch, NULL, NULL, 0);
        assert_ok(lease_fence(s, id, ret, ret_start, disk, 1, &err));
        assert_ok(lease_attach(s, id, ret, ret_start, disk, 1, &a, &err));
        q = must_open(&a);
        assert_ok(lease_gate(s, id, ret, ret_start, disk, 1, &err));
        return q;
}

static void self_test_proves_the_fence(void **state)
{
        struct suite *s = suite_of(state);
        struct err err = {};
        int r = store_selftest(s->store, &err);

        if (r != 1)
                fail_msg("self-test = %d: %s", r, err_text(&err));
        assert_int_equal(store_selftest(s->second, &err), 1);
}

/* The core of promise 1: whoever is taken over writes no more, however alive it is. */
static void take_over_stops_the_previous_writer(void **state)
{
        struct suite *s = suite_of(state);
        struct lease one = {}, two = {};
        struct start first, second;
        char image[UUID_LEN + 1], id[UUID_LEN + 1];
        const struct disk_spec disk = {.name = "disk0", .image = image, .size = 64 * MIB};
        struct qemu *old, *new;
        struct err err;

        uuid_random(image);
        uuid_random(id);
        image_make(s->store, image, 16 * MIB, "");
        disks_make(s->store, id, &disk, 1);
        old = start_on(s->store, id, &(struct lease){}, 1, &disk, &one, &first);
        assert_int_equal(qemu_write(old, 0x11, 0), 0);
        assert_int_equal(qemu_write(old, 0x22, 8 * MIB), 0);
        assert_ok(lease_may_write(s->store, id, &one, &first, &disk, 1, &err));
        if (s->locks) {
                _cleanup_(freep) char *why = NULL;
                struct attach a = {};

                assert_ok(lease_claim(s->second, id, &one, 2, false, &two, &err));
                start_init(&second, id, two.epoch, NULL, NULL, 0);
                assert_ok(lease_fence(s->second, id, &two, &second, &disk, 1, &err));
                assert_ok(lease_attach(s->second, id, &two, &second, &disk, 1, &a, &err));
                assert_null(qemu_open(&a, &why)); /* the first one still holds the lock */
                assert_non_null(strstr(why, "lock"));
                qemu_kill(old);
                new = must_open(&a);
                assert_ok(lease_gate(s->second, id, &two, &second, &disk, 1, &err));
        } else {
                new = start_on(s->second, id, &one, 2, &disk, &two, &second);
                assert_int_equal(qemu_write(old, 0x66, 0), -EACCES);
                assert_int_equal(qemu_write(old, 0x66, 8 * MIB), -EACCES);
                assert_fails(-EACCES, lease_may_write(s->second, id, &two, &first, &disk, 1, &err));
                qemu_kill(old);
        }
        assert_fails(-EACCES, lease_gate(s->store, id, &one, &first, &disk, 1, &err));
        assert_fails(-EACCES, lease_may_write(s->store, id, &one, &first, &disk, 1, &err));
        assert_ok(lease_may_write(s->second, id, &two, &second, &disk, 1, &err));
        /* what the guest was told is on disk is there, and the new one goes on */
        assert_int_equal(qemu_verify(new, 0x11, 0), 0);
        assert_int_equal(qemu_verify(new, 0x22, 8 * MIB), 0);
        assert_int_equal(qemu_write(new, 0x33, 0), 0);
        assert_int_equal(qemu_verify(new, 0x33, 0), 0);
        qemu_close(new);
}

static int reader_get(void *state, void *buf, size_t len, uint64_t offset, struct err *err)
{
        return disk_reader_read(state, buf, len, offset, err);
}

static int golden_get(void *state, void *buf, size_t len, uint64_t offset, struct err *err)
{
        return volume_read(state, buf, len, offset, err);
}

/* Reads the disk as it lies on the storage, without a QEMU: 4096 bytes at offset are all `byte`. */
static void expect_on_disk(struct store *s, const char *id, const struct lease *lease,
                           const struct disk_spec *disk, uint8_t byte, uint64_t offset)
{
        struct disk_reader *reader = NULL;
        struct source src = {.read = reader_get}, below = {.read = golden_get};
        struct volume *golden = NULL;
        struct image *img = NULL;
        const char *backing;
        uint8_t buf[4096];
        struct err err;

        assert_ok(disk_reader_open(s, id, lease, disk, &reader, &err));
        src.state = reader;
        src.size = disk_reader_size(reader);
        if (disk_reader_qcow2(reader, &backing)) {
                assert_ok(volume_open(s, disk->image, &golden, &err));
                below.state = golden;
                below.size = volume_size(golden);
                assert_ok(image_open_overlay(&src, disk->size, backing, &below, &img, &err));
                assert_ok(image_read(img, buf, sizeof(buf), offset, &err));
        } else {
                assert_int_equal(src.size, disk->size);
                assert_ok(disk_reader_read(reader, buf, sizeof(buf), offset, &err));
        }
        for (size_t i = 0; i < sizeof(buf); i++)
                assert_int_equal(buf[i], byte);
        image_close(img);
        volume_close(golden);
        disk_reader_close(reader);
}

static void golden_image_shows_through(void **state)
{
        struct suite *s = suite_of(state);
        char image[UUID_LEN + 1], id[UUID_LEN + 1];
        struct disk_spec disks[] = {{.name = "disk0", .image = image, .size = 64 * MIB},
                                    {.name = "seed", .content = NULL, .n_content = 8192}};
        uint8_t block[8192];
        struct attach a[2] = {}, iso = {};
        struct lease one = {};
        struct disk_reader *reader = NULL;
        struct volume *v = NULL;
        struct qemu *q;
        struct start st;
        struct err err;

        uuid_random(image);
        uuid_random(id);
        memset(block, 0x5a, sizeof(block));
        disks[1].content = block;
        assert_ok(volume_create(s->store, image, 16 * MIB, &v, &err));
        assert_ok(volume_write(v, block, sizeof(block), 4 * MIB, &err));
        assert_ok(volume_seal(v, &err));
        volume_close(v);
        assert_ok(lease_create(s->store, id, disks, 2, &err));
        assert_ok(lease_claim(s->store, id, &(struct lease){}, 1, false, &one, &err));
        start_init(&st, id, one.epoch, NULL, NULL, 0);
        assert_ok(lease_fence(s->store, id, &one, &st, disks, 2, &err));
        assert_ok(lease_attach(s->store, id, &one, &st, disks, 2, a, &err));
        assert_false(a[0].read_only);
        q = must_open(&a[0]);
        assert_int_equal(qemu_verify(q, 0x5a, 4 * MIB), 0);
        assert_int_equal(qemu_verify(q, 0, 32 * MIB), 0); /* beyond the image: zeros */
        assert_int_equal(qemu_write(q, 0x77, 4 * MIB), 0);
        if (s->locks)
                assert_fails(-EBUSY, disk_reader_open(s->second, id, &one, &disks[0], &reader, &err));
        qemu_close(q);
        expect_on_disk(s->second, id, &one, &disks[0], 0x77, 4 * MIB);
        expect_on_disk(s->second, id, &one, &disks[0], 0x5a, 4 * MIB + 4096);
        expect_on_disk(s->second, id, &one, &disks[0], 0, 32 * MIB);
        assert_fails(-ESTALE, disk_reader_open(s->second, id, &(struct lease){}, &disks[0], &reader, &err));
        assert_true(a[1].read_only && !a[1].qcow2);
        q = must_open(&a[1]);
        assert_int_equal(qemu_verify(q, 0x5a, 4096), 0);
        qemu_close(q);
        /* the image itself has not changed, and serves as an installer's disk too */
        assert_ok(volume_attach(s->second, image, &iso, &err));
        assert_true(iso.read_only);
        q = must_open(&iso);
        assert_int_equal(qemu_verify(q, 0x5a, 4 * MIB), 0);
        assert_true(qemu_write(q, 0x01, 4 * MIB) < 0);
        qemu_close(q);
}

/* docs/ownership.md, migration 1 to 4: grant, the destination opens beside the source, the commit shuts the source
 * out. */
static void migration_commits(void **state)
{
        struct suite *s = suite_of(state);
        struct lease one = {}, two = {}, again = {};
        struct start source, destination;
        struct commit_claim c = {.host = 2, .last = &source, .start = &destination};
        struct attach a = {};
        char id[UUID_LEN + 1], attempt[UUID_LEN + 1];
        struct qemu *src, *dst;
        struct err err;

        uuid_random(id);
        uuid_random(attempt);
        disks_make(s->store, id, &plain_disk, 1);
        src = start_on(s->store, id, &(struct lease){}, 1, &plain_disk, &one, &source);
        assert_int_equal(qemu_write(src, 0x11, 0), 0);
        start_init(&destination, id, one.epoch, attempt, NULL, 0);
        assert_ok(lease_grant(s->store, id, &one, &destination, &plain_disk, 1, &err));
        assert_int_equal(qemu_write(src, 0x12, 4096), 0); /* the source runs on */
        assert_ok(lease_attach(s->second, id, &one, &destination, &plain_disk, 1, &a, &err));
        if (s->locks) { /* libvirt opens the destination's image inactive, without the lock, until the source
                           has let go */
                qemu_close(src);
                src = NULL;
        }
        dst = must_open(&a);
        c.from = one;
        assert_ok(lease_commit(s->second, id, &c, &plain_disk, 1, &two, &err));
        assert_true(two.epoch == one.epoch + 1 && two.host == 2);
        assert_int_equal(qemu_verify(dst, 0x11, 0), 0);
        assert_int_equal(qemu_write(dst, 0x21, 0), 0);
        /* its hostd died before it said so, and the next one is asked AGAIN and commits once more */
        c.again = true;
        assert_ok(lease_commit(s->second, id, &c, &plain_disk, 1, &again, &err));
        assert_int_equal(again.epoch, two.epoch);
        assert_int_equal(again.host, 2);
        assert_int_equal(qemu_write(dst, 0x22, 4096), 0);
        if (src &&
            !streq(store_engine(s->store), "rbd")) /* rbd: its vCPUs are stopped and it is blocked later */
                assert_int_equal(qemu_write(src, 0x66, 0), -EACCES);
        assert_fails(-EACCES, lease_gate(s->store, id, &one, &source, &plain_disk, 1, &err));
        /* and a source that wants to run again finds that it has lost */
        assert_fails(-ESTALE, lease_claim(s->store, id, &one, 1, false, &two, &err));
        if (src)
                qemu_kill(src);
        assert_int_equal(qemu_verify(dst, 0x21, 0), 0);
        qemu_close(dst);
}

/* docs/ownership.md, migration 5: the source claims first; the destination's commit fails and its rights are
 * withdrawn. */
static void migration_fails_and_the_source_runs_on(void **state)
{
        struct suite *s = suite_of(state);
        struct lease one = {}, again = {}, lost = {};
        struct start source, destination;
        struct commit_claim c = {.host = 1, .last = &source, .start = &source};
        struct attach a = {};
        char id[UUID_LEN + 1], attempt[UUID_LEN + 1];
        struct qemu *src, *dst = NULL;
        struct err err;

        uuid_random(id);
        uuid_random(attempt);
        disks_make(s->store, id, &plain_disk, 1);
        src = start_on(s->store, id, &(struct lease){}, 1, &plain_disk, &one, &source);
        start_init(&destination, id, one.epoch, attempt, NULL, 0);
        assert_ok(lease_grant(s->store, id, &one, &destination, &plain_disk, 1, &err));
        assert_ok(lease_attach(s->second, id, &one, &destination, &plain_disk, 1, &a, &err));
        if (!s->locks)
                dst = must_open(&a);
        c.from = one;
        assert_ok(lease_commit(s->store, id, &c, &plain_disk, 1, &again, &err));
        assert_true(again.epoch == one.epoch + 1 && again.host == 1);
        assert_fails(-ESTALE, lease_claim(s->second, id, &one, 2, false, &lost, &err));
        assert_int_equal(qemu_write(src, 0x44, 0), 0); /* the same QEMU, the same start, no reopening */
        if (dst && streq(store_engine(s->store), "nfs"))
                assert_int_equal(qemu_write(dst, 0x66, 0), -EACCES);
        if (dst)
                qemu_kill(dst);
        assert_int_equal(qemu_verify(src, 0x44, 0), 0);
        qemu_close(src);
}

/* One claim and one fence for all disks of an instance; and no gate opens for a part of them. */
static void several_disks_change_hands_together(void **state)
{
        struct suite *s = suite_of(state);
        const struct disk_spec disks[] = {{.name = "disk0", .size = 16 * MIB},
                                          {.name = "disk1", .size = 16 * MIB}};
        struct lease one = {}, two = {};
        struct start first, second;
        struct attach a[2] = {}, b[2] = {};
        struct qemu *old[2];
        char id[UUID_LEN + 1];
        struct err err;

        uuid_random(id);
        disks_make(s->store, id, disks, 2);
        assert_ok(lease_claim(s->store, id, &(struct lease){}, 1, false, &one, &err));
        start_init(&first, id, one.epoch, NULL, NULL, 0);
        assert_ok(lease_fence(s->store, id, &one, &first, disks, 2, &err));
        assert_ok(lease_attach(s->store, id, &one, &first, disks, 2, a, &err));
        old[0] = must_open(&a[0]);
        if (streq(store_engine(s->store), "rbd")) /* its second disk is not open yet */
                assert_fails(-EACCES, lease_gate(s->store, id, &one, &first, disks, 2, &err));
        old[1] = must_open(&a[1]);
        assert_ok(lease_gate(s->store, id, &one, &first, disks, 2, &err));
        for (int i = 0; i < 2; i++)
                assert_int_equal(qemu_write(old[i], 0x11, 0), 0);
        assert_ok(lease_claim(s->second, id, &one, 2, false, &two, &err));
        assert_fails(-EACCES, lease_gate(s->store, id, &one, &first, disks, 2, &err));
        start_init(&second, id, two.epoch, NULL, NULL, 0);
        assert_ok(lease_fence(s->second, id, &two, &second, disks, 2, &err));
        assert_ok(lease_attach(s->second, id, &two, &second, disks, 2, b, &err));
        for (int i = 0; i < 2; i++) {
                _cleanup_(freep) char *why = NULL;
                struct qemu *q;

                if (s->locks) {
                        assert_null(qemu_open(&b[i], &why)); /* the first one holds each disk's lock */
                        qemu_kill(old[i]);
                } else {
                        assert_true(qemu_write(old[i], 0x66, 0) < 0); /* or it has ended */
                        qemu_kill(old[i]);
                }
                q = must_open(&b[i]);
                assert_int_equal(qemu_verify(q, 0x11, 0), 0);
                assert_int_equal(qemu_write(q, 0x22, 0), 0);
                qemu_close(q);
        }
}

const struct engine_test fence_tests[] = {
    {ON_SHARED, cmocka_unit_test(several_disks_change_hands_together)},
    {ON_SHARED, cmocka_unit_test(self_test_proves_the_fence)},
    {ON_SHARED, cmocka_unit_test(take_over_stops_the_previous_writer)},
    {ON_SHARED, cmocka_unit_test(golden_image_shows_through)},
    {ON_SHARED, cmocka_unit_test(migration_commits)},
    {ON_SHARED, cmocka_unit_test(migration_fails_and_the_source_runs_on)},
};
const size_t n_fence_tests = ARRAY_SIZE(fence_tests);
