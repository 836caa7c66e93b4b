/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/conformance.h"

#include <errno.h>
#include <unistd.h>

static void expect_lease(struct store *s, const char *instance, uint64_t epoch, unsigned host)
{
        struct lease l = {};
        struct err err;

        assert_ok(lease_find(s, instance, &l, &err));
        assert_int_equal(l.epoch, epoch);
        assert_int_equal(l.host, host);
}

static void name_says_who_owns(void **state)
{
        struct suite *s = suite_of(state);
        const struct lease nobody = {};
        struct lease one = {}, two = {}, again = {};
        char id[UUID_LEN + 1];
        struct err err;

        uuid_random(id);
        assert_fails(-ENOENT, lease_find(s->store, id, &one, &err));
        disks_make(s->store, id, &plain_disk, 1);
        expect_lease(s->second, id, 0, 0);
        assert_fails(-EEXIST, lease_create(s->second, id, &plain_disk, 1, &err));
        assert_ok(lease_claim(s->store, id, &nobody, 7, false, &one, &err));
        assert_true(one.epoch == 1 && one.host == 7);
        expect_lease(s->second, id, 1, 7);
        assert_fails(-EEXIST, lease_create(s->second, id, &plain_disk, 1, &err));
        /* the same number once more: another host's, unless the lock driver asks again */
        if (!faults_on())
                assert_fails(-ESTALE, lease_claim(s->second, id, &nobody, 7, false, &again, &err));
        assert_ok(lease_claim(s->store, id, &nobody, 7, true, &again, &err));
        assert_true(again.epoch == 1 && again.host == 7);
        /* the loser, and who comes far too late */
        assert_fails(-ESTALE, lease_claim(s->second, id, &nobody, 8, false, &two, &err));
        assert_ok(lease_claim(s->second, id, &one, 8, false, &two, &err));
        assert_true(two.epoch == 2 && two.host == 8);
        assert_fails(-ESTALE, lease_claim(s->store, id, &nobody, 7, false, &again, &err));
        assert_fails(-ESTALE, lease_claim(s->store, id, &one, 7, false, &again, &err));
        expect_lease(s->store, id, 2, 8);
}

static void only_the_owner_passes(void **state)
{
        struct suite *s = suite_of(state);
        const struct lease nobody = {};
        struct lease one = {}, two = {};
        struct start first, second, attempt;
        struct commit_claim c = {.host = 1, .last = &second, .start = &attempt};
        char id[UUID_LEN + 1];
        struct err err;

        uuid_random(id);
        disks_make(s->store, id, &plain_disk, 1);
        assert_ok(lease_claim(s->store, id, &nobody, 1, false, &one, &err));
        start_init(&first, id, one.epoch, NULL, NULL, 0);
        assert_ok(lease_fence(s->store, id, &one, &first, &plain_disk, 1, &err));
        assert_ok(lease_gate(s->store, id, &one, &first, &plain_disk, 1, &err));
        assert_ok(lease_may_write(s->store, id, &one, &first, &plain_disk, 1, &err));
        start_init(&attempt, id, one.epoch, "0b0f3a4e-0000-4000-8000-000000000001", NULL, 0);
        assert_ok(lease_grant(s->store, id, &one, &attempt, &plain_disk, 1, &err));
        assert_ok(lease_gate(s->store, id, &one, &first, &plain_disk, 1, &err));
        assert_ok(lease_may_write(s->store, id, &one, &first, &plain_disk, 1, &err));

        assert_ok(lease_claim(s->second, id, &one, 2, false, &two, &err));
        start_init(&second, id, two.epoch, NULL, NULL, 0);
        assert_fails(-EACCES, lease_gate(s->store, id, &one, &first, &plain_disk, 1, &err));
        assert_fails(-EACCES, lease_may_write(s->store, id, &one, &first, &plain_disk, 1, &err));
        assert_fails(-ESTALE, lease_fence(s->store, id, &one, &first, &plain_disk, 1, &err));
        assert_fails(-ESTALE, lease_grant(s->store, id, &one, &attempt, &plain_disk, 1, &err));
        assert_ok(lease_fence(s->second, id, &two, &second, &plain_disk, 1, &err));
        assert_ok(lease_gate(s->second, id, &two, &second, &plain_disk, 1, &err));
        assert_ok(lease_may_write(s->second, id, &two, &second, &plain_disk, 1, &err));
        if (!s->locks) /* the name is right, the start is not */
                assert_fails(-EACCES, lease_may_write(s->second, id, &two, &first, &plain_disk, 1, &err));
        start_forget(s->store, id, &first);
        start_forget(s->store, id, &first);

        /* a commit is all three: whoever has won may write, and the one before may not */
        start_init(&attempt, id, two.epoch, "0b0f3a4e-0000-4000-8000-000000000002", NULL, 0);
        assert_ok(lease_grant(s->second, id, &two, &attempt, &plain_disk, 1, &err));
        c.from = two;
        assert_ok(lease_commit(s->store, id, &c, &plain_disk, 1, &one, &err));
        assert_true(one.epoch == two.epoch + 1 && one.host == 1);
        assert_ok(lease_may_write(s->store, id, &one, &attempt, &plain_disk, 1, &err));
        if (!s->locks)
                assert_fails(-EACCES, lease_may_write(s->store, id, &one, &second, &plain_disk, 1, &err));
}

static void all_disks_or_none(void **state)
{
        struct suite *s = suite_of(state);
        char image[UUID_LEN + 1], missing[UUID_LEN + 1], id[UUID_LEN + 1];
        struct disk_spec disks[] = {{.name = "disk0", .image = image, .size = 8 * MIB},
                                    {.name = "seed", .content = "meta-data", .n_content = 9},
                                    {.name = "disk1", .image = missing, .size = 8 * MIB}};
        struct lease l;
        struct err err;

        uuid_random(image);
        uuid_random(missing);
        uuid_random(id);
        image_make(s->store, image, 4 * MIB, "golden");
        assert_fails(-ENOENT, lease_create(s->store, id, disks, 3, &err));
        assert_fails(-ENOENT, lease_find(s->second, id, &l, &err));
        assert_ok(lease_create(s->store, id, disks, 2, &err)); /* nothing is in the way */
        expect_lease(s->second, id, 0, 0);
        assert_ok(lease_remove(s->second, id, &(struct lease){}, disks, 2, &err));
        assert_ok(volume_remove(s->store, image, &err)); /* nor counts the half-made one */
}

static void bad_disks_are_refused(void **state)
{
        struct suite *s = suite_of(state);
        char image[UUID_LEN + 1];
        const struct disk_spec bad[] = {{.name = "", .size = MIB},
                                        {.name = "Disk", .size = MIB},
                                        {.name = "a/b", .size = MIB},
                                        {.name = "sixteencharacter", .size = MIB},
                                        {.name = "disk0", .size = 0},
                                        {.name = "disk0", .size = MIB + 1},
                                        {.name = "disk0", .image = "../x", .size = MIB},
                                        {.name = "disk0", .image = image, .size = MIB}};
        const struct disk_spec twice[] = {plain_disk, plain_disk};
        struct lease l = {};
        struct err err;

        uuid_random(image);
        image_make(s->store, image, 4 * MIB, "larger than the disk");
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_fails(-EINVAL, lease_create(s->store, "bad-disks", &bad[i], 1, &err));
        assert_fails(-EINVAL, lease_create(s->store, "bad-disks", twice, 2, &err));
        assert_fails(-EINVAL, lease_create(s->store, "bad-disks", &plain_disk, 0, &err));
        assert_fails(-EINVAL, lease_create(s->store, "bad.e1.h1", &plain_disk, 1, &err));
        assert_fails(-EINVAL, lease_find(s->store, "a/b", &l, &err));
        assert_fails(-EINVAL, lease_claim(s->store, "x", &l, 0, false, &l, &err));
        assert_fails(-ENOENT, lease_find(s->store, "bad-disks", &l, &err));
}

struct found {
        const char *id;
        struct lease lease;
        unsigned n;
};

static int find_in_list(void *arg, const char *instance, const struct lease *lease)
{
        struct found *f = arg;

        if (streq(instance, f->id)) {
                f->n++;
                f->lease = *lease;
        }
        return 0;
}

static int stop_list(void *arg, const char *instance, const struct lease *lease)
{
        return 17;
}

static void list_says_who_owns_what(void **state)
{
        struct suite *s = suite_of(state);
        struct found found[20] = {};
        char id[20][UUID_LEN + 1];
        struct lease l;
        struct err err;

        for (unsigned i = 0; i < ARRAY_SIZE(found); i++) {
                uuid_random(id[i]);
                found[i].id = id[i];
                disks_make(s->store, id[i], &plain_disk, 1);
                if (i % 2)
                        assert_ok(lease_claim(s->store, id[i], &(struct lease){}, i, false, &l, &err));
        }
        for (unsigned i = 0; i < ARRAY_SIZE(found); i++) {
                assert_ok(lease_list(s->second, find_in_list, &found[i], &err));
                assert_int_equal(found[i].n, 1);
                assert_int_equal(found[i].lease.epoch, i % 2);
                assert_int_equal(found[i].lease.host, i % 2 ? i : 0);
        }
        assert_int_equal(lease_list(s->second, stop_list, NULL, &err), 17);
}

static void only_the_owner_removes(void **state)
{
        struct suite *s = suite_of(state);
        const struct lease nobody = {};
        struct lease one = {}, found;
        char id[UUID_LEN + 1];
        struct err err;

        uuid_random(id);
        disks_make(s->store, id, &plain_disk, 1);
        assert_ok(lease_claim(s->store, id, &nobody, 3, false, &one, &err));
        assert_fails(-ESTALE, lease_remove(s->second, id, &nobody, &plain_disk, 1, &err));
        expect_lease(s->second, id, 1, 3);
        assert_ok(lease_remove(s->second, id, &one, &plain_disk, 1, &err));
        assert_fails(-ENOENT, lease_find(s->store, id, &found, &err));
        assert_ok(lease_remove(s->store, id, &one, &plain_disk, 1, &err)); /* may be repeated */
        assert_fails(-ESTALE, lease_claim(s->store, id, &one, 3, false, &found, &err));
}

static void every_start_is_somebody_else(void **state)
{
        struct start a, b, c, d;
        char id[UUID_LEN + 1];

        uuid_random(id);
        start_init(&a, id, 1, NULL, NULL, 0);
        start_init(&b, id, 2, NULL, NULL, 0);
        start_init(&c, id, 2, "attempt-1", NULL, 0);
        start_init(&d, id, 2, "attempt-2", NULL, 0);
        assert_true(a.uid != b.uid && b.uid != c.uid && c.uid != d.uid && a.uid != c.uid);
        assert_true(c.gid != d.gid && c.gid != 0 && d.gid != 0 && a.gid == 0);
        assert_true(a.uid > 65536 && c.uid > 65536 && c.uid < (uint32_t)INT32_MAX &&
                    b.uid < (uint32_t)INT32_MAX);
        assert_true(uuid_valid(a.id) && uuid_valid(c.id) && !streq(a.id, b.id));
}

static void lock_path_can_be_opened(void **state)
{
        struct suite *s = suite_of(state);
        _cleanup_(freep) char *path = NULL, *same = NULL;
        char id[UUID_LEN + 1];
        struct err err;

        uuid_random(id);
        assert_ok(lease_lock_path(s->store, id, &path, &err));
        assert_ok(lease_lock_path(s->second, id, &same, &err));
        assert_string_equal(path, same);
        assert_int_equal(access(path, R_OK | W_OK), 0);
}

const struct engine_test lease_tests[] = {
    {ON_ALL, cmocka_unit_test(name_says_who_owns)},
    /* rbd's gate asks for a QEMU that has the image open: see the fence tests */
    {ON_MEM | ON_FILES, cmocka_unit_test(only_the_owner_passes)},
    {ON_ALL, cmocka_unit_test(all_disks_or_none)},
    {ON_ALL, cmocka_unit_test(bad_disks_are_refused)},
    {ON_ALL, cmocka_unit_test(list_says_who_owns_what)},
    {ON_ALL, cmocka_unit_test(only_the_owner_removes)},
    {ON_ALL, cmocka_unit_test(every_start_is_somebody_else)},
    {ON_ALL, cmocka_unit_test(lock_path_can_be_opened)},
};
const size_t n_lease_tests = ARRAY_SIZE(lease_tests);
