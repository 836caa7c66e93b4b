/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/conformance.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* What all racers see; in memory that forked ones share. */
#define RACERS 6
#define ROUNDS 12

struct race {
        struct store *store; /* NULL: open one's own (forked) */
        char id[UUID_LEN + 1];
        pthread_barrier_t start;
        unsigned won[64], errors;
        char why[256];
};

struct racer {
        struct race *race;
        unsigned number; /* from 1: also the host that it claims for */
};

static void trouble(struct race *race, const struct err *err)
{
        __atomic_add_fetch(&race->errors, 1, __ATOMIC_SEQ_CST);
        snprintf(race->why, sizeof(race->why), "%s", err_text(err));
}

/* Runs `body` RACERS times at once, as threads or as processes, each beginning at the barrier. */
static void run_race(struct race *race, bool processes, void *(*body)(void *))
{
        pthread_barrierattr_t attr;
        struct racer racer[RACERS];
        pthread_t thread[RACERS];
        pid_t child[RACERS];

        faults_racing(true);
        pthread_barrierattr_init(&attr);
        pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
        pthread_barrier_init(&race->start, &attr, RACERS);
        for (unsigned i = 0; i < RACERS; i++) {
                racer[i] = (struct racer){.race = race, .number = i + 1};
                if (!processes) {
                        assert_int_equal(pthread_create(&thread[i], NULL, body, &racer[i]), 0);
                        continue;
                }
                child[i] = fork();
                if (child[i] == 0) {
                        body(&racer[i]);
                        _exit(0);
                }
        }
        for (unsigned i = 0; i < RACERS; i++) {
                int status = 0;

                if (!processes)
                        pthread_join(thread[i], NULL);
                else if (waitpid(child[i], &status, 0) < 0 || status != 0)
                        race->errors++;
        }
        pthread_barrier_destroy(&race->start);
        faults_racing(false);
        if (race->errors)
                fail_msg("%u errors, the last: %s", race->errors, race->why);
}

/* Never two; and one, unless it was not told so: where answers get lost, who looked too late has lost. */
static void assert_one_winner(const struct race *race, unsigned i)
{
        assert_true(race->won[i] <= 1);
        if (!faults_on())
                assert_int_equal(race->won[i], 1);
}

static struct race *race_new(struct store *store)
{
        struct race *race =
            mmap(NULL, sizeof(*race), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        assert_true(race != MAP_FAILED);
        race->store = store;
        uuid_random(race->id);
        return race;
}

static struct store *race_store(struct race *race)
{
        struct store *s = race->store;
        struct err err = {};

        if (!s && store_connect(&s, &err) < 0)
                trouble(race, &err);
        return s;
}

static void race_store_done(struct race *race, struct store *s)
{
        if (s != race->store)
                store_close(s);
}

/* Every racer wants every epoch; who gets it goes on from there, and so do those who lost. */
static void *claim_all(void *arg)
{
        struct racer *me = arg;
        struct race *race = me->race;
        struct store *s = race_store(race);

        pthread_barrier_wait(&race->start);
        for (unsigned round = 0; s && round < ROUNDS;) {
                struct lease now = {}, got = {};
                struct err err = {};
                int r = lease_find(s, race->id, &now, &err);

                if (r < 0) {
                        trouble(race, &err);
                        break;
                }
                if (now.epoch >= ROUNDS)
                        break;
                r = lease_claim(s, race->id, &now, me->number, false, &got, &err);
                if (r == 0)
                        __atomic_add_fetch(&race->won[got.epoch], 1, __ATOMIC_SEQ_CST);
                else if (r != -ESTALE)
                        trouble(race, &err);
        }
        race_store_done(race, s);
        return NULL;
}

static void claims(struct suite *s, bool processes)
{
        struct race *race = race_new(processes ? NULL : s->store);
        struct lease l = {};
        struct err err;

        disks_make(s->store, race->id, &plain_disk, 1);
        run_race(race, processes, claim_all);
        assert_ok(lease_find(s->second, race->id, &l, &err));
        assert_int_equal(l.epoch, ROUNDS);
        for (unsigned e = 1; e <= ROUNDS; e++)
                assert_one_winner(race, e);
        munmap(race, sizeof(*race));
}

#define COUNTS 20 /* by each racer */

/* Reads the counter, adds one, writes; begins again when another was first. */
static void *count_up(void *arg)
{
        struct racer *me = arg;
        struct race *race = me->race;
        struct store *s = race_store(race);

        pthread_barrier_wait(&race->start);
        for (unsigned done = 0; s && done < COUNTS;) {
                _cleanup_(freep) char *text = NULL;
                uint64_t version = 0;
                char next[32];
                struct err err = {};
                int r = record_get(s, RECORD_INSTANCE, race->id, &text, &version, &err);

                if (r < 0) {
                        trouble(race, &err);
                        break;
                }
                snprintf(next, sizeof(next), "%d", atoi(text) + 1);
                r = record_put(s, RECORD_INSTANCE, race->id, version, next, NULL, &err);
                if (r == 0) {
                        done++;
                } else if (r == -ETIMEDOUT) { /* unknown: counted, or not */
                        __atomic_add_fetch(&race->won[1], 1, __ATOMIC_SEQ_CST);
                } else if (r != -ESTALE) {
                        trouble(race, &err);
                        break;
                }
        }
        race_store_done(race, s);
        return NULL;
}

static void counters(struct suite *s, bool processes)
{
        struct race *race = race_new(processes ? NULL : s->store);
        _cleanup_(freep) char *text = NULL;
        uint64_t version;
        struct err err;

        assert_ok(record_put(s->store, RECORD_INSTANCE, race->id, 0, "0", NULL, &err));
        run_race(race, processes, count_up);
        assert_ok(record_get(s->second, RECORD_INSTANCE, race->id, &text, &version, &err));
        assert_in_range(atoi(text), RACERS * COUNTS, RACERS * COUNTS + race->won[1]);
        assert_true(faults_on() ||
                    race->won[1] < COUNTS); /* unknown is for the rare pause at a bad moment */
        munmap(race, sizeof(*race));
}

/* One new record, one set of disks, one sealed image: each racer tries to be the one that makes it. */
static void *make_each(void *arg)
{
        struct racer *me = arg;
        struct race *race = me->race;
        struct store *s = race_store(race);
        struct err err = {};
        char text[16];
        int r;

        snprintf(text, sizeof(text), "%u", me->number);
        pthread_barrier_wait(&race->start);
        if (!s)
                return NULL;
        r = record_put(s, RECORD_HOST, race->id, 0, text, NULL, &err);
        if (r == 0)
                __atomic_add_fetch(&race->won[0], 1, __ATOMIC_SEQ_CST);
        else if (r != -ESTALE && !(r == -ETIMEDOUT && faults_on()))
                trouble(race, &err);
        r = lease_create(s, race->id, &plain_disk, 1, &err);
        if (r == 0)
                __atomic_add_fetch(&race->won[1], 1, __ATOMIC_SEQ_CST);
        else if (r != -EEXIST && !(r == -ETIMEDOUT && faults_on()))
                trouble(race, &err);
        race_store_done(race, s);
        return NULL;
}

static void makers(struct suite *s, bool processes)
{
        for (int round = 0; round < 5; round++) {
                struct race *race = race_new(processes ? NULL : s->store);

                run_race(race, processes, make_each);
                assert_one_winner(race, 0);
                assert_one_winner(race, 1);
                munmap(race, sizeof(*race));
        }
}

/* A list beside writers shows every record that stands still. */
struct list_race {
        struct store *store;
        char id[UUID_LEN + 1];
        bool stop;
        struct err err;
};

static void *write_on(void *arg)
{
        struct list_race *l = arg;
        uint64_t version = 0;

        while (!__atomic_load_n(&l->stop, __ATOMIC_SEQ_CST)) {
                if (record_put(l->store, RECORD_EVENT, l->id, version, "{}", &version, &l->err) < 0)
                        return l; /* the only writer of a record lost a compare */
        }
        return NULL;
}

static int count_still(void *arg, const char *id, uint64_t version, const char *text)
{
        if (strncmp(id, "still-", 6) == 0)
                ++*(unsigned *)arg;
        return 0;
}

static void list_beside_writers(void **state)
{
        struct suite *s = suite_of(state);
        struct list_race l[3];
        pthread_t writer[3];
        struct err err;

        for (unsigned i = 0; i < 50; i++) {
                char id[32];

                snprintf(id, sizeof(id), "still-%u", i);
                assert_ok(record_put(s->store, RECORD_EVENT, id, 0, "{}", NULL, &err));
        }
        for (unsigned i = 0; i < 3; i++) {
                l[i] = (struct list_race){.store = s->store};
                snprintf(l[i].id, sizeof(l[i].id), "stmoving%u", i); /* in the same shard */
                pthread_create(&writer[i], NULL, write_on, &l[i]);
        }
        for (unsigned round = 0; round < 300; round++) {
                unsigned n = 0;

                assert_ok(record_list(s->second, RECORD_EVENT, count_still, &n, &err));
                assert_int_equal(n, 50);
        }
        for (unsigned i = 0; i < 3; i++)
                __atomic_store_n(&l[i].stop, true, __ATOMIC_SEQ_CST);
        for (unsigned i = 0; i < 3; i++) {
                void *lost = NULL;

                pthread_join(writer[i], &lost);
                if (lost)
                        fail_msg("the only writer lost a compare: %s", err_text(&l[i].err));
        }
}

static void one_thread_wins_each_epoch(void **state)
{
        claims(suite_of(state), false);
}

static void one_process_wins_each_epoch(void **state)
{
        claims(suite_of(state), suite_of(state)->shared);
}

static void threads_lose_no_count(void **state)
{
        counters(suite_of(state), false);
}

static void processes_lose_no_count(void **state)
{
        counters(suite_of(state), suite_of(state)->shared);
}

static void one_thread_makes_it(void **state)
{
        makers(suite_of(state), false);
}

static void one_process_makes_it(void **state)
{
        makers(suite_of(state), suite_of(state)->shared);
}

const struct engine_test race_tests[] = {
    {ON_ALL, cmocka_unit_test(one_thread_wins_each_epoch)},
    {ON_ALL, cmocka_unit_test(one_process_wins_each_epoch)},
    {ON_ALL, cmocka_unit_test(threads_lose_no_count)},
    {ON_ALL, cmocka_unit_test(processes_lose_no_count)},
    {ON_ALL, cmocka_unit_test(one_thread_makes_it)},
    {ON_ALL, cmocka_unit_test(one_process_makes_it)},
    {ON_ALL, cmocka_unit_test(list_beside_writers)},
};
const size_t n_race_tests = ARRAY_SIZE(race_tests);
