/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/util.h"
#include "imaged/store/store.h"
#include "tests/store/power-nfs.h"

/*
 * What the nfs engine asks of its server: whose the files are after each step of ownership, in which order, and
 * what it makes of the answers. The server is tests/store/power-fs.c; the real one is in tests/store.
 */
static struct store *store;

#define IMAGE "11111111-1111-4111-8111-111111111111"
#define VM "33333333-3333-4333-8333-333333333333"

static const struct disk_spec disks[] = {{.name = "disk0", .image = IMAGE, .size = 1 << 20},
                                         {.name = "data", .size = 1 << 20},
                                         {.name = "seed", .content = "seed", .n_content = 4}};
#define N_DISKS 3

static int begin(void **state)
{
        struct volume *v = NULL;
        struct err err = {};

        power_reset();
        power_server = (struct power_server){};
        if (store_open("nfs://server/export", NULL, &store, &err) < 0 || store_prepare(store, &err) < 0 ||
            volume_create(store, IMAGE, 4096, &v, &err) < 0 || volume_seal(v, &err) < 0 ||
            lease_create(store, VM, disks, N_DISKS, &err) < 0)
                fail_msg("%s", err_text(&err));
        volume_close(v);
        power_server = (struct power_server){};
        return 0;
}

static int end(void **state)
{
        store = store_close(store);
        return 0;
}

static void expect_owner(const char *name, uint64_t epoch, unsigned host, uint32_t uid, uint32_t gid,
                         uint32_t mode)
{
        char path[200];
        struct fs_attr a = {};

        snprintf(path, sizeof(path), "instances/33/" VM ".e%u.h%u/%s", (unsigned)epoch, host, name);
        assert_int_equal(power_stat(path, &a), 0);
        assert_int_equal(a.uid, uid);
        assert_int_equal(a.gid, gid);
        assert_int_equal(a.mode, mode);
}

static void expect_owners(uint64_t epoch, unsigned host, uint32_t uid, uint32_t gid, uint32_t mode)
{
        expect_owner("disk0.qcow2", epoch, host, uid, gid, mode);
        expect_owner("data.qcow2", epoch, host, uid, gid, mode);
        expect_owner("seed.iso", epoch, host, uid, gid, mode);
}

static void claim_fence(const struct lease *from, unsigned host, struct lease *ret, struct start *ret_start)
{
        struct err err = {};

        assert_int_equal(lease_claim(store, VM, from, host, false, ret, &err), 0);
        start_init(ret_start, VM, ret->epoch, NULL, NULL, 0);
        assert_int_equal(lease_fence(store, VM, ret, ret_start, disks, N_DISKS, &err), 0);
}

static void new_disks_are_nobodys(void **state)
{
        expect_owners(0, 0, 0, 0, 0600);
}

static void a_fence_gives_every_disk_to_its_start_alone(void **state)
{
        struct lease one, two;
        struct start first, second;
        struct err err = {};

        claim_fence(&(struct lease){}, 1, &one, &first);
        expect_owners(1, 1, first.uid, 0, 0600);
        claim_fence(&one, 2, &two, &second);
        assert_int_not_equal(first.uid, second.uid);
        expect_owners(2, 2, second.uid, 0, 0600);
        assert_int_equal(lease_fence(store, VM, &one, &first, disks, N_DISKS, &err), -ESTALE);
        expect_owners(2, 2, second.uid, 0, 0600);
        second.uid = 0;
        assert_int_equal(lease_fence(store, VM, &two, &second, disks, N_DISKS, &err), -EINVAL);
        power_server.own_answer = -ETIMEDOUT;
        second.uid = 5;
        assert_int_equal(lease_fence(store, VM, &two, &second, disks, N_DISKS, &err), -ETIMEDOUT);
}

static void a_grant_adds_the_attempts_group_and_leaves_the_owner(void **state)
{
        struct lease one;
        struct start first, attempt;
        struct commit_claim runs_on = {.host = 1, .last = &first, .start = &first};
        struct err err = {};

        claim_fence(&(struct lease){}, 1, &one, &first);
        start_init(&attempt, VM, one.epoch, "attempt-1", NULL, 0);
        assert_int_equal(lease_grant(store, VM, &one, &attempt, disks, N_DISKS, &err), 0);
        expect_owners(1, 1, first.uid, attempt.gid, 0660);
        assert_int_equal(lease_gate(store, VM, &one, &first, disks, N_DISKS, &err), 0);
        assert_int_equal(lease_gate(store, VM, &one, &attempt, disks, N_DISKS, &err), -EACCES);
        assert_int_equal(lease_grant(store, VM, &one, &first, disks, N_DISKS, &err), -EINVAL);
        assert_int_equal(lease_grant(store, VM, &(struct lease){}, &attempt, disks, N_DISKS, &err), -ESTALE);
        /* withdrawn, by the source that runs on */
        runs_on.from = one;
        assert_int_equal(lease_commit(store, VM, &runs_on, disks, N_DISKS, &one, &err), 0);
        expect_owners(2, 1, first.uid, 0, 0600);
}

static void the_gate_wants_the_name_and_each_disk(void **state)
{
        static const char *const names[] = {"disk0.qcow2", "data.qcow2", "seed.iso"};
        struct lease one, two;
        struct start first, second;
        struct err err = {};

        claim_fence(&(struct lease){}, 1, &one, &first);
        assert_int_equal(lease_gate(store, VM, &one, &first, disks, N_DISKS, &err), 0);
        for (size_t i = 0; i < N_DISKS; i++) {
                char path[200];

                snprintf(path, sizeof(path), "instances/33/" VM ".e1.h1/%s", names[i]);
                power_own(path, first.uid + 1, 0, 0600);
                assert_int_equal(lease_gate(store, VM, &one, &first, disks, N_DISKS, &err), -EACCES);
                power_own(path, first.uid, 0, 0600);
        }
        power_aim(POWER_DROP, 1);
        assert_int_equal(lease_gate(store, VM, &one, &first, disks, N_DISKS, &err), -ETIMEDOUT);
        claim_fence(&one, 2, &two, &second);
        assert_int_equal(lease_gate(store, VM, &one, &first, disks, N_DISKS, &err), -EACCES);
        assert_int_equal(lease_gate(store, VM, &two, &first, disks, N_DISKS, &err), -EACCES);
        assert_int_equal(lease_gate(store, VM, &two, &second, disks, N_DISKS, &err), 0);
}

/* One call: the name moves, then the disks change hands, then the look; a failure of any is the answer. */
static void a_commit_claims_fences_and_looks(void **state)
{
        struct lease one, two = {};
        struct start first, attempt, next;
        struct commit_claim c = {.host = 2, .last = &first, .start = &attempt};
        struct err err = {};

        claim_fence(&(struct lease){}, 1, &one, &first);
        start_init(&attempt, VM, one.epoch, "attempt-1", NULL, 0);
        c.from = one;
        power_server.own_answer = -EIO;
        assert_int_equal(lease_commit(store, VM, &c, disks, N_DISKS, &two, &err), -EIO);
        power_server = (struct power_server){};
        /* Not asked again: what has the new name may be another host of this number. */
        assert_int_equal(lease_commit(store, VM, &c, disks, N_DISKS, &two, &err), -ESTALE);
        c.again = true;
        assert_int_equal(lease_commit(store, VM, &c, disks, N_DISKS, &two, &err), 0);
        assert_true(two.epoch == 2 && two.host == 2);
        assert_int_equal(power_server.owns, 1);
        expect_owners(2, 2, attempt.uid, 0, 0600);
        c.host = 3;
        assert_int_equal(lease_commit(store, VM, &c, disks, N_DISKS, &two, &err), -ESTALE);
        assert_int_equal(power_server.owns, 1); /* who has lost takes nothing */
        power_server.own_nothing = true;        /* the fence is said to hold, and does not */
        start_init(&next, VM, two.epoch, "attempt-2", NULL, 0);
        c = (struct commit_claim){.from = two, .host = 3, .last = &attempt, .start = &next};
        assert_int_equal(lease_commit(store, VM, &c, disks, N_DISKS, &one, &err), -EACCES);
}

/* Another start has fenced since: the memory is older than the disk, or will be. */
static void memory_takes_the_disks_from_its_own_start_only(void **state)
{
        struct lease one, two, three = {};
        struct start first, other;
        struct commit_claim c = {.host = 1, .last = &first, .start = &first};
        struct err err = {};

        claim_fence(&(struct lease){}, 1, &one, &first);
        claim_fence(&one, 1, &two, &other);
        c.from = two;
        assert_int_equal(lease_commit(store, VM, &c, disks, N_DISKS, &three, &err), -ESTALE);
        expect_owners(3, 1, other.uid, 0, 0600);
}

static void a_user_that_has_the_disks_is_no_new_one(void **state)
{
        struct lease one, two;
        struct start first;
        struct err err = {};

        claim_fence(&(struct lease){}, 1, &one, &first);
        assert_int_equal(lease_claim(store, VM, &one, 2, false, &two, &err), 0);
        assert_int_equal(lease_fence(store, VM, &two, &first, disks, N_DISKS, &err), -EEXIST);
}

static void qemu_is_told_all_of_it(void **state)
{
        struct attach a[N_DISKS], iso;
        struct lease one;
        struct start first;
        struct fs_attr golden = {};
        struct err err = {};

        claim_fence(&(struct lease){}, 1, &one, &first);
        first.gid = 77;
        assert_int_equal(lease_attach(store, VM, &one, &first, disks, N_DISKS, a, &err), 0);
        assert_int_equal(power_stat("images/" IMAGE ".raw", &golden), 0);
        for (size_t i = 0; i < N_DISKS; i++) {
                assert_int_equal(a[i].kind, ATTACH_NFS);
                assert_string_equal(a[i].server, "server");
                assert_int_equal(a[i].uid, first.uid);
                assert_int_equal(a[i].gid, 77);
                assert_int_equal(a[i].qcow2, i < 2);
                assert_int_equal(a[i].read_only, i == 2);
                assert_int_equal(a[i].has_backing, i == 0);
        }
        assert_string_equal(a[0].path, "/export/instances/33/" VM ".e1.h1/disk0.qcow2");
        assert_string_equal(a[2].path, "/export/instances/33/" VM ".e1.h1/seed.iso");
        assert_string_equal(a[0].backing_path, "/export/images/" IMAGE ".raw");
        assert_int_equal(a[0].backing_uid, golden.uid);
        assert_int_equal(golden.mode, 0644);
        assert_int_not_equal(golden.uid, 0);
        assert_int_equal(volume_attach(store, IMAGE, &iso, &err), 0);
        assert_true(iso.read_only && iso.kind == ATTACH_NFS && iso.uid == golden.uid);
        assert_string_equal(iso.path, "/export/images/" IMAGE ".raw");
}

static void the_self_test_believes_what_it_has_seen(void **state)
{
        struct err err = {};

        assert_int_equal(store_selftest(store, &err), 1);
        assert_int_equal(power_server.owns, 2);
        assert_int_equal(power_server.writes, 3); /* the first, the first once more, the second */
        power_server = (struct power_server){.takes_all = true};
        assert_int_equal(store_selftest(store, &err), 0);
        assert_non_null(strstr(err.text, "lost the file"));
        power_server = (struct power_server){.own_answer = -EACCES};
        assert_int_equal(store_selftest(store, &err), 0);
        assert_non_null(strstr(err.text, "no_root_squash"));
        power_server = (struct power_server){.own_answer = -EINVAL};
        assert_int_equal(store_selftest(store, &err), 0);
        power_server = (struct power_server){.own_answer = -ETIMEDOUT};
        assert_int_equal(store_selftest(store, &err), -ETIMEDOUT);
        power_server = (struct power_server){.write_answer = {-EACCES}};
        assert_int_equal(store_selftest(store, &err), 0);
        assert_non_null(strstr(err.text, "file's owner"));
        power_server = (struct power_server){.write_answer = {-EIO}};
        assert_int_equal(store_selftest(store, &err), -EIO);
        power_server = (struct power_server){.write_answer = {0, -EIO}};
        assert_int_equal(store_selftest(store, &err), -EIO); /* not the refusal that it looks for */
        power_server = (struct power_server){.write_answer = {0, -EACCES, -EACCES}};
        assert_int_equal(store_selftest(store, &err), -EACCES);
        assert_int_equal(power_count("tmp"), 0);
        power_aim(POWER_FAIL, 0);
        assert_int_equal(store_selftest(store, &err), -EIO);
}

/* Left-overs of crashed writers are an hour old by the server's clock before they go. */
static void the_sweep_takes_what_is_an_hour_old(void **state)
{
        static const struct fs_owner owner = {.mode = 0600};
        struct fs *fs = power_fs();
        struct fs_attr a;
        struct err err = {};

        assert_int_equal(fs->ops->put(fs, "tmp/old", "x", 1, &owner, true, &err), 0);
        assert_int_equal(fs->ops->mkdir(fs, "tmp/folder", 0700, &err), 0);
        assert_int_equal(fs->ops->put(fs, "tmp/folder/disk", "x", 1, &owner, true, &err), 0);
        power_age(3599);
        assert_int_equal(fs->ops->put(fs, "tmp/young", "x", 1, &owner, true, &err), 0);
        assert_int_equal(store_prepare(store, &err), 0);
        assert_int_equal(power_count("tmp"), 3);
        power_age(1);
        assert_int_equal(store_prepare(store, &err), 0);
        assert_int_equal(power_count("tmp"), 1);
        assert_int_equal(power_stat("tmp/young", &a), 0);
}

/* A removed image that still has users comes back; one without is gone for good. */
static void a_removal_that_was_cut_off_is_mended(void **state)
{
        struct fs *fs = power_fs();
        struct lease none = {};
        struct volume *v = NULL;
        struct fs_attr a;
        struct err err = {};

        assert_int_equal(volume_remove(store, IMAGE, &err), -EBUSY);
        assert_string_equal(err.text, "image " IMAGE ": 1 disk copy it on write");
        assert_int_equal(
            fs->ops->rename(fs, "images/" IMAGE ".raw", "images/" IMAGE ".0123456789abcdef.gone", &err), 0);
        assert_int_equal(volume_open(store, IMAGE, &v, &err), -ENOENT);
        assert_int_equal(store_prepare(store, &err), 0);
        assert_int_equal(volume_open(store, IMAGE, &v, &err), 0);
        v = volume_close(v);
        assert_int_equal(power_stat("images/" IMAGE ".raw", &a), 0);
        assert_int_equal(a.nlink, 2);
        /* One that was made anew meanwhile stays. */
        assert_int_equal(
            fs->ops->rename(fs, "images/" IMAGE ".raw", "images/" IMAGE ".0123456789abcdef.gone", &err), 0);
        assert_int_equal(volume_create(store, IMAGE, 8192, &v, &err), 0);
        assert_int_equal(volume_seal(v, &err), 0);
        v = volume_close(v);
        assert_int_equal(store_prepare(store, &err), 0);
        assert_int_equal(power_count("images"), 1);
        assert_int_equal(power_stat("images/" IMAGE ".raw", &a), 0);
        assert_true(a.nlink == 1 && a.size == 8192);
        assert_int_equal(lease_remove(store, VM, &none, disks, N_DISKS, &err), 0);
        assert_int_equal(
            fs->ops->rename(fs, "images/" IMAGE ".raw", "images/" IMAGE ".0123456789abcdef.gone", &err), 0);
        assert_int_equal(store_prepare(store, &err), 0);
        assert_int_equal(volume_open(store, IMAGE, &v, &err), -ENOENT);
        assert_int_equal(power_count("images"), 0);
}

/* A folder is renamed, and then emptied: who asks again finishes that, and the image has one user less. */
static void a_removal_that_is_asked_for_again_is_finished(void **state)
{
        struct fs *fs = power_fs();
        struct lease none = {};
        struct err err = {};

        assert_int_equal(fs->ops->rename(fs, "instances/33/" VM ".e0.h0", "tmp/removed-" VM ".e0.h0", &err),
                         0);
        assert_int_equal(volume_remove(store, IMAGE, &err), -EBUSY);
        assert_int_equal(lease_remove(store, VM, &none, disks, N_DISKS, &err), 0);
        assert_int_equal(power_count("tmp"), 0);
        assert_int_equal(lease_create(store, VM, disks, N_DISKS, &err), 0);
        power_aim(POWER_LOSE, 0); /* the rename's answer: it looks whether it is away */
        assert_int_equal(lease_remove(store, VM, &none, disks, N_DISKS, &err), 0);
        power_aim(POWER_NONE, 0);
        assert_int_equal(power_count("tmp"), 0);
        assert_int_equal(lease_create(store, VM, disks, N_DISKS, &err), 0);
        power_aim(POWER_DROP, 0);
        assert_int_equal(lease_remove(store, VM, &none, disks, N_DISKS, &err), -ETIMEDOUT);
        power_aim(POWER_NONE, 0);
        assert_int_equal(lease_remove(store, VM, &none, disks, N_DISKS, &err), 0);
        assert_int_equal(volume_remove(store, IMAGE, &err), 0);
}

/* Of an upload that was cut off: the rename that makes it ours is looked at where it has no answer. */
static void a_part_is_taken_whatever_the_answer_is(void **state)
{
        struct volume *v = NULL;
        struct err err = {};

        assert_int_equal(volume_create(store, "i", 4096, &v, &err), 0);
        assert_int_equal(volume_write(v, "abc", 3, 0, &err), 0);
        v = volume_leave(v);
        power_aim(POWER_DROP, 1);
        assert_int_equal(volume_resume(store, "i", true, &v, &err), -ETIMEDOUT);
        power_aim(POWER_LOSE, 1);
        assert_int_equal(volume_resume(store, "i", true, &v, &err), 0);
        power_aim(POWER_NONE, 0);
        assert_int_equal(volume_seal(v, &err), 0);
        v = volume_close(v);
        assert_int_equal(volume_resume(store, "i", true, &v, &err), -ENOENT);
        assert_int_equal(volume_open(store, "i", &v, &err), 0);
        volume_close(v);
}

/* Where there is no room, a record that exists gets some from the reserve, and a new one waits. */
static void a_full_store_still_takes_changes(void **state)
{
        struct err err = {};

        power_room(1 << 30);
        assert_int_equal(store_prepare(store, &err), 0);
        assert_int_equal(power_count("reserve"), 8);
        power_room(0);
        assert_int_equal(record_put(store, RECORD_HOST, "1", 0, "one", NULL, &err), 0);
        for (unsigned k = 0; k < 12; k++) {
                int before = power_count("reserve");

                power_aim(POWER_FULL, k);
                assert_int_equal(record_put(store, RECORD_HOST, "1", k + 1, "more", NULL, &err), 0);
                assert_true(power_count("reserve") == before || power_count("reserve") == before - 1);
        }
        assert_true(power_count("reserve") <= 6); /* for the text, and for the name */
        power_aim(POWER_FULL, 1);
        assert_int_equal(record_put(store, RECORD_HOST, "2", 0, "one", NULL, &err), -ENOSPC);
}

struct listed {
        unsigned n, vm;
        struct lease lease;
};

static int list_one(void *arg, const char *instance, const struct lease *lease)
{
        struct listed *l = arg;

        l->n++;
        if (streq(instance, VM)) {
                l->vm++;
                l->lease = *lease;
        }
        return 0;
}

/* A late RENAME of a creation that lost put a second name there: the higher epoch is the lease. */
static void of_two_names_the_higher_epoch_counts(void **state)
{
        struct fs *fs = power_fs();
        struct listed listed = {};
        struct lease l = {};
        struct err err = {};

        for (unsigned epoch = 1; epoch < 10; epoch += 2) {
                char path[200];

                snprintf(path, sizeof(path), "instances/33/" VM ".e%u.h%u", 10 - epoch, epoch);
                assert_int_equal(fs->ops->mkdir(fs, path, 0700, &err), 0);
                assert_int_equal(lease_find(store, VM, &l, &err), 0);
                assert_int_equal(l.epoch, 9);
                assert_int_equal(l.host, 1);
        }
        assert_int_equal(lease_list(store, list_one, &listed, &err), 0);
        assert_int_equal(listed.vm, 1);
        assert_int_equal(listed.lease.epoch, 9);
}

static void another_instance_of_the_same_folder_is_another(void **state)
{
        const char *other = "33333333-3333-4333-8333-333333333334";
        struct listed listed = {};
        struct lease l = {};
        struct err err = {};

        assert_int_equal(lease_create(store, other, disks, N_DISKS, &err), 0);
        assert_int_equal(lease_claim(store, other, &l, 5, false, &l, &err), 0);
        assert_int_equal(lease_find(store, VM, &l, &err), 0);
        assert_true(l.epoch == 0 && l.host == 0);
        assert_int_equal(lease_list(store, list_one, &listed, &err), 0);
        assert_int_equal(listed.n, 2);
        assert_int_equal(listed.vm, 1);
        assert_int_equal(lease_create(store, VM, disks, N_DISKS, &err), -EEXIST);
        assert_int_equal(lease_remove(store, VM, &(struct lease){}, disks, N_DISKS, &err), 0);
        assert_int_equal(lease_find(store, other, &l, &err), 0);
        assert_int_equal(lease_find(store, VM, &l, &err), -ENOENT);
}

static void what_cannot_be_listed_is_not_nothing(void **state)
{
        struct listed listed = {};
        struct lease l;
        struct err err = {};

        power_aim(POWER_FAIL, 0);
        assert_int_equal(lease_find(store, VM, &l, &err), -EIO);
        power_aim(POWER_FAIL, 0);
        assert_int_equal(lease_create(store, VM, disks, N_DISKS, &err), -EIO);
        power_aim(POWER_FAIL, 1); /* the first shard's names */
        assert_int_equal(lease_list(store, list_one, &listed, &err), -EIO);
        power_aim(POWER_FAIL, 0);
        assert_int_equal(lease_list(store, list_one, &listed, &err), -EIO);
        assert_int_equal(listed.n, 0);
}

static void a_disk_is_not_smaller_than_its_image_nor_of_none(void **state)
{
        const struct disk_spec small = {.name = "disk0", .image = IMAGE, .size = 512};
        const struct disk_spec none = {.name = "disk0", .image = "no-such-image", .size = 1 << 20};
        struct err err = {};

        assert_int_equal(lease_create(store, "vm-1", &small, 1, &err), -EINVAL);
        assert_int_equal(lease_create(store, "vm-1", &none, 1, &err), -ENOENT);
        assert_int_equal(power_count("tmp"), 0);
        assert_int_equal(lease_create(store, "vm-1", disks, N_DISKS, &err), 0);
        assert_int_equal(volume_remove(store, IMAGE, &err), -EBUSY);
        assert_string_equal(err.text, "image " IMAGE ": 2 disks copy it on write");
        power_aim(POWER_OFF, 2); /* it was not away for a moment either: a list and a look was all */
        assert_int_equal(volume_remove(store, IMAGE, &err), -EBUSY);
        power_aim(POWER_NONE, 0);
        assert_int_equal(lease_remove(store, "vm-1", &(struct lease){1, 1}, disks, N_DISKS, &err), -ESTALE);
        assert_int_equal(lease_remove(store, "vm-1", &(struct lease){}, disks, N_DISKS, &err), 0);
        assert_int_equal(lease_remove(store, "vm-1", &(struct lease){}, disks, N_DISKS, &err), 0);
}

/* The heartbeat is one file of 20 digits; what is not whole is no counter. */
static void a_heartbeat_is_a_whole_counter(void **state)
{
        static const struct fs_owner owner = {.mode = 0600};
        struct fs *fs = power_fs();
        uint64_t counter = 0;
        struct err err = {};

        assert_int_equal(beat_read(store, 3, &counter, &err), -ENOENT);
        assert_int_equal(beat_write(store, 3, 17, &err), 0);
        assert_int_equal(beat_write(store, 3, UINT64_MAX - 1, &err), 0);
        assert_int_equal(beat_read(store, 3, &counter, &err), 0);
        assert_true(counter == UINT64_MAX - 1);
        assert_int_equal(fs->ops->put(fs, "beats/4", "", 0, &owner, true, &err), 0);
        assert_int_equal(beat_read(store, 4, &counter, &err), -ENOENT);
        assert_int_equal(fs->ops->put(fs, "beats/5", "0000000000000000017x\n", 21, &owner, true, &err), 0);
        assert_int_equal(beat_read(store, 5, &counter, &err), -EIO);
        power_aim(POWER_DROP, 0);
        assert_int_equal(beat_read(store, 3, &counter, &err), -ETIMEDOUT);
}

static int count_record(void *arg, const char *id, uint64_t version, const char *text)
{
        unsigned *n = arg;

        assert_string_equal(text, version == 2 ? "two" : "one");
        ++*n;
        return 0;
}

/* A list has each record once, at its newest, and none that was deleted: from the storage and from the cache. */
static void a_list_has_each_record_once(void **state)
{
        static const char *const ids[] = {"10", "11", "12", "2", "3"};
        struct err err = {};

        for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
                assert_int_equal(record_put(store, RECORD_HOST, ids[i], 0, "one", NULL, &err), 0);
        assert_int_equal(record_put(store, RECORD_HOST, "11", 1, "two", NULL, &err), 0);
        assert_int_equal(record_put(store, RECORD_HOST, "12", 1, NULL, NULL, &err), 0);
        for (int again = 0; again < 2; again++) {
                unsigned n = 0;

                assert_int_equal(record_list(store, RECORD_HOST, count_record, &n, &err), 0);
                assert_int_equal(n, 4);
                if (again == 0) { /* another's handle has nothing in its cache */
                        store = store_close(store);
                        assert_int_equal(store_open("nfs://server/export", NULL, &store, &err), 0);
                }
        }
        for (unsigned k = 0; k < 6; k++) { /* an answer that is lost is no end of the list */
                unsigned n = 0;

                power_aim(POWER_LOSE, k);
                int r = record_list(store, RECORD_HOST, count_record, &n, &err);

                assert_true(r == -ETIMEDOUT || (r == 0 && n == 4));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test_setup_teardown(new_disks_are_nobodys, begin, end),
            cmocka_unit_test_setup_teardown(a_fence_gives_every_disk_to_its_start_alone, begin, end),
            cmocka_unit_test_setup_teardown(a_grant_adds_the_attempts_group_and_leaves_the_owner, begin,
                                            end),
            cmocka_unit_test_setup_teardown(the_gate_wants_the_name_and_each_disk, begin, end),
            cmocka_unit_test_setup_teardown(a_commit_claims_fences_and_looks, begin, end),
            cmocka_unit_test_setup_teardown(memory_takes_the_disks_from_its_own_start_only, begin, end),
            cmocka_unit_test_setup_teardown(a_user_that_has_the_disks_is_no_new_one, begin, end),
            cmocka_unit_test_setup_teardown(qemu_is_told_all_of_it, begin, end),
            cmocka_unit_test_setup_teardown(the_self_test_believes_what_it_has_seen, begin, end),
            cmocka_unit_test_setup_teardown(the_sweep_takes_what_is_an_hour_old, begin, end),
            cmocka_unit_test_setup_teardown(a_removal_that_was_cut_off_is_mended, begin, end),
            cmocka_unit_test_setup_teardown(a_removal_that_is_asked_for_again_is_finished, begin, end),
            cmocka_unit_test_setup_teardown(a_part_is_taken_whatever_the_answer_is, begin, end),
            cmocka_unit_test_setup_teardown(a_full_store_still_takes_changes, begin, end),
            cmocka_unit_test_setup_teardown(of_two_names_the_higher_epoch_counts, begin, end),
            cmocka_unit_test_setup_teardown(another_instance_of_the_same_folder_is_another, begin, end),
            cmocka_unit_test_setup_teardown(what_cannot_be_listed_is_not_nothing, begin, end),
            cmocka_unit_test_setup_teardown(a_disk_is_not_smaller_than_its_image_nor_of_none, begin, end),
            cmocka_unit_test_setup_teardown(a_heartbeat_is_a_whole_counter, begin, end),
            cmocka_unit_test_setup_teardown(a_list_has_each_record_once, begin, end),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
