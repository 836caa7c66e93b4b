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
#include "tests/unit/rados-memory.h"

/* Making and removing an instance's disks on RBD: whole or not at all, by one maker. */
#define VM "vm"
#define FIRST VM ".e0.h0"
#define GATE "/gate." VM

static const struct disk_spec disks[] = {
    {.name = "disk0", .image = "gold", .size = 4 << 20},
    {.name = "disk1", .size = 2 << 20},
    {.name = "seed", .content = "seed's content", .n_content = 14},
};

static int setup(void **state)
{
        int r = memory_setup(state);

        memory_add("golden.gold.1", true);
        memory_set("/golden", "gold", "1048576 golden.gold.1");
        return r;
}

static int create(struct store *s)
{
        struct err err = {0};

        return lease_create(s, VM, disks, 3, &err);
}

static bool is_made(void)
{
        return memory_find(FIRST) || memory_find(VM ".disk1") || memory_find(VM ".seed");
}

static void all_disks_are_made_and_the_gate_says_so(void **state)
{
        assert_int_equal(create(*state), 0);
        assert_true(memory_find(FIRST)->size == 4 << 20);
        assert_string_equal(memory_find(FIRST)->parent, "image-1");
        assert_true(memory_find(VM ".disk1")->size == 2 << 20);
        assert_true(memory_find(VM ".seed")->size == 512);
        assert_memory_equal(memory_find(VM ".seed")->data, "seed's content", 15);
        assert_string_equal(memory_get(GATE, "epoch"), "0000000000000000");
        assert_string_equal(memory_get(GATE, "size.disk0"), "4194304");
        assert_string_equal(memory_get(GATE, "ro.seed"), "1");
        assert_null(memory_get(GATE, "ro.disk0"));
        assert_null(memory_get(GATE, "size.disk1"));
        assert_null(memory_get(GATE, "making"));
        assert_int_equal(memory.now_ms, 0); /* nobody was waited for */
        assert_int_equal(create(*state), -EEXIST);
        assert_int_equal(memory.now_ms, 0);
}

static void without_its_image_nothing_is_made(void **state)
{
        memory_drop("/golden");
        assert_int_equal(create(*state), -ENOENT);
        assert_false(is_made());
        assert_false(memory_exists(GATE));
}

/* A disk that cannot be made takes the others with it, and the note of who made them. */
static void a_failure_is_undone(void **state)
{
        memory_fail("make", VM ".disk1", -ENOSPC, 0);
        assert_int_equal(create(*state), -ENOSPC);
        assert_false(is_made());
        assert_false(memory_exists(GATE));
        memory_fail("make", FIRST, -ENOSPC, 0);
        assert_int_equal(create(*state), -ENOSPC);
        assert_false(is_made());
        memory_fail("operate", "gate.", -ENOSPC, 0); /* the last step */
        assert_int_equal(create(*state), -ENOSPC);
        assert_false(is_made());
        assert_int_equal(create(*state), 0);
}

/* What may have been made after all stays. */
static void without_an_answer_nothing_is_undone(void **state)
{
        memory_fail("operate", "gate.", -ETIMEDOUT, 0); /* not done, and it may be yet */
        assert_int_equal(create(*state), -ETIMEDOUT);
        assert_non_null(memory_find(FIRST));
        assert_false(memory_exists(GATE));
        memory_clear();
        memory_add("golden.gold.1", true);
        memory_set("/golden", "gold", "1048576 golden.gold.1");
        memory_fail("operate", "gate.", ETIMEDOUT, 0);
        assert_int_equal(create(*state), -ETIMEDOUT);
        assert_non_null(memory_find(FIRST));
        assert_non_null(memory_get(GATE, "epoch"));
}

/* The gate is there by now, so what stands is another's. */
static int took_over(const char *call, const char *object)
{
        if (streq(call, "operate") && strncmp(object, "gate.", 5) == 0) {
                memory.hook = NULL;
                memory_set(GATE, "making", "ffffffffffffffff");
        }
        return 0;
}

static void who_was_replaced_leaves_all_as_it_is(void **state)
{
        memory.hook = took_over;
        assert_int_equal(create(*state), -EEXIST);
        assert_non_null(memory_find(FIRST));
        assert_string_equal(memory_get(GATE, "making"), "ffffffffffffffff");
        assert_null(memory_get(GATE, "epoch"));
}

static int replaced_then_failed(const char *call, const char *object)
{
        if (streq(call, "make") && streq(object, FIRST)) {
                memory_set(GATE, "epoch", "0000000000000000");
                memory_add(FIRST, false);
                return -ENOSPC;
        }
        return 0;
}

static void a_failure_undoes_nothing_of_anothers(void **state)
{
        memory.hook = replaced_then_failed;
        assert_int_equal(create(*state), -ENOSPC);
        memory.hook = NULL;
        assert_non_null(memory_find(FIRST));
        assert_string_equal(memory_get(GATE, "epoch"), "0000000000000000");
}

static void what_a_dead_maker_left_is_made_anew(void **state)
{
        memory_add(FIRST, false);
        memory_add(VM ".disk1", false);
        assert_int_equal(create(*state), 0);
        assert_in_range(memory.now_ms, 4000, 4100);
        assert_true(memory_find(FIRST)->size == 4 << 20);
        assert_string_equal(memory_get(GATE, "epoch"), "0000000000000000");
        assert_null(memory_get(GATE, "making"));
        assert_non_null(memory_find(VM ".seed"));
}

static void a_maker_who_said_so_is_replaced_after_the_time(void **state)
{
        memory_add(FIRST, false);
        memory_set(GATE, "making", "0123456789abcdef");
        assert_int_equal(create(*state), 0);
        assert_in_range(memory.now_ms, 4000, 4100);
        assert_null(memory_get(GATE, "making"));
}

static int completes(const char *call, const char *object)
{
        if (streq(call, "sleep") && memory.now_ms >= 1000)
                memory_set(GATE, "epoch", "0000000000000000");
        return 0;
}

static void a_slow_maker_is_waited_for(void **state)
{
        struct memory_image *i = memory_add(FIRST, false);

        memory.hook = completes;
        assert_int_equal(create(*state), -EEXIST);
        assert_in_range(memory.now_ms, 1000, 1100);
        assert_true(i->there && memory_find(FIRST) == i);
}

static int gives_up(const char *call, const char *object)
{
        if (streq(call, "sleep") && memory.now_ms >= 1000)
                memory_drop(GATE);
        return 0;
}

static void a_maker_who_undoes_it_is_not_waited_for(void **state)
{
        memory_add(FIRST, false);
        memory_set(GATE, "making", "0123456789abcdef");
        memory.hook = gives_up;
        assert_int_equal(create(*state), 0);
        assert_in_range(memory.now_ms, 1000, 1100);
}

static int another_waiter(const char *call, const char *object)
{
        if (streq(call, "sleep") && memory.now_ms >= 1000)
                memory_set(GATE, "making", "ffffffffffffffff");
        return 0;
}

static void of_two_who_wait_one_takes_over(void **state)
{
        struct memory_image *i = memory_add(FIRST, false);

        memory_set(GATE, "making", "0123456789abcdef");
        memory.hook = another_waiter;
        assert_int_equal(create(*state), -EEXIST);
        assert_in_range(memory.now_ms, 1000, 1100);
        assert_true(i->there);
        assert_string_equal(memory_get(GATE, "making"), "ffffffffffffffff");
}

static int first_at_the_gate(const char *call, const char *object)
{
        if (streq(call, "operate") && streq(object, "gate." VM)) {
                memory.hook = NULL;
                memory_set(GATE, "making", "ffffffffffffffff");
        }
        return 0;
}

static void who_is_second_at_the_gate_removes_nothing(void **state)
{
        struct memory_image *i = memory_add(FIRST, false);

        memory.hook = first_at_the_gate;
        assert_int_equal(create(*state), -EEXIST);
        assert_true(i->there);
        assert_string_equal(memory_get(GATE, "making"), "ffffffffffffffff");
}

/* The other is only slow: his image is open, so it cannot be removed yet. */
static void in_anothers_way_it_is_tried_for_a_time(void **state)
{
        memory_add(FIRST, false);
        memory_watch(FIRST, "10.0.0.1:0/5");
        assert_int_equal(create(*state), -EBUSY);
        assert_in_range(memory.now_ms, 8000, 8200);
        assert_non_null(memory_find(FIRST));
}

static int ends_his_watch(const char *call, const char *object)
{
        if (streq(call, "sleep") && memory.now_ms >= 6000)
                memory_find(FIRST)->n_watchers = 0;
        return 0;
}

static void once_he_is_through_they_are_made(void **state)
{
        memory_add(FIRST, false);
        memory_watch(FIRST, "10.0.0.1:0/5");
        memory.hook = ends_his_watch;
        assert_int_equal(create(*state), 0);
        assert_in_range(memory.now_ms, 6000, 6100);
}

static int taken_from_us(const char *call, const char *object)
{
        if (streq(call, "sleep") && memory.now_ms > 5000)
                memory_set(GATE, "making", "ffffffffffffffff");
        return 0;
}

static void who_is_replaced_while_trying_stops(void **state)
{
        memory_add(FIRST, false);
        memory_watch(FIRST, "10.0.0.1:0/5");
        memory.hook = taken_from_us;
        assert_int_equal(create(*state), -EEXIST);
        assert_in_range(memory.now_ms, 5000, 5200);
        assert_string_equal(memory_get(GATE, "making"), "ffffffffffffffff");
}

static void a_name_without_an_image_is_in_nobodys_way(void **state)
{
        struct memory_image *i = memory_add(FIRST, false);

        i->there = false; /* its maker died before the directory had it */
        memory_drop("/rbd_directory");
        assert_int_equal(create(*state), 0);
        assert_non_null(memory_find(FIRST));
}

static void claimed_disks_are_not_made_again(void **state)
{
        memory_add(VM ".e3.h1", false);
        assert_int_equal(create(*state), -EEXIST);
        assert_int_equal(memory.now_ms, 0);
        assert_null(memory_find(FIRST));
}

/* --- removal --- */

static int take_away(struct store *s, uint64_t epoch, unsigned host)
{
        const struct lease mine = {epoch, host};
        struct err err = {0};

        return lease_remove(s, VM, &mine, disks, 3, &err);
}

static void only_the_owner_removes(void **state)
{
        assert_int_equal(create(*state), 0);
        assert_int_equal(take_away(*state, 1, 1), -ESTALE);
        assert_int_equal(take_away(*state, 0, 1), -ESTALE);
        assert_non_null(memory_find(FIRST));
        memory_add("vm2.e0.h0", false);
        memory.log[0] = '\0';
        assert_int_equal(take_away(*state, 0, 0), 0);
        assert_string_equal(memory.log, "gone:vm.disk1 gone:vm.seed gone:vm.e0.h0 remove:gate.vm ");
        assert_non_null(memory_find("vm2.e0.h0"));
        assert_non_null(memory_find("golden.gold.1"));
        assert_int_equal(take_away(*state, 0, 0), 0); /* again */
}

#define CLIENT "0000000000000001 aaaaaaaa-0000-4000-8000-000000000001 - 1 boot view board"

static void who_may_write_is_stopped_before_a_removal(void **state)
{
        assert_int_equal(create(*state), 0);
        memory_set(GATE, "client.10.0.0.1:0/7", CLIENT);
        memory_set(GATE, "fenced.10.0.0.3:0/7", CLIENT);
        memory_watch(VM ".seed", "10.0.0.4:0/9");
        memory_watch(VM ".disk1", "10.0.0.2:0/1"); /* this hostd itself */
        memory_fail("map", "", -ETIMEDOUT, 0);
        assert_int_equal(take_away(*state, 0, 0), -ETIMEDOUT);
        assert_non_null(memory_find(FIRST));
        memory_find(VM ".disk1")->n_watchers = 0;
        memory.log[0] = '\0';
        assert_int_equal(take_away(*state, 0, 0), 0);
        assert_non_null(strstr(memory.log, "blocklist:10.0.0.1:0/7:86400 "));
        assert_non_null(strstr(memory.log, "blocklist:10.0.0.3:0/7:86400 "));
        assert_non_null(strstr(memory.log, "blocklist:10.0.0.4:0/9:86400 "));
        assert_null(strstr(memory.log, "blocklist:10.0.0.2"));
        assert_true(strstr(memory.log, "map ") < strstr(memory.log, "gone:"));
        assert_true(strstr(memory.log, "map ") > strstr(memory.log, "10.0.0.4"));
}

static void what_cannot_be_removed_keeps_the_name(void **state)
{
        assert_int_equal(create(*state), 0);
        memory_fail("remove_image", VM ".disk1", -EIO, 0);
        assert_int_equal(take_away(*state, 0, 0), -EIO);
        assert_non_null(memory_find(FIRST));
        assert_non_null(memory_get(GATE, "epoch"));
        memory_fail("remove", "gate.", -EIO, 0);
        assert_int_equal(take_away(*state, 0, 0), -EIO);
        memory_fail("read", "gate.", -EIO, 0);
        memory_add(FIRST, false);
        assert_int_equal(take_away(*state, 0, 0), -EIO);
        assert_non_null(memory_find(FIRST));
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, setup, memory_teardown)
        const struct CMUnitTest tests[] = {
            test(all_disks_are_made_and_the_gate_says_so),
            test(without_its_image_nothing_is_made),
            test(a_failure_is_undone),
            test(without_an_answer_nothing_is_undone),
            test(who_was_replaced_leaves_all_as_it_is),
            test(a_failure_undoes_nothing_of_anothers),
            test(what_a_dead_maker_left_is_made_anew),
            test(a_maker_who_said_so_is_replaced_after_the_time),
            test(a_slow_maker_is_waited_for),
            test(a_maker_who_undoes_it_is_not_waited_for),
            test(of_two_who_wait_one_takes_over),
            test(who_is_second_at_the_gate_removes_nothing),
            test(in_anothers_way_it_is_tried_for_a_time),
            test(once_he_is_through_they_are_made),
            test(who_is_replaced_while_trying_stops),
            test(a_name_without_an_image_is_in_nobodys_way),
            test(claimed_disks_are_not_made_again),
            test(only_the_owner_removes),
            test(who_may_write_is_stopped_before_a_removal),
            test(what_cannot_be_removed_keeps_the_name),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
