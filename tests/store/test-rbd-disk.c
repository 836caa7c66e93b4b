/* SPDX-License-Identifier: Apache-2.0 */
/* The features that RBD images of instances have, and what they are for. Against a real cluster. */
#include "tests/store/rbd-fixture.h"

#include <errno.h>
#include <rbd/librbd.h>

/* By the name that the disk has at this lease. */
static rbd_image_t disk_open(struct fixture *f, const struct lease *lease)
{
        char name[POOL_NAME_MAX];
        rbd_image_t image = NULL;

        disk_image(f->instance, lease, f->disks, 0, name);
        assert_int_equal(rbd_open(f->io, name, &image, NULL), 0);
        return image;
}

/* But for "operations", which librbd sets and clears itself: here it says that the image is a clone. */
static uint64_t features_of(rbd_image_t image)
{
        uint64_t features = 0;

        assert_int_equal(rbd_get_features(image, &features), 0);
        return features & ~RBD_FEATURE_OPERATIONS;
}

/* A snapshot of a disk keeps the golden image alive even if the disk is flattened, unless the disk was made
 * with deep-flatten. A lock would make the next host wait for the dead one's. */
static void test_a_disk_is_made_for_a_deep_flatten_and_without_a_lock(void **state)
{
        struct fixture *f = *state;
        struct lease lease = {0};
        rbd_image_t image;
        uint64_t overlap = 1;

        ok(lease_create(f->a, f->instance, f->disks, 2, err));
        image = disk_open(f, &lease);
        assert_true(features_of(image) == (RBD_FEATURE_LAYERING | RBD_FEATURE_DEEP_FLATTEN));
        assert_int_equal(rbd_snap_create(image, "before"), 0);
        assert_int_equal(rbd_flatten(image), 0);
        assert_int_equal(rbd_snap_set(image, "before"), 0);
        assert_int_equal(rbd_get_overlap(image, &overlap), 0);
        assert_true(overlap == 0);
        assert_int_equal(rbd_snap_set(image, NULL), 0);
        assert_int_equal(rbd_snap_remove(image, "before"), 0);
        assert_int_equal(rbd_close(image), 0);
}

/* The disks of older versions have layering alone. */
static void test_a_disk_without_deep_flatten_changes_hands_as_before(void **state)
{
        struct fixture *f = *state;
        struct lease lease = {0}, on_b;
        struct start a, b;
        struct qemu *w;
        rbd_image_t image;

        ok(lease_create(f->a, f->instance, f->disks, 2, err));
        image = disk_open(f, &lease);
        assert_int_equal(rbd_update_features(image, RBD_FEATURE_DEEP_FLATTEN, 0), 0);
        assert_true(features_of(image) == RBD_FEATURE_LAYERING);
        assert_int_equal(rbd_close(image), 0);
        ok(lease_claim(f->a, f->instance, &lease, 1, false, &lease, err));
        start_init(&a, f->instance, lease.epoch, NULL, NULL, 0);
        ok(lease_fence(f->a, f->instance, &lease, &a, f->disks, 2, err));
        w = qemu_start(f, &lease, &a, 0);
        ok(lease_gate(f->a, f->instance, &lease, &a, f->disks, 2, err));
        assert_int_equal(qemu_write(w, 0x22, 4096), 0);
        ok(lease_claim(f->b, f->instance, &lease, 2, false, &on_b, err));
        start_init(&b, f->instance, on_b.epoch, NULL, NULL, 0);
        ok(lease_fence(f->b, f->instance, &on_b, &b, f->disks, 2, err));
        assert_int_equal(qemu_write(w, 0x33, 4096), -EACCES);
        qemu_kill(w);
        w = qemu_start(f, &on_b, &b, 0);
        assert_int_equal(qemu_verify(w, 0x22, 4096), 0);
        qemu_close(w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            with_fixture(test_a_disk_is_made_for_a_deep_flatten_and_without_a_lock),
            with_fixture(test_a_disk_without_deep_flatten_changes_hands_as_before),
        };

        return cmocka_run_group_tests_name("store-rbd-disk", tests, NULL, NULL);
}
