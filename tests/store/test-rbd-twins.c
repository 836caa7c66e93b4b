/* SPDX-License-Identifier: Apache-2.0 */
/* Two hosts with one number, at the gate and in the pool's directory; as test-rbd.c, against a real cluster.
 */
#include "tests/store/rbd-fixture.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

/* Two hosts of one number are at one epoch: whoever raises first has it, and only that one may register. */
static void test_of_two_starts_at_one_epoch_the_second_has_lost(void **state)
{
        struct fixture *f = *state;
        struct start p, q, later;
        struct lease mine = {0};
        struct qemu *w, *late;
        _cleanup_(gate_done) struct gate gate = {0};

        w = run_on_a(f, &mine, &p);
        start_init(&q, f->instance, mine.epoch, NULL, NULL, 0);
        fails(-ESTALE, lease_fence(f->b, f->instance, &mine, &q, f->disks, 2, err));
        late = qemu_start(f, &mine, &q, 0);
        fails(-EACCES, lease_gate(f->a, f->instance, &mine, &q, f->disks, 2, err));
        assert_int_equal(recorded(f), 1);
        assert_int_equal(qemu_write(w, 0x22, 0), 0);
        qemu_close(late);
        /* The same start may repeat both, as after an answer that was lost. */
        ok(lease_fence(f->a, f->instance, &mine, &p, f->disks, 2, err));
        ok(lease_gate(f->a, f->instance, &mine, &p, f->disks, 2, err));
        assert_int_equal(qemu_write(w, 0x23, 0), 0);
        /* A source that runs on raises to its next epoch with the start that it had. */
        ok(lease_commit(f->a, f->instance,
                        &(struct commit_claim){.from = mine, .host = 1, .last = &p, .start = &p}, f->disks,
                        2, &mine, err));
        assert_int_equal(qemu_write(w, 0x24, 0), 0);
        ok(gate_read(f->io, f->instance, &gate, err));
        assert_int_equal(gate.epoch, 2);
        assert_string_equal(gate.start, p.id);
        ok(lease_claim(f->b, f->instance, &mine, 1, false, &mine, err));
        start_init(&later, f->instance, mine.epoch, NULL, NULL, 0);
        ok(lease_fence(f->b, f->instance, &mine, &later, f->disks, 2, err));
        assert_int_equal(qemu_write(w, 0x66, 0), -EACCES);
        qemu_kill(w);
}

static void set_old_epoch(struct fixture *f, const char *epoch)
{
        rados_write_op_t op = rados_create_write_op();
        const char *key = "epoch";
        size_t key_len = strlen(key), len = strlen(epoch);
        char oid[POOL_NAME_MAX];

        gate_object(f->instance, oid);
        rados_write_op_omap_set2(op, &key, &epoch, &key_len, &len, 1);
        assert_int_equal(rados_write_op_operate(op, f->io, oid, NULL, 0), 0);
        rados_release_write_op(op);
}

/* An older version stored no start: an epoch that is nobody's yet is the first start's that comes. */
static void test_a_gate_of_an_older_version_is_the_first_starts(void **state)
{
        struct fixture *f = *state;
        struct start p, q;
        struct lease mine = {0};
        struct qemu *w, *other;
        _cleanup_(gate_done) struct gate gate = {0};

        w = run_on_a(f, &mine, &p);
        /* Its guest runs, is registered, and the host is upgraded. */
        set_old_epoch(f, "0000000000000001");
        start_init(&q, f->instance, mine.epoch, NULL, NULL, 0);
        fails(-ESTALE, lease_fence(f->b, f->instance, &mine, &q, f->disks, 2, err));
        other = qemu_start(f, &mine, &q, 0);
        fails(-EACCES, lease_gate(f->a, f->instance, &mine, &q, f->disks, 2, err));
        qemu_close(other);
        ok(lease_gate(f->a, f->instance, &mine, &p, f->disks, 2, err));
        ok(gate_read(f->io, f->instance, &gate, err));
        assert_string_equal(gate.start, p.id);
        qemu_close(w);
        start_forget(f->a, f->instance, &p);
        assert_int_equal(recorded(f), 0);
        /* It was raised, and nobody has been let run. */
        set_old_epoch(f, "0000000000000001");
        ok(lease_fence(f->a, f->instance, &mine, &q, f->disks, 2, err));
        fails(-ESTALE, lease_fence(f->a, f->instance, &mine, &p, f->disks, 2, err));
        /* And an older version raises what this one has written. */
        ok(lease_claim(f->a, f->instance, &mine, 1, false, &mine, err));
        set_old_epoch(f, "0000000000000002");
        ok(lease_fence(f->a, f->instance, &mine, &p, f->disks, 2, err));
}

/* Both have written the new name's object, and one of them has renamed: the loser leaves it to the winner.
 */
static void test_a_claim_that_is_lost_to_the_same_number_leaves_the_name(void **state)
{
        struct fixture *f = *state;
        struct lease from = {0}, won, lost;
        char old[LEASE_NAME_MAX + 1], new[LEASE_NAME_MAX + 1], oid[POOL_NAME_MAX], id[64];
        struct pool_op later = {0};
        struct start start;
        int n;

        ok(lease_create(f->a, f->instance, f->disks, 2, err));
        lease_name_format(f->instance, &from, old);
        snprintf(oid, sizeof oid, "rbd_id.%s", old);
        n = rados_read(f->io, oid, id, sizeof id - 1, 0);
        assert_true(n > 4);
        id[n] = '\0';
        ok(lease_claim(f->b, f->instance, &from, 1, false, &won, err));
        lease_name_format(f->instance, &won, new);
        /* It had seen the old name before. */
        fails(-ESTALE, lease_claim_image(f->io, f->instance, id + 4, &from, 1, false, &lost, &later, err));
        pool_op_done(&later);
        start_init(&start, f->instance, won.epoch, NULL, NULL, 0);
        qemu_close(qemu_start(f, &won, &start, 0));
        /* Where nobody has it the object goes: else it would be in the way of a later claim. */
        fails(-ESTALE, lease_claim_image(f->io, f->instance, id + 4, &from, 7, false, &lost, &later, err));
        pool_op_done(&later);
        lease_name_format(f->instance, &(struct lease){.epoch = 1, .host = 7}, new);
        snprintf(oid, sizeof oid, "rbd_id.%s", new);
        assert_int_equal(rados_read(f->io, oid, id, sizeof id, 0), -ENOENT);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
            with_fixture(test_of_two_starts_at_one_epoch_the_second_has_lost),
            with_fixture(test_a_gate_of_an_older_version_is_the_first_starts),
            with_fixture(test_a_claim_that_is_lost_to_the_same_number_leaves_the_name),
        };

        signal(SIGPIPE, SIG_IGN);
        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
