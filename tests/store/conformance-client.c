/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/conformance.h"

#include <errno.h>
#include <unistd.h>

#include "imaged/store/rbd-gate.h"

/*
 * The store's own Ceph client on the blocklist, as an administrator does who shuts out a whole host. The
 * call that meets it fails and is not repeated; the next one has a new client; what hangs on the old one
 * ends in order.
 */

/* Shuts out the client that `s` has now. Its address is freed by the caller. */
static char *shut_out(struct store *admin, struct store *s)
{
        _cleanup_(pool_client_putp) struct pool_client *mine = NULL;
        char *address = strdup(pool_of(s)->client->own);
        struct err err = {};

        assert_ok(pool_client_get(admin, &mine, &err));
        assert_int_equal(rados_blocklist_add(mine->cluster, address, 600), 0);
        assert_int_equal(rados_wait_for_latest_osdmap(mine->cluster), 0);
        return address;
}

/* Writes until the OSD has the map, too, and refuses. */
static void expect_refusal(struct store *s, const char *id)
{
        struct err err = {};
        int r = 0;

        for (int i = 0; i < 300 && r == 0; i++) {
                uint64_t version = 0;
                _cleanup_(freep) char *text = NULL;

                r = record_get(s, RECORD_EVENT, id, &text, &version, &err);
                if (r == 0)
                        r = record_put(s, RECORD_EVENT, id, version, "again", NULL, &err);
                if (r == 0)
                        usleep(100000);
        }
        assert_int_equal(r, -EACCES);
        assert_non_null(strstr(err.text, "blocklist"));
}

static void blocklisted_client_is_closed_and_opened_anew(void **state)
{
        struct suite *s = suite_of(state);
        _cleanup_(freep) char *old = NULL, *text = NULL;
        char id[UUID_LEN + 1];
        struct volume *v = NULL;
        uint64_t version = 0;
        struct err err;

        uuid_random(id);
        assert_ok(record_put(s->second, RECORD_EVENT, id, 0, "1", NULL, &err));
        assert_ok(volume_create(s->second, id, 8 * MIB, &v, &err)); /* open, with a watch */
        assert_ok(volume_write(v, "half", 4, 0, &err));
        old = shut_out(s->store, s->second);
        expect_refusal(s->second, id);
        assert_ok(record_get(s->second, RECORD_EVENT, id, &text, &version, &err));
        assert_ok(record_put(s->second, RECORD_EVENT, id, version, "2", NULL, &err));
        assert_string_not_equal(pool_of(s->second)->client->own, old);
        assert_int_equal(volume_seal(v, &err), -EACCES);
        volume_close(v); /* and the old client with it */
        assert_int_equal(pool_of(s->second)->client->users, 1);
        image_make(s->second, id, 8 * MIB, "anew"); /* the old watch is in nobody's way */
        assert_ok(volume_open(s->store, id, &v, &err));
        volume_close(v);
}

/* And it owns, fences and gates as before: on this address, where its QEMUs are. */
static void owner_goes_on_with_a_new_client(void **state)
{
        struct suite *s = suite_of(state);
        _cleanup_(freep) char *old = NULL, *why = NULL;
        _cleanup_(gate_done) struct gate gate = {};
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        char id[UUID_LEN + 1];
        struct lease one = {};
        struct start start;
        struct attach a = {};
        struct qemu *q;
        struct err err;

        uuid_random(id);
        assert_ok(record_put(s->second, RECORD_EVENT, id, 0, "1", NULL, &err));
        disks_make(s->second, id, &plain_disk, 1);
        old = shut_out(s->store, s->second);
        expect_refusal(s->second, id);
        assert_ok(lease_claim(s->second, id, &(struct lease){}, 1, false, &one, &err));
        start_init(&start, id, one.epoch, NULL, NULL, 0);
        assert_ok(lease_fence(s->second, id, &one, &start, &plain_disk, 1, &err));
        assert_ok(lease_attach(s->second, id, &one, &start, &plain_disk, 1, &a, &err));
        q = qemu_open(&a, &why);
        assert_non_null(q);
        assert_ok(lease_gate(s->second, id, &one, &start, &plain_disk, 1, &err));
        assert_ok(pool_io(s->store, &client, &io, &err));
        assert_ok(gate_read(io, id, &gate, &err));
        assert_int_equal(gate.n_clients, 1); /* the QEMU's, not an old one of the store */
        assert_int_equal(qemu_write(q, 0x11, 0), 0);
        qemu_close(q);
}

const struct engine_test client_tests[] = {
    {ON_RBD, cmocka_unit_test(blocklisted_client_is_closed_and_opened_anew)},
    {ON_RBD, cmocka_unit_test(owner_goes_on_with_a_new_client)},
};
const size_t n_client_tests = ARRAY_SIZE(client_tests);
