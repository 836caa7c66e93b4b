/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/jobs.h"
#include "common/util.h"

struct item {
        atomic_int *worked;
        int *done;
        pthread_t *done_on;
        sem_t *hold, *begun;
};

static void item_work(void *arg)
{
        struct item *it = arg;

        if (it->begun)
                sem_post(it->begun);
        if (it->hold)
                sem_wait(it->hold);
        (*it->worked)++;
}

static void item_done(void *arg)
{
        struct item *it = arg;

        (*it->done)++;
        if (it->done_on)
                *it->done_on = pthread_self();
}

static void collect_until(struct jobs *j, const int *done, int wanted)
{
        while (*done < wanted) {
                struct pollfd p = {.fd = jobs_fd(j), .events = POLLIN};

                assert_int_equal(poll(&p, 1, 10000), 1);
                jobs_collect(j);
        }
}

static void test_all_run(void **state)
{
        atomic_int worked = 0;
        int done = 0;
        pthread_t on = 0;
        struct item it = {.worked = &worked, .done = &done, .done_on = &on};
        struct jobs *j = NULL;

        assert_int_equal(jobs_new(4, &j, NULL), 0);
        for (int i = 0; i < 1000; i++)
                assert_int_equal(jobs_add(j, item_work, item_done, &it), 0);
        collect_until(j, &done, 1000);
        assert_int_equal(worked, 1000);
        assert_true(pthread_equal(on, pthread_self()));
        jobs_collect(j); /* one that ended while another was collected has woken us for nothing */
        assert_int_equal(poll(&(struct pollfd){.fd = jobs_fd(j), .events = POLLIN}, 1, 0), 0);
        jobs_free(j);
}

/* Four that wait for each other end only if four run at the same time. */
static void test_parallel(void **state)
{
        atomic_int worked = 0;
        int done = 0;
        sem_t hold, begun;
        struct item it = {.worked = &worked, .done = &done, .hold = &hold, .begun = &begun};
        struct jobs *j = NULL;

        sem_init(&hold, 0, 0);
        sem_init(&begun, 0, 0);
        assert_int_equal(jobs_new(4, &j, NULL), 0);
        for (int i = 0; i < 4; i++)
                assert_int_equal(jobs_add(j, item_work, item_done, &it), 0);
        for (int i = 0; i < 4; i++)
                sem_wait(&begun);
        for (int i = 0; i < 4; i++)
                sem_post(&hold);
        collect_until(j, &done, 4);
        jobs_free(j);
}

static void *release(void *arg)
{
        sem_t *hold = arg;

        poll(NULL, 0,
             50); /* so that jobs_free() is most likely waiting; the outcome is the same where it is not */
        sem_post(hold);
        return NULL;
}

/* Waits for the one that runs; those behind it are dropped, and done is called for all of them. */
static void test_ends_early(void **state)
{
        atomic_int worked = 0;
        int done = 0;
        sem_t hold, begun;
        struct item first = {.worked = &worked, .done = &done, .hold = &hold, .begun = &begun};
        struct item rest = {.worked = &worked, .done = &done};
        struct jobs *j = NULL;
        pthread_t t;

        sem_init(&hold, 0, 0);
        sem_init(&begun, 0, 0);
        assert_int_equal(jobs_new(1, &j, NULL), 0);
        assert_int_equal(jobs_add(j, item_work, item_done, &first), 0);
        for (int i = 0; i < 5; i++)
                assert_int_equal(jobs_add(j, item_work, item_done, &rest), 0);
        assert_int_equal(jobs_add(j, item_work, NULL, &rest), 0);
        sem_wait(&begun);
        assert_int_equal(pthread_create(&t, NULL, release, &hold), 0);
        jobs_free(j);
        pthread_join(t, NULL);
        assert_true(worked >= 1);
        assert_int_equal(done, 6);
        assert_null(jobs_free(NULL));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_all_run),
            cmocka_unit_test(test_parallel),
            cmocka_unit_test(test_ends_early),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
