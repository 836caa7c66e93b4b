/* SPDX-License-Identifier: Apache-2.0 */
/* What a fence leaves on Ceph's blocklist, and how it goes; as test-rbd.c, against a real cluster. */
#include "tests/store/rbd-fixture.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

/* Whether Ceph refuses that client, as the monitors have it. */
static bool is_listed(const struct fixture *f, const char *address)
{
        _cleanup_(freep) char *text = NULL;

        assert_int_equal(pool_ask(f->client->cluster, "osd blocklist ls", "", &text), 0);
        return strstr(text, address) != NULL;
}

struct found {
        struct fenced_client client[4];
        size_t n;
};

static int find(void *arg, const struct fenced_client *c)
{
        struct found *found = arg;

        assert_true(found->n < 4);
        found->client[found->n++] = *c;
        return 0;
}

static struct found fenced(const struct fixture *f)
{
        struct found found = {0};

        ok(lease_fenced(f->b, f->instance, find, &found, err));
        return found;
}

/* Host 2 claims and fences: the usual end of a host 1 that is taken for dead. */
static void take_over(struct fixture *f, struct lease *lease)
{
        struct start b;

        ok(lease_claim(f->b, f->instance, lease, 2, false, lease, err));
        start_init(&b, f->instance, lease->epoch, NULL, NULL, 0);
        ok(lease_fence(f->b, f->instance, lease, &b, f->disks, 2, err));
}

/* An administrator's own command. */
static void forget_entry(const struct fixture *f, const char *address)
{
        _cleanup_(freep) char *cmd = str_printf("{\"prefix\": \"osd blocklist\", \"blocklistop\": \"rm\", "
                                                "\"addr\": \"%s\"}",
                                                address);

        command_as_admin(cmd);
}

static void test_a_fenced_client_is_kept_and_lifted_only_when_asked(void **state)
{
        struct fixture *f = *state;
        struct store *host = open_as("wherry-host", OTHER_ADDRESS);
        struct machine self;
        struct start a;
        struct lease lease;
        struct found found;
        struct qemu *w;

        machine_self(&self);
        w = run_on_a(f, &lease, &a);
        assert_int_equal(fenced(f).n, 0);
        take_over(f, &lease);
        found = fenced(f);
        assert_int_equal(found.n, 1);
        assert_string_equal(found.client[0].start, a.id);
        assert_int_equal(found.client[0].host, 1);
        assert_int_equal(found.client[0].epoch, 1);
        assert_string_equal(found.client[0].ran_on.boot, self.boot);
        assert_string_equal(found.client[0].ran_on.view, self.view);
        if (self.board[0])
                assert_string_equal(found.client[0].ran_on.board, self.board);
        assert_true(is_listed(f, found.client[0].address));
        assert_int_equal(qemu_write(w, 0x22, 0), -EACCES);

        /* A second fence has nobody to put on the list: it would have to wait for the monitors. */
        forget_entry(f, found.client[0].address);
        take_over(f, &lease);
        assert_false(is_listed(f, found.client[0].address));
        assert_int_equal(fenced(f).n, 1);
        qemu_kill(w);

        /* Lifted though not listed: as after a crash between the two steps. And repeated. */
        ok(lease_lift(host, f->instance, &found.client[0], err));
        assert_int_equal(fenced(f).n, 0);
        ok(lease_lift(host, f->instance, &found.client[0], err));
        store_close(host);
}

static void test_lifting_takes_that_client_off_the_list_and_no_other(void **state)
{
        struct fixture *f = *state;
        struct store *host = open_as("wherry-host", OTHER_ADDRESS);
        struct start a, again;
        struct lease lease;
        struct found found;
        struct fenced_client other;
        struct qemu *first, *second;

        first = run_on_a(f, &lease, &a);
        ok(lease_claim(f->a, f->instance, &lease, 1, false, &lease, err));
        start_init(&again, f->instance, lease.epoch, NULL, NULL, 0);
        ok(lease_fence(f->a, f->instance, &lease, &again, f->disks, 2, err));
        second = qemu_start(f, &lease, &again, 0);
        ok(lease_gate(f->a, f->instance, &lease, &again, f->disks, 2, err));
        /* The first one's watch may still be there: it is not taken for the second one's client. */
        assert_int_equal(recorded(f), 1);
        take_over(f, &lease);
        found = fenced(f);
        assert_int_equal(found.n, 2);
        /* One that is noted otherwise is somebody else's proof. */
        other = found.client[0];
        other.host = 3;
        ok(lease_lift(host, f->instance, &other, err));
        other = found.client[0];
        uuid_random(other.start);
        ok(lease_lift(host, f->instance, &other, err));
        assert_int_equal(fenced(f).n, 2);
        assert_true(is_listed(f, found.client[0].address));
        assert_true(is_listed(f, found.client[1].address));
        qemu_kill(first);
        qemu_kill(second);
        ok(lease_lift(host, f->instance, &found.client[0], err));
        assert_false(is_listed(f, found.client[0].address));
        assert_true(is_listed(f, found.client[1].address));
        assert_int_equal(fenced(f).n, 1);
        assert_string_equal(fenced(f).client[0].address, found.client[1].address);
        /* A raise, a gate and a fence go on as ever beside what is left. */
        ok(lease_claim(f->a, f->instance, &lease, 1, false, &lease, err));
        start_init(&again, f->instance, lease.epoch, NULL, NULL, 0);
        ok(lease_fence(f->a, f->instance, &lease, &again, f->disks, 2, err));
        second = qemu_start(f, &lease, &again, 0);
        ok(lease_gate(f->a, f->instance, &lease, &again, f->disks, 2, err));
        assert_int_equal(qemu_write(second, 0x44, 0), 0);
        qemu_close(second);
        store_close(host);
}

static void test_a_user_without_the_right_lifts_nothing(void **state)
{
        struct fixture *f = *state;
        struct start a;
        struct lease lease;
        struct found found;
        struct qemu *w = run_on_a(f, &lease, &a);

        take_over(f, &lease);
        qemu_kill(w);
        found = fenced(f);
        assert_int_equal(found.n, 1);
        fails(-EPERM, lease_lift(f->b, f->instance, &found.client[0], err));
        assert_true(is_listed(f, found.client[0].address));
        assert_int_equal(fenced(f).n, 1);
}

/* What an earlier version registered says nothing of where it runs: fenced as ever, and never lifted. */
static void test_a_client_of_an_earlier_version_is_fenced_for_good(void **state)
{
        struct fixture *f = *state;
        _cleanup_(gate_done) struct gate gate = {0};
        _cleanup_(pool_write_op_donep) rados_write_op_t op = rados_create_write_op();
        char oid[POOL_NAME_MAX], key[128], val[80];
        const char *keys[] = {key}, *vals[] = {val};
        struct start a;
        struct lease lease;
        size_t n_key, n_val;
        struct qemu *w = run_on_a(f, &lease, &a);

        ok(gate_read(f->io, f->instance, &gate, err));
        assert_int_equal(gate.n_clients, 1);
        assert_int_equal(gate.clients[0].host, 1);
        gate_object(f->instance, oid);
        n_key = (size_t)snprintf(key, sizeof key, "client.%s", gate.clients[0].address);
        n_val = (size_t)snprintf(val, sizeof val, "%016llx %s -", 1ULL, a.id);
        rados_write_op_omap_set2(op, keys, vals, &n_key, &n_val, 1);
        assert_int_equal(rados_write_op_operate(op, f->io, oid, NULL, 0), 0);
        take_over(f, &lease);
        assert_int_equal(qemu_write(w, 0x22, 0), -EACCES);
        assert_true(is_listed(f, gate.clients[0].address));
        assert_int_equal(recorded(f), 0);
        assert_int_equal(fenced(f).n, 0);
        qemu_kill(w);
}

/* One that comes later, when the QEMU goes on after a migration that failed, is not that QEMU. */
static void test_a_tool_that_comes_later_is_not_taken_for_the_qemu(void **state)
{
        struct fixture *f = *state;
        struct start a;
        struct lease lease;
        struct found found;
        struct qemu *tool, *w = run_on_a(f, &lease, &a);

        tool = qemu_start(f, &lease, &a, 0);
        ok(lease_claim(f->a, f->instance, &lease, 1, false, &lease, err));
        ok(lease_fence(f->a, f->instance, &lease, &a, f->disks, 2, err));
        ok(lease_gate(f->a, f->instance, &lease, &a, f->disks, 2, err));
        assert_int_equal(recorded(f), 2);
        take_over(f, &lease);
        assert_int_equal(qemu_write(tool, 0x22, 0), -EACCES);
        assert_int_equal(qemu_write(w, 0x22, 0), -EACCES);
        found = fenced(f);
        assert_int_equal(found.n, 1);
        assert_int_equal(found.client[0].epoch, 1);
        qemu_kill(w);
        qemu_kill(tool);
}

/* Two have the disk open on this host and only one of them is the QEMU that was let run: nobody can say
 * which, so the end of that QEMU will prove nothing about either. */
static void test_where_several_have_the_disk_open_nothing_is_lifted(void **state)
{
        struct fixture *f = *state;
        struct start a;
        struct lease lease = {0};
        struct qemu *tool, *w;

        ok(lease_create(f->a, f->instance, f->disks, 2, err));
        ok(lease_claim(f->a, f->instance, &lease, 1, false, &lease, err));
        start_init(&a, f->instance, lease.epoch, NULL, NULL, 0);
        ok(lease_fence(f->a, f->instance, &lease, &a, f->disks, 2, err));
        tool = qemu_start(f, &lease, &a, 0);
        w = qemu_start(f, &lease, &a, 0);
        ok(lease_gate(f->a, f->instance, &lease, &a, f->disks, 2, err));
        assert_int_equal(recorded(f), 2);
        take_over(f, &lease);
        assert_int_equal(qemu_write(tool, 0x22, 0), -EACCES);
        assert_int_equal(qemu_write(w, 0x22, 0), -EACCES);
        assert_int_equal(recorded(f), 0);
        assert_int_equal(fenced(f).n, 0);
        qemu_kill(w);
        qemu_kill(tool);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
            with_fixture(test_a_fenced_client_is_kept_and_lifted_only_when_asked),
            with_fixture(test_lifting_takes_that_client_off_the_list_and_no_other),
            with_fixture(test_a_user_without_the_right_lifts_nothing),
            with_fixture(test_a_client_of_an_earlier_version_is_fenced_for_good),
            with_fixture(test_a_tool_that_comes_later_is_not_taken_for_the_qemu),
            with_fixture(test_where_several_have_the_disk_open_nothing_is_lifted),
        };

        signal(SIGPIPE, SIG_IGN);
        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
