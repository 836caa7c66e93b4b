/* SPDX-License-Identifier: Apache-2.0 */
/* A claim's steps that are done at the same time, and the commit that is claim, fence and gate in one; as
 * test-rbd.c, against a real cluster. */
#include "tests/store/rbd-fixture.h"

#include <errno.h>
#include <rbd/librbd.h>
#include <signal.h>
#include <stdio.h>

static int commit(struct store *s, const struct fixture *f, const struct lease *from, unsigned host,
                  const struct start *last, const struct start *start, bool again, struct lease *ret,
                  struct err *err)
{
        const struct commit_claim c = {
            .from = *from, .host = host, .again = again, .last = last, .start = start};

        return lease_commit(s, f->instance, &c, f->disks, 2, ret, err);
}

/* The step that decides was done, and the one that makes the new name resolve was not. */
static void test_a_claim_that_was_cut_off_is_mended_by_the_next(void **state)
{
        struct fixture *f = *state;
        struct lease got, from = {0}, first = {.epoch = 1, .host = 1};
        char name[LEASE_NAME_MAX + 1], oid[POOL_NAME_MAX];
        struct start start;

        ok(lease_create(f->a, f->instance, f->disks, 2, err));
        ok(lease_claim(f->a, f->instance, &from, 1, false, &got, err));
        lease_name_format(f->instance, &first, name);
        snprintf(oid, sizeof oid, "rbd_id.%s", name);
        assert_int_equal(rados_remove(f->io, oid), 0);
        ok(lease_find(f->b, f->instance, &got, err));
        assert_int_equal(got.epoch, 1);
        /* The same claim asked again, and the next one of another host. */
        ok(lease_claim(f->a, f->instance, &from, 1, true, &got, err));
        assert_int_equal(got.epoch, 1);
        start_init(&start, f->instance, 1, NULL, NULL, 0);
        qemu_close(qemu_start(f, &got, &start, 0));
        assert_int_equal(rados_remove(f->io, oid), 0);
        ok(lease_claim(f->b, f->instance, &got, 2, false, &got, err));
        assert_int_equal(got.epoch, 2);
        qemu_close(qemu_start(f, &got, &start, 0));
        /* Disks under such a name can be removed; what stayed would keep the image from being removed. */
        ok(lease_claim(f->a, f->instance, &got, 1, false, &got, err));
        lease_name_format(f->instance, &got, name);
        snprintf(oid, sizeof oid, "rbd_id.%s", name);
        assert_int_equal(rados_remove(f->io, oid), 0);
        ok(lease_remove(f->a, f->instance, &got, f->disks, 2, err));
        fails(-ENOENT, lease_find(f->a, f->instance, &got, err));
}

static uint64_t size_at(struct fixture *f, const struct lease *lease)
{
        struct attach at[2];
        rbd_image_t image;
        struct start start;
        uint64_t size = 0;

        start_init(&start, f->instance, lease->epoch, NULL, NULL, 0);
        ok(lease_attach(f->a, f->instance, lease, &start, f->disks, 2, at, err));
        assert_int_equal(rbd_open_read_only(f->io, strchr(at[0].path, '/') + 1, &image, NULL), 0);
        assert_int_equal(rbd_get_size(image, &size), 0);
        rbd_close(image);
        return size;
}

/* The gate says that the disks are made, and one of them has not got its size: so a crash may leave them. */
static void test_the_first_claim_sees_to_a_disks_size(void **state)
{
        struct fixture *f = *state;
        struct lease lease = {0};
        char image[POOL_NAME_MAX];
        rbd_image_t open;

        ok(lease_create(f->a, f->instance, f->disks, 2, err));
        assert_int_equal(size_at(f, &lease), 16 * MIB);
        disk_image(f->instance, &lease, f->disks, 0, image);
        assert_int_equal(rbd_open(f->io, image, &open, NULL), 0);
        assert_int_equal(rbd_resize(open, 8 * MIB), 0);
        rbd_close(open);
        assert_int_equal(size_at(f, &lease), 8 * MIB);
        ok(lease_claim(f->b, f->instance, &lease, 2, false, &lease, err));
        assert_int_equal(size_at(f, &lease), 16 * MIB);
}

/* A claim, a fence and a gate in one are what the three are one after the other. */
static void test_a_commit_in_one_spares_the_source_and_registers(void **state)
{
        struct fixture *f = *state;
        struct start a, b, c;
        struct lease on_a, on_b, on_c;
        struct qemu *src, *dst;

        src = run_on_a(f, &on_a, &a);
        dst = arrive_from_a(f, &on_a, &b);
        ok(commit(f->a, f, &on_a, 2, &a, &b, false, &on_b, err));
        assert_int_equal(on_b.epoch, on_a.epoch + 1);
        assert_int_equal(on_b.host, 2);
        assert_int_equal(recorded(f), 2);
        assert_int_equal(qemu_write(dst, 0x44, 0), 0);
        /* Whoever comes late has lost, and registers nobody. */
        fails(-ESTALE, commit(f->a, f, &on_a, 1, &a, &a, false, &on_c, err));
        assert_int_equal(recorded(f), 2);
        ok(lease_claim(f->b, f->instance, &on_b, 3, false, &on_c, err));
        start_init(&c, f->instance, on_c.epoch, NULL, NULL, 0);
        ok(lease_fence(f->b, f->instance, &on_c, &c, f->disks, 2, err));
        assert_int_equal(qemu_write(src, 0x55, 0), -EACCES);
        assert_int_equal(qemu_write(dst, 0x55, 0), -EACCES);
        assert_int_equal(recorded(f), 0);
        qemu_kill(src);
        qemu_kill(dst);
}

/* A hostd died in the middle of a commit, or after it and before it had said so: the next one commits once
 * more. */
static void test_a_commit_that_was_cut_off_is_made_again(void **state)
{
        struct fixture *f = *state;
        struct start a, b;
        struct lease on_a, on_b, again;
        struct qemu *src, *dst;

        src = run_on_a(f, &on_a, &a);
        dst = arrive_from_a(f, &on_a, &b);
        ok(lease_claim(f->a, f->instance, &on_a, 2, false, &on_b, err));
        for (int i = 0; i < 2; i++) {
                ok(commit(f->a, f, &on_a, 2, &a, &b, true, &again, err));
                assert_int_equal(again.epoch, on_b.epoch);
                assert_int_equal(again.host, 2);
                /* The second time b is registered, and so a is one to be refused as at any fence. */
                assert_int_equal(recorded(f), i == 0 ? 2 : 1);
                assert_int_equal(qemu_write(dst, 0x44, 0), 0);
        }
        assert_int_equal(qemu_write(src, 0x55, 0), -EACCES);
        qemu_kill(src);
        qemu_kill(dst);
}

/* A client of an older run is no source: it is on the blocklist before the destination has its yes. */
static void test_a_commit_fences_who_is_not_the_source(void **state)
{
        struct fixture *f = *state;
        struct start old, a, b;
        struct lease on_old, on_a, on_b;
        struct qemu *forgotten, *src, *dst;

        forgotten = run_on_a(f, &on_old, &old);
        ok(lease_claim(f->a, f->instance, &on_old, 1, false, &on_a, err));
        start_init(&a, f->instance, on_a.epoch, "attempt-0", NULL,
                   0); /* spares the forgotten one, as a source */
        ok(lease_fence(f->a, f->instance, &on_a, &a, f->disks, 2, err));
        src = qemu_start(f, &on_a, &a, 0);
        ok(lease_gate(f->a, f->instance, &on_a, &a, f->disks, 2, err));
        assert_int_equal(qemu_write(forgotten, 0x11, 0), 0);
        start_init(&b, f->instance, on_a.epoch, "attempt-1", NULL, 0);
        dst = qemu_start(f, &on_a, &b, 0);
        ok(commit(f->a, f, &on_a, 2, &a, &b, false, &on_b, err));
        assert_int_equal(qemu_write(forgotten, 0x22, 0), -EACCES);
        assert_int_equal(qemu_write(dst, 0x44, 0), 0);
        qemu_kill(forgotten);
        qemu_close(src);
        qemu_close(dst);
}

/* No vCPU runs whose QEMU has no disk open here, nor one whose gate was raised over its head. */
static void test_a_commit_wants_the_disk_open(void **state)
{
        struct fixture *f = *state;
        struct start a, b;
        struct lease on_a, on_b;
        struct qemu *src, *dst;
        _cleanup_(gate_done) struct gate gate = {0};

        src = run_on_a(f, &on_a, &a);
        start_init(&b, f->instance, on_a.epoch, "attempt-1", NULL, 0);
        fails(-EACCES, commit(f->b, f, &on_a, 2, &a, &b, false, &on_b, err));
        assert_int_equal(recorded(f), 1);
        ok(lease_find(f->a, f->instance, &on_b, err)); /* the claim is won all the same */
        assert_int_equal(on_b.host, 2);
        dst = qemu_start(f, &on_b, &b, 0);
        ok(gate_raise(f->io, f->instance, on_b.epoch + 7, a.id, &gate, err));
        fails(-ESTALE, commit(f->a, f, &on_b, 1, &a, &b, false, &on_a, err));
        assert_int_equal(recorded(f), 1);
        qemu_close(src);
        qemu_close(dst);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
            with_fixture(test_a_claim_that_was_cut_off_is_mended_by_the_next),
            with_fixture(test_the_first_claim_sees_to_a_disks_size),
            with_fixture(test_a_commit_in_one_spares_the_source_and_registers),
            with_fixture(test_a_commit_that_was_cut_off_is_made_again),
            with_fixture(test_a_commit_fences_who_is_not_the_source),
            with_fixture(test_a_commit_wants_the_disk_open),
        };

        signal(SIGPIPE, SIG_IGN);
        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
