/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/conformance.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void sealed_image_reads_back(void **state)
{
        struct suite *s = suite_of(state);
        char id[UUID_LEN + 1], buf[8192], zero[4096] = {};
        struct volume *v = NULL;
        uint8_t *block = malloc(3 * MIB);
        struct err err;

        uuid_random(id);
        for (size_t i = 0; i < 3 * MIB; i++)
                block[i] = (uint8_t)(i * 7 + i / 4096);
        assert_ok(volume_create(s->store, id, 16 * MIB, &v, &err));
        assert_ok(volume_write(v, "begin", 5, 0, &err));
        assert_ok(volume_write(v, block, 3 * MIB, 5 * MIB - 17, &err));
        assert_ok(volume_write(v, "end", 3, 16 * MIB - 3, &err));
        assert_ok(volume_seal(v, &err));
        assert_ok(volume_seal(v, &err));
        assert_ok(volume_read(v, buf, 5, 0, &err)); /* the handle reads on */
        assert_memory_equal(buf, "begin", 5);
        v = volume_close(v);
        assert_null(v);

        assert_ok(volume_open(s->second, id, &v, &err));
        assert_int_equal(volume_size(v), 16 * MIB);
        assert_ok(volume_read(v, buf, 5, 0, &err));
        assert_memory_equal(buf, "begin", 5);
        assert_ok(volume_read(v, buf, 4096, MIB, &err)); /* never written */
        assert_memory_equal(buf, zero, 4096);
        uint8_t *back = malloc(3 * MIB);

        assert_ok(volume_read(v, back, 3 * MIB, 5 * MIB - 17, &err));
        assert_memory_equal(back, block, 3 * MIB);
        assert_ok(volume_read(v, buf, 3, 16 * MIB - 3, &err));
        assert_memory_equal(buf, "end", 3);
        assert_fails(-EINVAL, volume_read(v, buf, 4, 16 * MIB - 3, &err));
        assert_fails(-EINVAL, volume_read(v, buf, 1, UINT64_MAX, &err));
        assert_fails(-EROFS, volume_write(v, "x", 1, 0, &err));
        volume_close(v);
        assert_fails(-EEXIST, volume_create(s->second, id, MIB, &v, &err));
        free(block);
        free(back);
}

struct writer {
        struct volume *volume;
        const uint8_t *data;
        unsigned number;
        pthread_t thread;
        int r;
};

#define WRITERS 6
#define PIECE (MIB / 2 + 512)

/* Every WRITERS-th piece. */
static void *writer_run(void *arg)
{
        struct writer *w = arg;

        for (uint64_t i = w->number; i * PIECE < 16 * MIB && w->r == 0; i += WRITERS) {
                uint64_t at = i * PIECE, n = MIN_OF(PIECE, 16 * MIB - at);

                w->r = volume_write(w->volume, w->data + at, (size_t)n, at, NULL);
        }
        return NULL;
}

static void many_write_at_once(void **state)
{
        struct suite *s = suite_of(state);
        uint8_t *data = malloc(16 * MIB), *back = malloc(16 * MIB);
        struct writer writers[WRITERS];
        struct volume *v = NULL;
        char id[UUID_LEN + 1];
        struct err err;
        int r = 0;

        uuid_random(id);
        for (size_t i = 0; i < 16 * MIB; i++)
                data[i] = (uint8_t)(i * 31 + i / 4099);
        assert_ok(volume_create(s->store, id, 16 * MIB, &v, &err));
        for (unsigned i = 0; i < WRITERS; i++) {
                writers[i] = (struct writer){.volume = v, .data = data, .number = i};
                assert_int_equal(pthread_create(&writers[i].thread, NULL, writer_run, &writers[i]), 0);
        }
        for (unsigned i = 0; i < WRITERS; i++) {
                pthread_join(writers[i].thread, NULL);
                r = r == 0 ? writers[i].r : r;
        }
        assert_int_equal(r, 0);
        assert_ok(volume_seal(v, &err));
        volume_close(v);
        assert_ok(volume_open(s->second, id, &v, &err));
        assert_ok(volume_read(v, back, 16 * MIB, 0, &err));
        assert_memory_equal(back, data, 16 * MIB);
        volume_close(v);
        free(data);
        free(back);
}

/* Whole blocks may take another way to the storage than parts of some: what came last counts. */
static void whole_blocks_and_parts_mix(void **state)
{
        static const struct {
                size_t at, len;
        } writes[] = {
            {100, 4900},        {8192, MIB},         {4096 - 17, 4096 + 34}, {0, 4096},
            {MIB - 1, 2},       {MIB / 2, MIB},      {MIB / 2 + 512, 512},   {2 * MIB - 4096, 4096},
            {2 * MIB, 3 * MIB}, {3 * MIB + 5, 8192}, {3 * MIB, 4096}};
        struct suite *s = suite_of(state);
        uint8_t *data = aligned_alloc(4096, 8 * MIB), *want = calloc(1, 8 * MIB), *back = malloc(8 * MIB);
        struct volume *v = NULL;
        char id[UUID_LEN + 1];
        struct err err;

        uuid_random(id);
        assert_ok(volume_create(s->store, id, 8 * MIB, &v, &err));
        for (size_t i = 0; i < ARRAY_SIZE(writes); i++) {
                size_t at = writes[i].at, len = writes[i].len;

                for (size_t k = 0; k < 8 * MIB; k++)
                        data[k] = (uint8_t)(k * 7 + k / 4099 + i * 53);
                memcpy(want + at, data + at, len);
                assert_ok(volume_write(v, data + at, len, at, &err));
        }
        assert_ok(volume_seal(v, &err));
        assert_ok(volume_read(v, back, 8 * MIB, 0, &err));
        assert_memory_equal(back, want, 8 * MIB);
        volume_close(v);
        assert_ok(volume_open(s->second, id, &v, &err));
        assert_ok(volume_read(v, back, 8 * MIB, 0, &err));
        assert_memory_equal(back, want, 8 * MIB);
        volume_close(v);
        free(data);
        free(want);
        free(back);
}

/* An upload of unknown length: longer step by step, cut at its end. */
static void unsealed_image_is_resized(void **state)
{
        struct suite *s = suite_of(state);
        char id[UUID_LEN + 1], buf[4096], zero[4096] = {};
        struct volume *v = NULL;
        struct err err;

        uuid_random(id);
        assert_ok(volume_create(s->store, id, MIB, &v, &err));
        assert_ok(volume_write(v, "begin", 5, 0, &err));
        assert_fails(-EINVAL, volume_write(v, "far", 3, 9 * MIB, &err));
        assert_ok(volume_resize(v, 16 * MIB, &err));
        assert_ok(volume_write(v, "far", 3, 9 * MIB, &err));
        assert_ok(volume_resize(v, 9 * MIB + 512, &err));
        assert_fails(-EINVAL, volume_resize(v, 0, &err));
        assert_ok(volume_seal(v, &err));
        assert_fails(-EROFS, volume_resize(v, MIB, &err));
        volume_close(v);
        assert_ok(volume_open(s->second, id, &v, &err));
        assert_int_equal(volume_size(v), 9 * MIB + 512);
        assert_ok(volume_read(v, buf, 3, 9 * MIB, &err));
        assert_memory_equal(buf, "far", 3);
        assert_ok(volume_read(v, buf, 4096, MIB, &err)); /* behind the first end */
        assert_memory_equal(buf, zero, 4096);
        assert_fails(-EINVAL, volume_read(v, buf, 513, 9 * MIB, &err));
        volume_close(v);
}

static void unsealed_image_is_invisible(void **state)
{
        struct suite *s = suite_of(state);
        char id[UUID_LEN + 1];
        struct volume *v = NULL, *other = NULL;
        struct err err;

        uuid_random(id);
        assert_fails(-ENOENT, volume_open(s->store, id, &other, &err));
        assert_ok(volume_create(s->store, id, 4 * MIB, &v, &err));
        assert_ok(volume_write(v, "secret", 6, 0, &err));
        assert_fails(-ENOENT, volume_open(s->second, id, &other, &err));
        volume_close(v); /* an upload that was given up */
        assert_fails(-ENOENT, volume_open(s->second, id, &other, &err));
        image_make(s->second, id, MIB, "again");
        assert_ok(volume_open(s->store, id, &other, &err));
        assert_int_equal(volume_size(other), MIB);
        volume_close(other);
}

static void left_over_is_replaced(void **state)
{
        struct suite *s = suite_of(state);
        char id[UUID_LEN + 1], buf[6];
        struct volume *crashed = NULL, *v = NULL;
        struct err err;

        uuid_random(id);
        /* the first writer is still there, but counts as crashed once another begins */
        assert_ok(volume_create(s->store, id, 4 * MIB, &crashed, &err));
        assert_ok(volume_write(crashed, "first", 5, 0, &err));
        image_make(s->second, id, 2 * MIB, "second");
        if (volume_seal(crashed, &err) >= 0)
                fail_msg("the writer that was replaced could seal its image");
        volume_close(crashed);
        assert_ok(volume_open(s->store, id, &v, &err));
        assert_int_equal(volume_size(v), 2 * MIB);
        assert_ok(volume_read(v, buf, 6, 0, &err));
        assert_memory_equal(buf, "second", 6);
        volume_close(v);
}

/* In a process of its own, which dies without a word. */
static void write_and_die(const char *id, const char *text, uint64_t offset)
{
        pid_t child = fork();
        int status = 0;

        if (child == 0) {
                struct store *s = NULL;
                struct volume *v = NULL;
                struct err err;

                if (store_connect(&s, &err) == 0 && volume_create(s, id, 4 * MIB, &v, &err) == 0 &&
                    volume_write(v, text, strlen(text), offset, &err) == 0)
                        kill(getpid(), SIGKILL);
                _exit(1);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
}

static void nothing_left_is_nothing_to_go_on_with(void **state)
{
        struct volume *v = NULL;
        char id[UUID_LEN + 1];
        struct err err;

        uuid_random(id);
        assert_fails(-ENOENT, volume_resume(suite_of(state)->store, id, true, &v, &err));
}

static void left_over_is_gone_on_with(void **state)
{
        struct suite *s = suite_of(state);
        char id[UUID_LEN + 1], buf[6];
        struct volume *v = NULL;
        struct err err;

        uuid_random(id);
        assert_fails(-ENOENT, volume_resume(s->store, id, true, &v, &err));
        write_and_die(id, "first", MIB);
        for (int i = 0; i < 2; i++) { /* a look leaves it as it is */
                assert_ok(volume_resume(s->second, id, false, &v, &err));
                assert_int_equal(volume_size(v), 4 * MIB);
                assert_ok(volume_read(v, buf, 5, MIB, &err));
                assert_memory_equal(buf, "first", 5);
                assert_fails(-EROFS, volume_write(v, "x", 1, 0, &err));
                v = volume_close(v);
        }
        assert_fails(-ENOENT, volume_open(s->store, id, &v, &err));
        assert_ok(volume_resume(s->store, id, true, &v, &err));
        assert_ok(volume_write(v, "second", 6, 2 * MIB, &err));
        assert_ok(volume_seal(v, &err));
        volume_close(v);
        assert_ok(volume_open(s->second, id, &v, &err));
        assert_int_equal(volume_size(v), 4 * MIB);
        assert_ok(volume_read(v, buf, 5, MIB, &err));
        assert_memory_equal(buf, "first", 5);
        assert_ok(volume_read(v, buf, 6, 2 * MIB, &err));
        assert_memory_equal(buf, "second", 6);
        volume_close(v);
        assert_fails(-ENOENT, volume_resume(s->store, id, true, &v, &err));
}

/* Left behind on purpose, for another process; and again, and then for good. */
static void volume_that_was_left_is_gone_on_with(void **state)
{
        struct suite *s = suite_of(state);
        struct volume *v = NULL;
        char id[UUID_LEN + 1], buf[6];
        struct err err;

        uuid_random(id);
        assert_ok(volume_create(s->store, id, 4 * MIB, &v, &err));
        assert_ok(volume_write(v, "first", 5, MIB, &err));
        volume_leave(v);
        assert_ok(volume_resume(s->second, id, true, &v, &err));
        assert_ok(volume_write(v, "second", 6, 2 * MIB, &err));
        volume_leave(v);
        assert_fails(-ENOENT, volume_open(s->store, id, &v, &err));
        assert_ok(volume_resume(s->store, id, true, &v, &err));
        assert_ok(volume_read(v, buf, 5, MIB, &err));
        assert_memory_equal(buf, "first", 5);
        assert_ok(volume_read(v, buf, 6, 2 * MIB, &err));
        assert_memory_equal(buf, "second", 6);
        volume_leave(v);
        assert_ok(volume_remove(s->second, id, &err));
        assert_fails(-ENOENT, volume_resume(s->store, id, false, &v, &err));
        image_make(s->store, id, 2 * MIB, "whole");
        assert_ok(volume_open(s->second, id, &v, &err));
        volume_leave(v); /* of a sealed one, it is a close */
        assert_ok(volume_remove(s->store, id, &err));
}

/* A writer that was only thought to be gone, and gives up now, does not take away what another goes on with.
 */
static void sleeper_removes_nothing(void **state)
{
        struct suite *s = suite_of(state);
        struct volume *sleeper = NULL, *v = NULL;
        char id[UUID_LEN + 1], buf[6];
        struct err err;

        uuid_random(id);
        assert_ok(volume_create(s->store, id, 4 * MIB, &sleeper, &err));
        assert_ok(volume_write(sleeper, "first", 5, 0, &err));
        assert_ok(volume_resume(s->second, id, true, &v, &err));
        volume_close(sleeper);
        assert_ok(volume_write(v, "second", 6, MIB, &err));
        assert_ok(volume_seal(v, &err));
        assert_ok(volume_read(v, buf, 5, 0, &err));
        assert_memory_equal(buf, "first", 5);
        volume_close(v);
        assert_ok(volume_open(s->store, id, &v, &err));
        volume_close(v);
        uuid_random(id); /* and what is not sealed goes with its last holder */
        assert_ok(volume_create(s->store, id, 4 * MIB, &sleeper, &err));
        assert_ok(volume_resume(s->second, id, true, &v, &err));
        volume_close(sleeper);
        volume_close(v);
        assert_fails(-ENOENT, volume_resume(s->store, id, false, &v, &err));
}

/* A cluster that has just come up does not know its space yet, and says 0. */
static void space_wait(struct store *s, uint64_t *ret_total, uint64_t *ret_free)
{
        struct err err;

        for (int i = 0; i < 300; i++) {
                assert_ok(store_space(s, ret_total, ret_free, &err));
                if (*ret_total > 0)
                        return;
                usleep(100 * 1000);
        }
        fail_msg("the store does not know its space after 30 s");
}

static void large_hole_costs_nothing(void **state)
{
        struct suite *s = suite_of(state);
        uint64_t total = 0, before = 0, after = 0;
        char id[UUID_LEN + 1];
        struct err err;

        uuid_random(id);
        space_wait(s->store, &total, &before);
        image_make(s->store, id, 3 * 1024 * MIB, "sparse");
        space_wait(s->store, &total, &after);
        assert_true(after <= total);
        assert_true(after > before || before - after < 256 * MIB);
        assert_ok(volume_remove(s->store, id, &err));
}

static void image_in_use_stays(void **state)
{
        struct suite *s = suite_of(state);
        char image[UUID_LEN + 1], instance[UUID_LEN + 1];
        const struct disk_spec disk = {.name = "disk0", .image = image, .size = 8 * MIB};
        const struct lease nobody = {};
        struct volume *v = NULL;
        struct err err;

        uuid_random(image);
        uuid_random(instance);
        assert_fails(-ENOENT, volume_remove(s->store, image, &err));
        image_make(s->store, image, 4 * MIB, "golden");
        disks_make(s->second, instance, &disk, 1);
        assert_fails(-EBUSY, volume_remove(s->store, image, &err));
        assert_ok(volume_open(s->second, image, &v, &err));
        volume_close(v);
        assert_ok(lease_remove(s->second, instance, &nobody, &disk, 1, &err));
        assert_ok(volume_remove(s->store, image, &err));
        assert_fails(-ENOENT, volume_open(s->second, image, &v, &err));
}

static void bad_images_are_refused(void **state)
{
        struct suite *s = suite_of(state);
        struct volume *v = NULL;
        struct attach a;
        struct err err;

        assert_fails(-EINVAL, volume_create(s->store, "../x", MIB, &v, &err));
        assert_fails(-EINVAL, volume_create(s->store, "x", 0, &v, &err));
        assert_fails(-EINVAL, volume_create(s->store, "x", UINT64_MAX, &v, &err));
        assert_fails(-EINVAL, volume_open(s->store, "a/b", &v, &err));
        assert_fails(-EINVAL, volume_remove(s->store, "", &err));
        assert_fails(-EINVAL, volume_attach(s->store, "a.b", &a, &err));
}

const struct engine_test volume_tests[] = {
    {ON_ALL, cmocka_unit_test(sealed_image_reads_back)},
    {ON_ALL, cmocka_unit_test(many_write_at_once)},
    {ON_ALL, cmocka_unit_test(whole_blocks_and_parts_mix)},
    {ON_ALL, cmocka_unit_test(unsealed_image_is_resized)},
    {ON_ALL, cmocka_unit_test(unsealed_image_is_invisible)},
    {ON_ALL, cmocka_unit_test(left_over_is_replaced)},
    /* in memory nothing is left of a process; and what puts in faults wants a call that may be repeated */
    {ON_ALL, cmocka_unit_test(nothing_left_is_nothing_to_go_on_with)},
    {ON_SHARED | NO_FAULTS, cmocka_unit_test(left_over_is_gone_on_with)},
    {ON_SHARED | NO_FAULTS, cmocka_unit_test(sleeper_removes_nothing)},
    {ON_SHARED | NO_FAULTS, cmocka_unit_test(volume_that_was_left_is_gone_on_with)},
    /* the memory engine has no holes: it is for small images */
    {ON_SHARED, cmocka_unit_test(large_hole_costs_nothing)},
    {ON_ALL, cmocka_unit_test(image_in_use_stays)},
    {ON_ALL, cmocka_unit_test(bad_images_are_refused)},
};
const size_t n_volume_tests = ARRAY_SIZE(volume_tests);
