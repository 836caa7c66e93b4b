/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/conformance.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>

/*
 * The server is killed and started again (by the command in STORE_OUTAGE) under a writer. Calls may end as
 * unknown, and nothing else; what was acknowledged is there afterwards, and the same handle works on.
 */
struct writer {
        struct store *store;
        char id[UUID_LEN + 1];
        bool stop;
        unsigned done, unknown, wrong;
        char why[256];
};

static bool may_be(int r)
{
        return r == -ETIMEDOUT || r == -EHOSTUNREACH;
}

static void *write_on(void *arg)
{
        struct writer *w = arg;

        while (!__atomic_load_n(&w->stop, __ATOMIC_SEQ_CST)) {
                _cleanup_(freep) char *text = NULL;
                uint64_t version = 0;
                char next[32];
                struct err err = {};
                int r = record_get(w->store, RECORD_INSTANCE, w->id, &text, &version, &err);

                if (r == 0) {
                        snprintf(next, sizeof(next), "%d", atoi(text) + 1);
                        r = record_put(w->store, RECORD_INSTANCE, w->id, version, next, NULL, &err);
                        if (r == 0)
                                __atomic_add_fetch(&w->done, 1, __ATOMIC_SEQ_CST);
                        else if (may_be(r))
                                w->unknown++;
                }
                if (r >= 0)
                        continue;
                if (!may_be(r))
                        w->wrong++;
                snprintf(w->why, sizeof(w->why), "%d %s", r, err_text(&err));
                poll(NULL, 0, 20);
        }
        return NULL;
}

static void wait_for_progress(struct writer *w)
{
        unsigned before = __atomic_load_n(&w->done, __ATOMIC_SEQ_CST);

        for (int i = 0; i < 600 && __atomic_load_n(&w->done, __ATOMIC_SEQ_CST) < before + 20; i++)
                poll(NULL, 0, 50);
        if (__atomic_load_n(&w->done, __ATOMIC_SEQ_CST) < before + 20)
                fail_msg("%u writes in 30 s, %u unknown, %u wrong, the last: %s", w->done - before,
                         w->unknown, w->wrong, w->why);
}

static void server_dies_under_a_writer(void **state)
{
        const char *outage = getenv("STORE_OUTAGE");
        _cleanup_(freep) char *text = NULL;
        struct writer w = {};
        struct lease one = {}, found = {};
        struct start first;
        uint64_t version;
        pthread_t thread;
        struct err err;

        assert_non_null(outage);
        assert_ok(store_connect(&w.store, &err));
        assert_ok(store_prepare(w.store, &err));
        uuid_random(w.id);
        assert_ok(record_put(w.store, RECORD_INSTANCE, w.id, 0, "0", NULL, &err));
        disks_make(w.store, w.id, &plain_disk, 1);
        pthread_create(&thread, NULL, write_on, &w);
        for (int i = 0; i < 3; i++) {
                wait_for_progress(&w);
                assert_int_equal(system(outage), 0);
        }
        wait_for_progress(&w);
        __atomic_store_n(&w.stop, true, __ATOMIC_SEQ_CST);
        pthread_join(thread, NULL);
        if (w.wrong)
                fail_msg("%u calls failed otherwise than by time, the last: %s", w.wrong, w.why);
        assert_ok(record_get(w.store, RECORD_INSTANCE, w.id, &text, &version, &err));
        assert_in_range(atoi(text), w.done, w.done + w.unknown);
        assert_ok(lease_claim(w.store, w.id, &one, 1, false, &found, &err));
        start_init(&first, w.id, found.epoch, NULL, NULL, 0);
        assert_ok(lease_fence(w.store, w.id, &found, &first, &plain_disk, 1, &err));
        assert_ok(lease_gate(w.store, w.id, &found, &first, &plain_disk, 1, &err));
        store_close(w.store);
}

/* Large enough for write-back before the seal. */
#define IMAGE_MIB 200

static uint8_t *piece_of(uint8_t *buf, unsigned at)
{
        for (size_t i = 0; i < MIB; i++)
                buf[i] = (uint8_t)(i * 31 + i / 4099 + at);
        return buf;
}

/* outage: the command, after half of it; NULL: none */
static int image_write(struct volume *v, const char *outage, struct err *err)
{
        _cleanup_(freep) uint8_t *buf = malloc(MIB);
        int r = 0;

        for (unsigned i = 0; r == 0 && i < IMAGE_MIB; i++) {
                if (outage && i == IMAGE_MIB / 2)
                        assert_int_equal(system(outage), 0);
                r = volume_write(v, piece_of(buf, i), MIB, i * MIB, err);
        }
        return r;
}

/* The server may have lost what it had not written back: such an image is never sealed, and a new try is. */
static void server_dies_under_an_image(void **state)
{
        _cleanup_(freep) uint8_t *expected = malloc(MIB), *back = malloc(MIB);
        struct store *store = NULL;
        struct volume *v = NULL;
        char id[UUID_LEN + 1];
        struct err err;
        int r;

        assert_ok(store_connect(&store, &err));
        assert_ok(store_prepare(store, &err));
        uuid_random(id);
        assert_ok(volume_create(store, id, IMAGE_MIB * MIB, &v, &err));
        r = image_write(v, getenv("STORE_OUTAGE"), &err);
        if (r == 0)
                r = volume_seal(v, &err);
        assert_true(r == -EIO || may_be(r));
        volume_close(v);
        assert_ok(volume_create(store, id, IMAGE_MIB * MIB, &v, &err));
        assert_ok(image_write(v, NULL, &err));
        assert_ok(volume_seal(v, &err));
        volume_close(v);
        assert_ok(volume_open(store, id, &v, &err));
        for (unsigned i = 0; i < IMAGE_MIB; i++) {
                assert_ok(volume_read(v, back, MIB, i * MIB, &err));
                assert_memory_equal(back, piece_of(expected, i), MIB);
        }
        volume_close(v);
        store_close(store);
}

int run_outage(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(server_dies_under_a_writer),
                                           cmocka_unit_test(server_dies_under_an_image)};

        return cmocka_run_group_tests_name("outage", tests, NULL, NULL);
}
