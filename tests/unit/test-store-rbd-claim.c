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

/* The name of the first image is the lease: found, listed, renamed in steps. And who may write, and is forgotten. */
#define VM "vm"
#define AT(e, h) VM ".e" #e ".h" #h
#define GATE "/gate." VM
#define START "aaaaaaaa-0000-4000-8000-000000000001"
#define OTHER "aaaaaaaa-0000-4000-8000-000000000002"
#define CLIENT(start, disk) "0000000000000002 " start " " disk " 2 boot view board"

static const struct disk_spec disks[] = {{.name = "disk0", .size = 1 << 20},
                                         {.name = "disk1", .size = 2 << 20},
                                         {.name = "seed", .content = "x", .n_content = 1}};

static int claim(struct store *s, uint64_t epoch, unsigned host, unsigned me, bool again, struct lease *ret)
{
        const struct lease from = {epoch, host};
        struct err err = {0};

        return lease_claim(s, VM, &from, me, again, ret, &err);
}

static int setup(void **state)
{
        int r = memory_setup(state);

        memory_add(AT(2, 2), false);
        memory_set(GATE, "epoch", "0000000000000002 " START);
        memory.log[0] = '\0';
        return r;
}

static void a_claim_writes_the_new_name_and_removes_the_old(void **state)
{
        struct lease l = {0};

        assert_int_equal(claim(*state, 2, 2, 3, false, &l), 0);
        assert_true(l.epoch == 3 && l.host == 3);
        assert_string_equal(memory.log, "write:rbd_id.vm.e3.h3 rename:vm.e3.h3 remove:rbd_id.vm.e2.h2 ");
        assert_null(memory_find(AT(2, 2)));
        assert_non_null(memory_find(AT(3, 3)));
        assert_int_equal(claim(*state, 2, 2, 4, false, &l), -ESTALE);
        assert_int_equal(claim(*state, 3, 4, 4, false, &l), -ESTALE);
        assert_false(memory_exists("/rbd_id.vm.e3.h4"));
}

/* The directory decides; a name's own object that was not written is mended. */
static void the_directory_decides(void **state)
{
        struct lease l = {0};

        memory_fail("operate", "rbd_id.vm.e3", -EIO, 0);
        assert_int_equal(claim(*state, 2, 2, 3, false, &l), 0);
        assert_int_equal(l.epoch, 3);
        assert_true(memory_exists("/rbd_id.vm.e3.h3"));
        memory_fail("operate", RBD_DIRECTORY, -EIO, 0);
        l.epoch = 0;
        assert_int_equal(claim(*state, 3, 3, 3, false, &l), -EIO);
        assert_int_equal(l.epoch, 0);
        memory_set("/" RBD_DIRECTORY, "name_vm.e4.h3", "xxxximage-9"); /* it cannot be renamed to that */
        assert_int_equal(claim(*state, 3, 3, 3, false, &l), -ESTALE);
}

static void a_lost_answer_is_found_out(void **state)
{
        struct lease l = {0};

        memory_fail("operate", RBD_DIRECTORY, ETIMEDOUT, 0); /* done */
        assert_int_equal(claim(*state, 2, 2, 3, false, &l), 0);
        assert_int_equal(l.epoch, 3);
        memory_fail("operate", RBD_DIRECTORY, -ETIMEDOUT, 0); /* not done */
        assert_int_equal(claim(*state, 3, 3, 3, false, &l), -ETIMEDOUT);
        memory_fail("operate", RBD_DIRECTORY, ENOENT, 0); /* a twin's, with my number */
        assert_int_equal(claim(*state, 3, 3, 3, false, &l), -ESTALE);
        assert_int_equal(claim(*state, 3, 3, 3, true, &l), 0); /* my own, of a hostd that is dead */
        assert_int_equal(l.epoch, 4);
        assert_true(memory_exists("/rbd_id.vm.e4.h3"));
}

static int twin_is_first(const char *call, const char *object)
{
        struct memory_image *i = memory_find(AT(2, 2));

        if (streq(call, "operate") && streq(object, RBD_DIRECTORY)) {
                memory.hook = NULL;
                memory_drop("/" RBD_DIRECTORY);
                memory_add(AT(3, 9), false);
                strcpy(memory.image[1].id, i->id);
                i->there = false;
        }
        return 0;
}

static void who_has_lost_takes_his_name_away(void **state)
{
        struct lease l = {0};

        memory.hook = twin_is_first;
        assert_int_equal(claim(*state, 2, 2, 3, false, &l), -ESTALE);
        assert_false(memory_exists("/rbd_id.vm.e3.h3"));
        assert_true(memory_exists("/rbd_id.vm.e3.h9"));
}

/* What a crash left of another image: the next epoch is free. */
static void an_occupied_name_is_left_at_once(void **state)
{
        struct lease l = {0};

        memory_set("/rbd_id.vm.e3.h3", "x", "another's");
        assert_int_equal(claim(*state, 2, 2, 3, false, &l), 0);
        assert_int_equal(l.epoch, 4);
        assert_non_null(memory_find(AT(4, 3)));
        for (unsigned i = 5; i < 13; i++) {
                char oid[32];

                snprintf(oid, sizeof(oid), "/rbd_id.vm.e%u.h3", i);
                memory_set(oid, "x", "another's");
        }
        assert_int_equal(claim(*state, 4, 3, 3, false, &l), -EIO); /* eight of them */
        assert_non_null(memory_find(AT(12, 3)));
        assert_int_equal(claim(*state, 12, 3, 3, false, &l), 0);
        assert_int_equal(l.epoch, 13);
}

static void disks_get_their_size_at_the_first_claim(void **state)
{
        struct lease l = {0};

        memory_clear();
        memory_add(AT(0, 0), false);
        memory_add(VM ".disk1", false);
        assert_int_equal(claim(*state, 0, 0, 3, false, &l), -ESTALE); /* not made yet */
        memory_set(GATE, "making", "nonce");
        assert_int_equal(claim(*state, 0, 0, 3, false, &l), -ESTALE);
        memory_set(GATE, "epoch", "0000000000000000");
        memory_set(GATE, "size.disk0", "3145728");
        memory_set(GATE, "size.disk1", "2097152");
        memory_fail("set_size", "rbd_header.image-2", -EIO, 0);
        assert_int_equal(claim(*state, 0, 0, 3, false, &l), -EIO);
        assert_non_null(memory_find(AT(0, 0)));
        memory.log[0] = '\0';
        assert_int_equal(claim(*state, 0, 0, 3, false, &l), 0);
        assert_true(memory_find(AT(1, 3))->size == 3145728 && memory_find(VM ".disk1")->size == 2097152);
        assert_true(strstr(memory.log, "set_size") < strstr(memory.log, "rename"));
        memory_find(AT(1, 3))->size = 9 << 20; /* a later one leaves them alone, and none is made smaller */
        assert_int_equal(claim(*state, 1, 3, 3, false, &l), 0);
        assert_true(memory_find(AT(2, 3))->size == 9 << 20);
}

static int find(struct store *s, struct lease *ret)
{
        struct err err = {0};

        return lease_find(s, VM, ret, &err);
}

static int lists(void *arg, const char *instance, const struct lease *l)
{
        char *text = arg;

        snprintf(text + strlen(text), 64, "%s:%u:%u ", instance, (unsigned)l->epoch, l->host);
        return strlen(text) > 40 ? 5 : 0;
}

static void the_newest_name_is_found(void **state)
{
        struct lease l = {0};
        struct err err = {0};
        char text[128] = "";

        memory_add(AT(10, 4), false);
        memory_add("vm2.e20.h1", false);
        memory_add("vm0.e0.h0", false); /* without a gate: being made */
        memory_add(VM ".disk1", false);
        assert_int_equal(find(*state, &l), 0);
        assert_true(l.epoch == 10 && l.host == 4);
        assert_int_equal(lease_list(*state, lists, text, &err), 0);
        assert_string_equal(text, "vm:10:4 vm:2:2 vm2:20:1 ");
        memory_set("/gate.vm0", "epoch", "0000000000000000");
        assert_int_equal(lease_list(*state, lists, text, &err), 5);
        memory.page = 1;
        l.epoch = 0;
        assert_int_equal(find(*state, &l), 0);
        assert_int_equal(l.epoch, 10);
        memory_fail("read", RBD_DIRECTORY, -EIO, 0);
        assert_int_equal(find(*state, &l), -EIO);
        memory_drop("/" RBD_DIRECTORY);
        assert_int_equal(find(*state, &l), -ENOENT);
        memory_add(AT(0, 0), false);
        memory_fail("read", "gate.", -EIO, 0);
        assert_int_equal(find(*state, &l), -EIO);
        memory_drop(GATE);
        assert_int_equal(find(*state, &l), -ENOENT);
}

static void disks_are_attached_by_the_name(void **state)
{
        const struct lease mine = {2, 2}, late = {2, 1};
        struct start start = {.id = START};
        struct attach a[3] = {};
        struct err err = {0};

        memory.answer = "{\"mons\":[{\"public_addrs\":{\"addrvec\":[{\"addr\":\"10.0.0.9:6789\"}]}}]}";
        memory_set(GATE, "ro.disk1", "1");
        assert_int_equal(lease_attach(*state, VM, &mine, &start, disks, 3, a, &err), 0);
        assert_string_equal(a[0].path, "pool/vm.e2.h2");
        assert_string_equal(a[1].path, "pool/vm.disk1");
        assert_string_equal(a[0].server, "10.0.0.9:6789");
        assert_true(a[0].kind == ATTACH_RBD && !a[0].read_only && a[1].read_only && a[2].read_only);
        assert_int_equal(lease_attach(*state, VM, &late, &start, disks, 3, a, &err), -ESTALE);
        assert_int_equal(lease_grant(*state, VM, &mine, &start, disks, 3, &err), 0);
        assert_int_equal(lease_grant(*state, VM, &late, &start, disks, 3, &err), -ESTALE);
}

static void an_ended_start_is_forgotten_once_its_watch_is_gone(void **state)
{
        struct start start = {.id = START};

        memory_add(VM ".disk1", false);
        memory_set(GATE, "client.10.0.0.2:0/7", CLIENT(START, "-"));
        memory_set(GATE, "client.10.0.0.2:0/8", CLIENT(START, "disk1"));
        memory_set(GATE, "client.10.0.0.2:0/9", CLIENT(START, "disk7")); /* there is none */
        memory_set(GATE, "client.10.0.0.3:0/7", CLIENT(OTHER, "-"));
        memory_watch(AT(2, 2), "10.0.0.2:0/7");
        memory_watch(VM ".disk1", "10.0.0.2:0/7"); /* another's */
        start_forget(*state, VM, &start);
        assert_non_null(memory_get(GATE, "client.10.0.0.2:0/7"));
        assert_null(memory_get(GATE, "client.10.0.0.2:0/8"));
        assert_non_null(memory_get(GATE, "client.10.0.0.2:0/9"));
        memory_find(AT(2, 2))->n_watchers = 0;
        memory_fail("watchers", "image-1", -EIO, 0);
        start_forget(*state, VM, &start);
        assert_non_null(memory_get(GATE, "client.10.0.0.2:0/7"));
        start_forget(*state, VM, &start);
        assert_null(memory_get(GATE, "client.10.0.0.2:0/7"));
        assert_null(memory_get(GATE, "fenced.10.0.0.2:0/7"));
        assert_non_null(memory_get(GATE, "client.10.0.0.3:0/7"));
}

static int may_write(struct store *s, uint64_t epoch)
{
        const struct lease mine = {epoch, 2};
        struct start start = {.id = START};
        struct err err = {0};

        return lease_may_write(s, VM, &mine, &start, disks, 1, &err);
}

static void a_start_writes_until_it_is_on_a_list(void **state)
{
        assert_int_equal(may_write(*state, 2), -ENOENT);
        memory_set(GATE, "client.10.0.0.2:0/7", CLIENT(START, "-"));
        memory_set(GATE, "client.10.0.0.3:0/7", CLIENT(OTHER, "-"));
        assert_int_equal(may_write(*state, 2), 0);
        assert_int_equal(may_write(*state, 1), -EACCES);
        memory.answer =
            "[{\"addr\":\"10.0.0.2:0/77\"},{\"addr\":\"110.0.0.2:0/7\"},{\"addr\":\"10.0.0.3:0/7\"}]";
        assert_int_equal(may_write(*state, 2), 0);
        memory.answer = "[{\"addr\":\"10.0.0.2:0/77\"},{\"addr\":\"10.0.0.2:0/7\"}]";
        assert_int_equal(may_write(*state, 2), -EACCES);
        memory.answer = "[{\"addr\":\"v1:10.0.0.2:0/7\"}]";
        assert_int_equal(may_write(*state, 2), -EACCES);
        memory.answer = "10.0.0.2:0/7\"";
        assert_int_equal(may_write(*state, 2), 0);
        memory_fail("command", "", -EIO, 0);
        assert_int_equal(may_write(*state, 2), -EIO);
        memory.answer = NULL;
        memory_set(GATE, "fenced.10.0.0.3:0/9", CLIENT(OTHER, "-"));
        assert_int_equal(may_write(*state, 2), 0);
        memory_set(GATE, "fenced.10.0.0.2:0/9", CLIENT(START, "-"));
        assert_int_equal(may_write(*state, 2), -EACCES);
}

/* Many clients, many pages: none is overlooked by a fence. */
static void a_fence_meets_all_of_many_pages(void **state)
{
        const struct lease mine = {2, 2};
        struct start start = {.id = START};
        struct err err = {0};
        char key[40];

        memory_set(GATE, "epoch", "0000000000000001 " OTHER);
        for (unsigned i = 0; i < 33; i++) {
                snprintf(key, sizeof(key), "client.10.0.0.1:0/%u", 100 + i);
                memory_set(GATE, key, CLIENT(OTHER, "-"));
        }
        memory.page = 4;
        assert_int_equal(lease_fence(*state, VM, &mine, &start, disks, 1, &err), 0);
        assert_int_equal(memory.n_blocked, 33);
        for (unsigned i = 0; i < 33; i++) {
                snprintf(key, sizeof(key), "client.10.0.0.1:0/%u", 100 + i);
                assert_null(memory_get(GATE, key));
        }
        assert_string_equal(memory_get(GATE, "epoch"), "0000000000000002 " START);
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, setup, memory_teardown)
        const struct CMUnitTest tests[] = {
            test(a_claim_writes_the_new_name_and_removes_the_old),
            test(the_directory_decides),
            test(a_lost_answer_is_found_out),
            test(who_has_lost_takes_his_name_away),
            test(an_occupied_name_is_left_at_once),
            test(disks_get_their_size_at_the_first_claim),
            test(the_newest_name_is_found),
            test(disks_are_attached_by_the_name),
            test(an_ended_start_is_forgotten_once_its_watch_is_gone),
            test(a_start_writes_until_it_is_on_a_list),
            test(a_fence_meets_all_of_many_pages),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
