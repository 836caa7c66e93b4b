/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "migrate/watch.h"
#include "tests/unit/hostd-fixture.h"

/* The heartbeat: when it goes out, and from when on it counts. */
static struct {
        int takes_ms, answer;
        bool first_only;   /* the others take no time */
        unsigned n, until; /* beats written, and after how many the thread is ended */
        int64_t at[16];
        uint64_t counter[16];
        int64_t own[16]; /* own_write_ms, as it was when the beat began */
} beats;

static bool first_is_slow;

static int one_beat(struct fixture *f, uint64_t counter)
{
        if (beats.n < 16) {
                beats.at[beats.n] = f->now_ms;
                beats.counter[beats.n] = counter;
                beats.own[beats.n] = f->self.own_write_ms;
        }
        f->now_ms += beats.n == 0 || !beats.first_only ? beats.takes_ms : 0;
        if (++beats.n >= beats.until)
                f->ring.beat_quit = true;
        return beats.answer;
}

static void run(int takes_ms, int answer, unsigned until)
{
        struct err err = {0};

        memset(&beats, 0, sizeof(beats));
        fixture.beat = NULL;
        fixture.ring.beat_quit = false;
        fixture.thread = NULL;
        assert_int_equal(beat_start(&fixture.ctx, &err), 0);
        assert_true(beat_running(&fixture.ctx));
        assert_non_null(fixture.thread);
        beats.takes_ms = takes_ms;
        beats.first_only = first_is_slow;
        beats.answer = answer;
        beats.until = until;
        fixture.beat = one_beat;
        fixture.thread(fixture.thread_arg);
}

static void one_goes_out_every_half_second(void **state)
{
        int64_t begun = fixture.now_ms;

        run(20, 0, 6);
        assert_int_equal(beats.n, 6);
        for (unsigned i = 0; i < 6; i++) {
                assert_int_equal(beats.at[i],
                                 begun + i * WATCH_BEAT_MS); /* what one takes delays no other */
                if (i > 0)
                        assert_int_equal(beats.counter[i], beats.counter[i - 1] + 1);
        }
}

/* The neighbours saw the change at its begin at the earliest: what it took is no time that is left. */
static void it_counts_from_its_begin(void **state)
{
        run(1400, 0, 3);
        assert_int_equal(beats.own[1], beats.at[0]);
        assert_int_equal(beats.own[2], beats.at[1]);
        assert_int_equal(fixture.self.own_write_ms, beats.at[2]);
        assert_true(self_trusted(&fixture.ctx));
        fixture.now_ms += 600; /* 2000 since the begin of the last */
        assert_false(self_trusted(&fixture.ctx));
}

static void one_that_failed_does_not_count(void **state)
{
        int64_t begun = fixture.now_ms;

        run(10, -ETIMEDOUT, 5);
        assert_int_equal(fixture.self.own_write_ms, begun);
        assert_int_equal(beats.at[4], begun + 4 * WATCH_BEAT_MS); /* and is tried again as usual */
}

/* One that took seconds is followed by the next at once, not by all that were missed. */
static void those_that_were_missed_are_not_made_up_for(void **state)
{
        int64_t begun = fixture.now_ms;

        run(3000, 0, 3);
        assert_int_equal(beats.at[1], begun + 3000);
        assert_int_equal(beats.at[2], begun + 6000);
        first_is_slow = true;
        begun = fixture.now_ms;
        run(3000, 0, 4);
        assert_int_equal(beats.at[1], begun + 3000);
        assert_int_equal(beats.at[2], begun + 3000 + WATCH_BEAT_MS);
        assert_int_equal(beats.at[3], begun + 3000 + 2 * WATCH_BEAT_MS);
        first_is_slow = false;
}

/* A hostd that is started anew must not go on with the counter that the neighbours have seen stand still. */
static void each_run_has_a_counter_of_its_own(void **state)
{
        uint64_t first;

        run(0, 0, 2);
        first = beats.counter[0];
        run(0, 0, 2);
        assert_int_not_equal(beats.counter[0], first);
        assert_int_not_equal(beats.counter[0], first + 1);
        assert_int_not_equal(beats.counter[0], first + 2);
}

static int replaced_at_the_third(struct fixture *f, uint64_t counter)
{
        if (++beats.n == 3)
                f->self.replaced = true;
        if (beats.n > 10)
                f->ring.beat_quit = true;
        return 0;
}

/* The counter of a number that another machine has now would say that this one lives. */
static void where_another_machine_has_the_number_none_goes_out(void **state)
{
        struct err err = {0};

        beats.n = 0;
        fixture.ring.beat_quit = false;
        fixture.beat = replaced_at_the_third;
        assert_int_equal(beat_start(&fixture.ctx, &err), 0);
        fixture.thread(fixture.thread_arg);
        assert_int_equal(beats.n, 3);
}

static int refused(struct fixture *f, uint64_t counter)
{
        return -EIO;
}

static void a_start_without_a_first_one_fails(void **state)
{
        struct err err = {0};

        fixture.beat = refused;
        fixture.self.own_write_ms = 0;
        assert_int_equal(beat_start(&fixture.ctx, &err), -EIO);
        assert_null(fixture.thread);
        assert_int_equal(fixture.self.own_write_ms, 0);
        assert_false(beat_running(&fixture.ctx));
}

static void who_may_start_guests(void **state)
{
        struct err err = {0};

        assert_int_equal(self_can_start(&fixture.ctx, &err), 0);
        fixture.now_ms += WATCH_DEAD_MS - 1;
        assert_int_equal(self_can_start(&fixture.ctx, &err), 0);
        fixture.now_ms += 1;
        assert_int_equal(self_can_start(&fixture.ctx, &err), -EAGAIN);
        fixture.self.own_write_ms = fixture.now_ms;
        fixture.self.virt_connected = false;
        assert_int_equal(self_can_start(&fixture.ctx, &err), -EAGAIN);
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, fixture_begin, fixture_end)
        const struct CMUnitTest tests[] = {
            test(one_goes_out_every_half_second),
            test(it_counts_from_its_begin),
            test(one_that_failed_does_not_count),
            test(those_that_were_missed_are_not_made_up_for),
            test(each_run_has_a_counter_of_its_own),
            test(where_another_machine_has_the_number_none_goes_out),
            test(a_start_without_a_first_one_fails),
            test(who_may_start_guests),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
