/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "common/util.h"
#include "tests/store/probe-fs.h"

/*
 * Folders, disks and leases as files: what is made and removed, in which order, what a failure leaves behind, and what
 * is made of an answer that was lost. Faults come from tests/store/probe-fs.c.
 */
#define files files_of(probe.store)

static const struct disk_spec disks[] = {{.name = "disk0", .size = 1 << 20},
                                         {.name = "seed", .content = "seed", .n_content = 4}};
static const struct lease nobody = {};
static struct err err;

static uint32_t mode_of(const char *path)
{
        struct fs_attr a = {};

        assert_int_equal(probe.fs->ops->stat(probe.fs, path, &a, NULL), 0);
        return a.mode;
}

static int gone(const char *path)
{
        struct fs_attr a;

        return probe.fs->ops->stat(probe.fs, path, &a, NULL) == -ENOENT;
}

static void folders_have_their_modes(void **state)
{
        static const char *const closed[] = {"records", "beats",         "locks",
                                             "import",  "records/image", "records/manifest"};
        static const char *const open[] = {"images", "instances", "starts", "tmp"};

        for (size_t i = 0; i < ARRAY_SIZE(closed); i++)
                assert_int_equal(mode_of(closed[i]), 0700);
        for (size_t i = 0; i < ARRAY_SIZE(open); i++)
                assert_int_equal(mode_of(open[i]), 0711);
        for (int k = 0; k < RECORD_KIND_MAX; k++) {
                char path[64];

                snprintf(path, sizeof(path), "records/%s", record_kind_name(k));
                assert_int_equal(mode_of(path), 0700);
        }
        probe_fail("mkdir", -EACCES);
        assert_int_equal(store_prepare(probe.store, &err), -EACCES);
        probe_fail("mkdir", -EACCES);
        probe.skip = 8; /* the first kind's */
        assert_int_equal(store_prepare(probe.store, &err), -EACCES);
}

static void a_new_folder_is_durable_in_its_parent(void **state)
{
        probe_clear();
        assert_int_equal(files_mkdir(files, "tmp/a", 0701, &err), 0);
        assert_string_equal(probe.log, "mkdir tmp/a\nsync tmp\n");
        assert_int_equal(mode_of("tmp/a"), 0701);
        probe_clear();
        assert_int_equal(files_mkdir(files, "tmp/a", 0700, &err), 0);
        assert_string_equal(probe.log, "mkdir tmp/a\n");
        assert_int_equal(mode_of("tmp/a"), 0701);
        probe_clear();
        assert_int_equal(files_mkdir(files, "top", 0700, &err), 0);
        assert_string_equal(probe.log, "mkdir top\nsync .\n");
        probe_fail("sync", -EIO);
        assert_int_equal(files_mkdir(files, "tmp/b", 0700, &err), -EIO);
        assert_int_equal(files_mkdir(files, "none/b", 0700, &err), -ENOENT);
}

static void a_tree_is_removed_whole(void **state)
{
        assert_int_equal(probe_shell("mkdir tmp/t && cd tmp/t && touch $(seq 64)"), 0);
        assert_int_equal(files_rmtree(files, "tmp/t", &err), 0);
        assert_true(gone("tmp/t"));
        assert_int_equal(probe_shell("mkdir tmp/t && cd tmp/t && touch $(seq 200)"), 0);
        assert_int_equal(files_rmtree(files, "tmp/t", &err), 0);
        assert_true(gone("tmp/t"));
        assert_int_equal(files_rmtree(files, "tmp/t", &err), 0);
}

/* Twice more where the storage did not answer or failed; not where it refused. */
static void a_removal_is_tried_three_times(void **state)
{
        static const char *const ops[] = {"list", "remove", "rmdir"};
        static const int answers[] = {-EIO, -ETIMEDOUT};

        for (size_t i = 0; i < ARRAY_SIZE(ops); i++)
                for (size_t k = 0; k < ARRAY_SIZE(answers); k++) {
                        assert_int_equal(probe_shell("mkdir -p tmp/t && touch tmp/t/1"), 0);
                        probe_fail(ops[i], answers[k]);
                        probe.times = 3;
                        assert_int_equal(files_rmtree(files, "tmp/t", &err), answers[k]);
                        assert_int_equal(probe.times, 0);
                        assert_false(gone("tmp/t"));
                        probe_fail(ops[i], -EACCES);
                        assert_int_equal(files_rmtree(files, "tmp/t", &err), -EACCES);
                        assert_false(gone("tmp/t"));
                        probe_fail(ops[i], answers[k]);
                        probe.times = 2;
                        assert_int_equal(files_rmtree(files, "tmp/t", &err), 0);
                        assert_true(gone("tmp/t"));
                }
        assert_int_equal(probe_shell("mkdir tmp/t && touch tmp/t/1"), 0);
        probe_fail("remove", -ENOENT); /* another removed it: no failure */
        probe.done = true;
        assert_int_equal(files_rmtree(files, "tmp/t", &err), 0);
}

static void a_small_file_is_read_whole(void **state)
{
        char *text = NULL;
        size_t len = 0;

        assert_int_equal(probe_shell("printf 12345 >tmp/f"), 0);
        assert_int_equal(files_read(files, "tmp", "f", 5, &text, &len, &err), 0);
        assert_string_equal(text, "12345");
        assert_int_equal(len, 5);
        free(text);
        assert_int_equal(files_read(files, "tmp", "f", 5, &text, NULL, &err), 0);
        free(text);
        assert_int_equal(files_read(files, "tmp", "f", 4, &text, &len, &err), -EFBIG);
        assert_int_equal(files_read(files, "tmp", "g", 4, &text, &len, &err), -ENOENT);
        assert_int_equal(files_read(files, "none", "g", 4, &text, &len, &err), -ENOENT);
        probe_fail("read", -EIO);
        assert_int_equal(files_read(files, "tmp", "f", 5, &text, &len, &err), -EIO);
}

static void a_sweep_does_without_room_only(void **state)
{
        probe_clear();
        assert_int_equal(store_prepare(probe.store, &err), 0);
        assert_int_equal(probe_names("tmp"), 0);
        probe_fail("put-durable", -ENOSPC);
        assert_int_equal(store_prepare(probe.store, &err), 0);
        probe_fail("put-durable", -EIO);
        assert_int_equal(store_prepare(probe.store, &err), -EIO);
        probe_fail("stat", -EIO);
        assert_int_equal(store_prepare(probe.store, &err), -EIO);
        assert_int_equal(probe_names("tmp"), 0);
}

static void room_is_kept_for_records(void **state)
{
        const uint64_t most = 8 << 20;
        struct fs_attr a;

        assert_int_equal(probe_shell("rm -r reserve"), 0);
        probe_clear();
        probe.left = most - 1;
        assert_int_equal(store_upkeep(probe.store, &err), 0);
        assert_int_equal(probe_names("reserve"), 0);
        assert_int_equal(mode_of("reserve"), 0700);
        assert_false(files_reserve_use(files));
        probe_fail("put-durable", -ENOSPC);
        assert_int_equal(store_upkeep(probe.store, &err), 0);
        probe_fail("put-durable", -EIO);
        assert_int_equal(store_upkeep(probe.store, &err), -EIO);
        probe_fail("space", -EIO);
        assert_int_equal(store_upkeep(probe.store, &err), -EIO);
        probe_fail("stat", -EACCES);
        assert_int_equal(store_upkeep(probe.store, &err), -EACCES);
        probe_fail("put-durable", -EEXIST); /* another makes it at the same time */
        probe.done = true;
        probe.left = most;
        assert_int_equal(store_upkeep(probe.store, &err), 0);
        assert_int_equal(probe_names("reserve"), 8);
        assert_int_equal(probe.fs->ops->stat(probe.fs, "reserve/7", &a, &err), 0);
        assert_true(a.size == 512 << 10 && a.mode == 0600);
        assert_int_equal(probe_shell("cmp -s reserve/7 /dev/zero -n 4096"), 1 << 8);
        probe_clear();
        assert_int_equal(store_upkeep(probe.store, &err), 0);
        assert_false(probe_logged("put")); /* what is there is not made again */
        for (unsigned i = 8; i-- > 0;) {
                assert_true(files_reserve_use(files));
                assert_int_equal(probe_names("reserve"), i);
        }
        assert_false(files_reserve_use(files));
}

static void new_disks_are_made_apart_and_then_named(void **state)
{
        char *text = NULL;

        probe_clear();
        assert_int_equal(lease_create(probe.store, "vm", disks, 2, &err), 0);
        assert_true(strstr(probe.log, "put tmp/disks-") < strstr(probe.log, "rename instances/vm/vm.e0.h0"));
        assert_true(strstr(probe.log, "rename instances/vm/vm.e0.h0") <
                    strstr(probe.log, "sync instances/vm/vm.e0.h0"));
        assert_int_equal(mode_of("instances/vm"), 0711);
        assert_int_equal(mode_of("instances/vm/vm.e0.h0"), 0711);
        assert_int_equal(mode_of("instances/vm/vm.e0.h0/disk0.qcow2"), 0600);
        assert_int_equal(mode_of("instances/vm/vm.e0.h0/seed.iso"), 0600);
        assert_int_equal(files_read(files, "instances/vm/vm.e0.h0", "seed.iso", 10, &text, NULL, &err), 0);
        assert_string_equal(text, "seed");
        free(text);
        assert_int_equal(lease_create(probe.store, "vm", disks, 2, &err), -EEXIST);
        assert_int_equal(lease_create(probe.store, "vm2", disks, 2, &err), 0); /* the same shard */
        assert_int_equal(probe_names("tmp"), 0);
}

static void disks_that_cannot_be_made_leave_nothing(void **state)
{
        static const struct {
                const char *op;
                unsigned skip;
        } at[] = {{"list", 0}, {"mkdir", 0},  {"mkdir", 1}, {"put", 0},
                  {"put", 1},  {"rename", 0}, {"sync", 0},  {"sync", 2}};
        struct lease l;

        for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
                probe_fail(at[i].op, -EIO);
                probe.skip = at[i].skip;
                assert_int_equal(lease_create(probe.store, "vm", disks, 2, &err), -EIO);
                assert_int_equal(probe.times, 0);
                assert_int_equal(lease_find(probe.store, "vm", &l, &err), -ENOENT);
                assert_int_equal(probe_names("tmp"), 0);
        }
        probe_fail("sync", -ETIMEDOUT); /* unknown: it stays, and its maker's record has it removed */
        assert_int_equal(lease_create(probe.store, "vm", disks, 2, &err), -ETIMEDOUT);
        assert_int_equal(lease_find(probe.store, "vm", &l, &err), 0);
}

static void a_name_without_an_answer_is_settled(void **state)
{
        struct lease l;

        probe_fail("rename", -ETIMEDOUT);
        assert_int_equal(lease_create(probe.store, "vm", disks, 2, &err), -ETIMEDOUT);
        assert_true(probe_logged("rename tmp/given-up-"));
        assert_int_equal(probe_names("tmp"), 0);
        assert_int_equal(lease_find(probe.store, "vm", &l, &err), -ENOENT);
        probe_fail("rename", -ETIMEDOUT);
        probe.done = true;
        assert_int_equal(lease_create(probe.store, "vm", disks, 2, &err), 0);
        assert_int_equal(lease_find(probe.store, "vm", &l, &err), 0);
        probe_fail("rename", -ENOENT); /* sent twice: the second one finds nothing */
        probe.done = true;
        assert_int_equal(lease_create(probe.store, "vm2", disks, 2, &err), 0);
        probe_fail("rename", -ETIMEDOUT);
        probe.times = 2; /* nor is there an answer to what would settle it: the sweep takes it */
        assert_int_equal(lease_create(probe.store, "vm3", disks, 2, &err), -ETIMEDOUT);
        assert_int_equal(probe_names("tmp"), 1);
}

static void other_makes_it(void)
{
        assert_int_equal(probe_shell("mkdir -p instances/vm/vm.e3.h2"), 0);
}

static void of_two_makers_the_later_gives_way(void **state)
{
        struct lease l = {};

        probe_fail("rename", 0);
        probe.before = other_makes_it;
        assert_int_equal(lease_create(probe.store, "vm", disks, 2, &err), -EEXIST);
        assert_int_equal(lease_find(probe.store, "vm", &l, &err), 0);
        assert_true(l.epoch == 3 && l.host == 2);
        assert_true(gone("instances/vm/vm.e0.h0"));
        probe_fail("rename", -EEXIST);
        assert_int_equal(lease_create(probe.store, "ab", disks, 2, &err), -EEXIST);
        assert_non_null(strstr(err.text, "disks already"));
        assert_int_equal(probe_names("tmp"), 0);
}

static void a_claim_is_judged_by_both_names(void **state)
{
        const struct lease one = {1, 4};
        struct lease got = {};

        assert_int_equal(lease_create(probe.store, "vm", disks, 2, &err), 0);
        probe_fail("rename", -EACCES);
        assert_int_equal(lease_claim(probe.store, "vm", &nobody, 4, false, &got, &err), -EACCES);
        assert_int_equal(got.epoch, 0);
        probe_fail("rename", -ETIMEDOUT); /* the old name is there still */
        assert_int_equal(lease_claim(probe.store, "vm", &nobody, 4, true, &got, &err), -ETIMEDOUT);
        probe_fail("sync", -EIO);
        assert_int_equal(lease_claim(probe.store, "vm", &nobody, 4, false, &got, &err), -EIO);
        assert_int_equal(lease_claim(probe.store, "vm", &nobody, 4, false, &got, &err), -ESTALE);
        assert_int_equal(lease_claim(probe.store, "vm", &nobody, 4, true, &got, &err), 0);
        assert_true(got.epoch == 1 && got.host == 4);
        assert_int_equal(lease_claim(probe.store, "vm", &nobody, 5, true, &got, &err), -ESTALE);
        probe_fail("rename", -ETIMEDOUT); /* neither name: another has won */
        assert_int_equal(lease_claim(probe.store, "vm", &nobody, 5, false, &got, &err), -ESTALE);
        probe_fail("rename", -EEXIST);
        assert_int_equal(lease_claim(probe.store, "vm", &one, 5, false, &got, &err), -ESTALE);
}

static void a_removal_ends_with_no_name(void **state)
{
        const struct lease one = {1, 4};
        struct lease l = {};

        assert_int_equal(lease_remove(probe.store, "vm", &nobody, disks, 2, &err), 0); /* never any */
        assert_int_equal(lease_create(probe.store, "vm", disks, 2, &err), 0);
        probe_fail("rename", -EIO);
        assert_int_equal(lease_remove(probe.store, "vm", &nobody, disks, 2, &err), -EIO);
        assert_int_equal(lease_remove(probe.store, "vm", &one, disks, 2, &err), -ESTALE);
        assert_int_equal(lease_find(probe.store, "vm", &l, &err), 0);
        /* the rest of disks of the same name, removed before and only in part */
        assert_int_equal(probe_shell("mkdir tmp/removed-vm.e0.h0 && touch tmp/removed-vm.e0.h0/x"), 0);
        assert_int_equal(lease_remove(probe.store, "vm", &nobody, disks, 2, &err), 0);
        assert_int_equal(probe_names("tmp"), 0);
        /* what a creation that was given up left beside mine goes, and another's stays */
        assert_int_equal(lease_create(probe.store, "vm", disks, 2, &err), 0);
        assert_int_equal(lease_claim(probe.store, "vm", &nobody, 4, false, &l, &err), 0);
        assert_int_equal(
            probe_shell("mkdir instances/vm/vm.e0.h0 tmp/removed-vm.e1.h4 && touch tmp/removed-vm.e1.h4/x"),
            0);
        assert_int_equal(lease_remove(probe.store, "vm", &one, disks, 2, &err), 0);
        assert_int_equal(probe_names("instances/vm"), 0);
        assert_int_equal(probe_shell("mkdir instances/vm/vm.e1.h4 instances/vm/vm.e2.h5"), 0);
        assert_int_equal(lease_remove(probe.store, "vm", &one, disks, 2, &err), -ESTALE);
        assert_false(gone("instances/vm/vm.e2.h5"));
        probe_fail("sync", -EIO);
        assert_int_equal(lease_remove(probe.store, "vm", &(struct lease){2, 5}, disks, 2, &err), -EIO);
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, probe_begin, probe_end)
        const struct CMUnitTest tests[] = {
            test(folders_have_their_modes),
            test(a_new_folder_is_durable_in_its_parent),
            test(a_tree_is_removed_whole),
            test(a_removal_is_tried_three_times),
            test(a_small_file_is_read_whole),
            test(a_sweep_does_without_room_only),
            test(room_is_kept_for_records),
            test(new_disks_are_made_apart_and_then_named),
            test(disks_that_cannot_be_made_leave_nothing),
            test(a_name_without_an_answer_is_settled),
            test(of_two_makers_the_later_gives_way),
            test(a_claim_is_judged_by_both_names),
            test(a_removal_ends_with_no_name),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
