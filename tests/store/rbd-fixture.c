/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/rbd-fixture.h"

#include <stdio.h>

struct store *open_as(const char *user, const char *address)
{
        const struct store_options options = {
            .ceph_conf = getenv("STORE_CEPH_CONF"), .ceph_user = user, .address = address};
        const char *url = getenv("STORE_URL");
        struct store *s = NULL;

        ok(store_open(url ? url : "rbd:wherry", &options, &s, err));
        return s;
}

int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof *f);
        struct volume *v = NULL;

        f->a = open_as("wherry", NULL);
        f->b = open_as("wherry", OTHER_ADDRESS);
        ok(store_prepare(f->a, err));
        ok(pool_io(f->a, &f->client, &f->io, err));
        uuid_random(f->image);
        uuid_random(f->instance);
        ok(volume_create(f->a, f->image, 8 * MIB, &v, err));
        memset(f->block, 0x5a, sizeof f->block);
        memset(f->seed, 0x6b, sizeof f->seed);
        ok(volume_write(v, f->block, sizeof f->block, 4096, err));
        ok(volume_seal(v, err));
        volume_close(v);
        f->disks[0] = (struct disk_spec){.name = "disk0", .image = f->image, .size = 16 * MIB};
        f->disks[1] = (struct disk_spec){.name = "seed", .content = f->seed, .n_content = sizeof f->seed};
        *state = f;
        return 0;
}

int teardown(void **state)
{
        struct fixture *f = *state;
        struct lease l;

        if (lease_find(f->a, f->instance, &l, NULL) == 0)
                ok(lease_remove(f->a, f->instance, &l, f->disks, 2, err));
        ok(volume_remove(f->a, f->image, err));
        pool_io_donep(&f->io);
        pool_client_putp(&f->client);
        store_close(f->a);
        store_close(f->b);
        free(f);
        return 0;
}

struct qemu *qemu_start(struct fixture *f, const struct lease *lease, const struct start *start, size_t disk)
{
        _cleanup_(freep) char *why = NULL;
        struct attach at[2] = {0};
        struct qemu *q;

        ok(lease_attach(f->a, f->instance, lease, start, f->disks, 2, at, err));
        q = qemu_open(&at[disk], &why);
        if (!q)
                fail_msg("QEMU cannot open %s: %s", at[disk].path, why);
        return q;
}

void command_as_admin(const char *command)
{
        rados_t admin;

        assert_int_equal(rados_create(&admin, "admin"), 0);
        assert_int_equal(rados_conf_read_file(admin, getenv("STORE_CEPH_CONF")), 0);
        assert_int_equal(rados_connect(admin), 0);
        assert_int_equal(rados_mon_command(admin, &command, 1, "", 0, NULL, NULL, NULL, NULL), 0);
        rados_shutdown(admin);
}

size_t recorded(const struct fixture *f)
{
        _cleanup_(gate_done) struct gate gate = {0};

        ok(gate_read(f->io, f->instance, &gate, err));
        return gate.n_clients;
}

struct qemu *run_on_a(struct fixture *f, struct lease *lease, struct start *start)
{
        struct qemu *q;

        ok(lease_create(f->a, f->instance, f->disks, 2, err));
        *lease = (struct lease){0};
        ok(lease_claim(f->a, f->instance, lease, 1, false, lease, err));
        start_init(start, f->instance, lease->epoch, NULL, NULL, 0);
        ok(lease_fence(f->a, f->instance, lease, start, f->disks, 2, err));
        q = qemu_start(f, lease, start, 0);
        ok(lease_gate(f->a, f->instance, lease, start, f->disks, 2, err));
        assert_int_equal(qemu_write(q, 0x11, 0), 0);
        return q;
}

struct qemu *arrive_from_a(struct fixture *f, const struct lease *on_a, struct start *start)
{
        start_init(start, f->instance, on_a->epoch, "attempt-1", NULL, 0);
        ok(lease_grant(f->a, f->instance, on_a, start, f->disks, 2, err));
        return qemu_start(f, on_a, start, 0);
}
