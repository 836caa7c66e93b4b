/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/conformance.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * A process that writes, and says over a pipe what the store has acknowledged, is killed at any instant.
 * Then all that was acknowledged is there, nothing else is broken, and the same work can go on.
 */
#define KILLS 12

struct said {
        char what;             /* 'r' record, 'l' disks, 'c' claim, 'i' image */
        char id[UUID_LEN + 1]; /* of what */
        uint64_t number;       /* version or epoch */
};

static void say(int fd, char what, const char *id, uint64_t number)
{
        struct said s = {.what = what, .number = number};

        memcpy(s.id, id, sizeof(s.id));
        if (write(fd, &s, sizeof(s)) != sizeof(s)) /* below PIPE_BUF: whole or not at all */
                _exit(1);
}

static void work_on(struct store *s, int fd, const char *counter, uint64_t version)
{
        struct err err = {};

        for (;;) {
                char id[UUID_LEN + 1], text[32];
                struct volume *v = NULL;
                struct lease one;

                snprintf(text, sizeof(text), "%" PRIu64, version);
                if (record_put(s, RECORD_INSTANCE, counter, version, text, &version, &err) < 0)
                        _exit(2);
                say(fd, 'r', counter, version);
                uuid_random(id);
                if (lease_create(s, id, &plain_disk, 1, &err) < 0)
                        _exit(3);
                say(fd, 'l', id, 0);
                if (lease_claim(s, id, &(struct lease){}, 1, false, &one, &err) < 0)
                        _exit(4);
                say(fd, 'c', id, one.epoch);
                if (volume_create(s, id, MIB, &v, &err) < 0 || volume_write(v, "image", 5, 0, &err) < 0 ||
                    volume_seal(v, &err) < 0)
                        _exit(5);
                volume_close(v);
                say(fd, 'i', id, 0);
        }
}

static void check(struct store *s, const struct said *said, uint64_t *counter_version)
{
        _cleanup_(freep) char *text = NULL;
        struct volume *v = NULL;
        struct lease l = {};
        char buf[5];
        struct err err;

        switch (said->what) {
        case 'r':
                assert_ok(record_get(s, RECORD_INSTANCE, said->id, &text, counter_version, &err));
                assert_true(*counter_version >= said->number);
                break;
        case 'l':
        case 'c':
                assert_ok(lease_find(s, said->id, &l, &err));
                assert_true(l.epoch >= said->number);
                break;
        case 'i':
                assert_ok(volume_open(s, said->id, &v, &err));
                assert_ok(volume_read(v, buf, 5, 0, &err));
                assert_memory_equal(buf, "image", 5);
                volume_close(v);
                break;
        default:
                fail_msg("the child said nonsense");
        }
}

/* Lets it run until it has said `wait` things, and a little on; then kills it and checks all that it said.
 */
static void kill_one(struct suite *s, const char *counter, uint64_t *version, unsigned wait, unsigned us)
{
        struct said said[4096];
        size_t n = 0;
        int fds[2], status;
        pid_t child;

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        child = fork();
        if (child == 0) {
                struct store *mine = NULL;
                struct err err = {};

                close(fds[0]);
                if (store_connect(&mine, &err) < 0)
                        _exit(1);
                work_on(mine, fds[1], counter, *version);
        }
        close(fds[1]);
        while (n < ARRAY_SIZE(said) && read(fds[0], &said[n], sizeof(said[n])) == sizeof(said[n])) {
                n++;
                if (n == wait) {
                        poll(NULL, 0, (int)(us / 1000));
                        kill(child, SIGKILL);
                }
        }
        close(fds[0]);
        waitpid(child, &status, 0);
        if (!WIFSIGNALED(status))
                fail_msg("the worker ended by itself with %d", WEXITSTATUS(status));
        for (size_t i = 0; i < n; i++)
                check(s->store, &said[i], version);
}

static void killed_writer_breaks_nothing(void **state)
{
        struct suite *s = suite_of(state);
        char counter[UUID_LEN + 1], id[UUID_LEN + 1];
        uint64_t version = 0;
        struct err err;

        uuid_random(counter);
        assert_ok(record_put(s->store, RECORD_INSTANCE, counter, 0, "0", &version, &err));
        for (unsigned i = 0; i < KILLS; i++) {
                _cleanup_(freep) char *text = NULL;

                kill_one(s, counter, &version, 3 + i * 5, (unsigned)(random_u64() % 8000));
                /* the record may hold one more version than was acknowledged, and is whole in any case */
                assert_ok(record_get(s->second, RECORD_INSTANCE, counter, &text, &version, &err));
                assert_true(strspn(text, "0123456789") == strlen(text));
                assert_ok(record_put(s->second, RECORD_INSTANCE, counter, version, "1", &version, &err));
        }
        assert_ok(store_prepare(s->store, &err));
        uuid_random(id);
        disks_make(s->store, id, &plain_disk, 1);
        image_make(s->store, id, MIB, "after");
}

struct half {
        struct store *store;
        unsigned n;
};

/* Disks are there as a whole or not at all: what a list shows can be found, claimed and removed. */
static int whole(void *arg, const char *instance, const struct lease *lease)
{
        struct half *h = arg;
        struct lease l = {};
        struct err err;

        assert_ok(lease_find(h->store, instance, &l, &err));
        assert_true(l.epoch == lease->epoch && l.host == lease->host);
        h->n++;
        return 0;
}

static void list_is_whole_after_it(void **state)
{
        struct suite *s = suite_of(state);
        struct half h = {.store = s->second};
        struct err err;

        assert_ok(lease_list(s->store, whole, &h, &err));
        assert_true(h.n > 0);
}

const struct engine_test kill_tests[] = {
    {ON_SHARED, cmocka_unit_test(killed_writer_breaks_nothing)},
    {ON_SHARED, cmocka_unit_test(list_is_whole_after_it)},
};
const size_t n_kill_tests = ARRAY_SIZE(kill_tests);
