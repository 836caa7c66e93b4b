/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/hostd-fixture.h"

/* What the rest of hostd leaves with a guest's thread, and may know of it; and what its record says of its state. */
#define ID fixture_id('a')

static struct guest *g;

void __wrap_dhcp_remove(struct context *ctx, const char *instance);
void __wrap_dhcp_remove(struct context *ctx, const char *instance)
{
}

static int begin(void **state)
{
        fixture_begin(state);
        fixture_instance('a', ",\"status\":{\"state\":\"running\",\"host\":2,\"epoch\":1}");
        fixture_claim('a', 2);
        g = fixture_guest('a');
        fixture_guest('b');
        g->wake = g->busy = false;
        return 0;
}

static void a_guest_that_is_to_leave_is_woken(void **state)
{
        guests_leave(&fixture.ctx, ID, false);
        assert_true(g->leave && g->wake);
        assert_false(g->leave_at_once);
        guests_leave(&fixture.ctx, ID, true);
        assert_true(g->leave_at_once);
        guests_leave(&fixture.ctx, ID, false); /* what was in a hurry stays so */
        assert_true(g->leave_at_once);
        assert_false(guests_find(fixture.ctx.guests, fixture_id('b'))->leave);
        guests_leave(&fixture.ctx, fixture_id('c'), true); /* there is none */
        assert_int_equal(fixture.ctx.guests->n, 2);
}

static void one_with_a_note_is_busy_before_it_has_begun(void **state)
{
        assert_false(guests_busy(&fixture.ctx, ID));
        g->wake = true;
        assert_true(guests_busy(&fixture.ctx, ID));
        g->wake = false;
        g->busy = true;
        assert_true(guests_busy(&fixture.ctx, ID));
        assert_false(guests_busy(&fixture.ctx, fixture_id('c')));
}

static void only_what_was_seen_running_can_move(void **state)
{
        assert_false(guests_movable(&fixture.ctx, ID));
        g->runs = true;
        assert_true(guests_movable(&fixture.ctx, ID));
        assert_false(guests_movable(&fixture.ctx, fixture_id('b')));
        assert_false(guests_movable(&fixture.ctx, fixture_id('c')));
}

static void there_is_one_guest_for_an_instance(void **state)
{
        struct guest *c;

        assert_ptr_equal(guests_get(&fixture.ctx, ID), g);
        assert_true(g->wake);
        fixture.spawn_later = true;
        c = guests_get(&fixture.ctx, fixture_id('c'));
        assert_non_null(c);
        assert_ptr_equal(fixture.spawned_arg, c);
        assert_ptr_equal(guests_get(&fixture.ctx, fixture_id('c')), c);
        assert_int_equal(fixture.ctx.guests->n, 3);
        assert_true(c->early); /* the first scan is not over */
        guests_scanned(&fixture.ctx);
        assert_false(guests_get(&fixture.ctx, fixture_id('d'))->early);
        fixture.self.quit = true; /* none is made any more */
        assert_null(guests_get(&fixture.ctx, fixture_id('e')));
        assert_int_equal(fixture.ctx.guests->n, 4);
        guests_drop(fixture.ctx.guests, c);
        assert_null(guests_find(fixture.ctx.guests, fixture_id('c')));
        assert_non_null(guests_find(fixture.ctx.guests, fixture_id('d')));
        assert_int_equal(fixture.ctx.guests->n, 3);
        guest_free(c);
}

static void an_event_of_none_makes_one_where_something_runs(void **state)
{
        fixture.spawn_later = true;
        guests_event(&fixture.ctx, VIRT_STOPPED, fixture_id('c'), "crashed");
        guests_event(&fixture.ctx, VIRT_SHUTDOWN, fixture_id('c'), "guest");
        guests_event(&fixture.ctx, VIRT_IO_ERROR, fixture_id('c'), "eio");
        assert_int_equal(fixture.ctx.guests->n, 2);
        guests_event(&fixture.ctx, VIRT_STARTED, fixture_id('c'), "booted");
        assert_non_null(guests_find(fixture.ctx.guests, fixture_id('c')));
        guests_event(&fixture.ctx, VIRT_RESUMED, fixture_id('d'), "unpaused");
        assert_non_null(guests_find(fixture.ctx.guests, fixture_id('d')));
        assert_int_equal(fixture.ctx.guests->n, 4);
}

/* Room is promised once every guest that the first scan found was looked at: a look without an answer is none. */
static void a_look_without_an_answer_tells_nothing(void **state)
{
        guest_admission_looked(g, -ETIMEDOUT);
        assert_false(g->looked);
        guest_admission_looked(g, -ENOTCONN);
        assert_false(g->looked);
        guest_admission_looked(g, 0);
        assert_true(g->looked);
        g->looked = false;
        guest_admission_looked(g, -EBADMSG); /* a record that is damaged holds up nobody else */
        assert_true(g->looked);
}

static struct guest_look l;

/* As it is told now; the record says what was told last. */
static const char *status(const struct instance_view *v)
{
        guest_look_done(&l);
        memset(&l, 0, sizeof(l));
        assert_int_equal(instance_load(fixture.ctx.store, ID, &l.instance, NULL), 0);
        assert_int_equal(lease_find(fixture.ctx.store, ID, &l.lease, NULL), 0);
        l.record = true;
        l.view = *v;
        guest_status_look(g, &l);
        return l.state;
}

static void settle(void)
{
        struct err err = {0};

        fixture.events[0] = '\0';
        assert_int_equal(guest_settle(g, &l, &err), 0);
}

static int end(void **state)
{
        guest_look_done(&l);
        memset(&l, 0, sizeof(l));
        return fixture_end(state);
}

static struct instance_view view(enum qemu_state qemu, enum health_pause pause)
{
        return (struct instance_view){.me = 2,
                                      .record = true,
                                      .trusted = true,
                                      .epoch = 1,
                                      .host = 2,
                                      .wanted = WANTED_RUNNING,
                                      .qemu = qemu,
                                      .qemu_epoch = 1,
                                      .pause = pause};
}

static void why_a_guest_stands_is_told_once_and_its_end_too(void **state)
{
        struct instance_view v = view(QEMU_PAUSED, PAUSE_ERROR);

        strcpy(g->io_word, "eio");
        assert_string_equal(status(&v), "paused");
        assert_string_equal(l.reason, "disk error: eio");
        assert_false(l.view.settled);
        settle();
        assert_string_equal(fixture.events, "instance-paused ");
        assert_string_equal(status(&v), "paused");
        assert_true(l.view.settled);
        strcpy(g->io_word, "enospc");
        status(&v);
        assert_string_equal(l.reason, "storage full");
        assert_false(l.view.settled); /* another reason is news */
        g->io_word[0] = '\0';
        status(&v);
        assert_string_equal(l.reason, "disk error");
        v.pause = PAUSE_SUSPENDED;
        status(&v);
        assert_string_equal(l.reason, "suspended on its host");
        settle();
        assert_string_equal(fixture.events, "instance-paused ");
        v = view(QEMU_RUNNING, PAUSE_NONE);
        assert_string_equal(status(&v), "running");
        settle();
        assert_string_equal(fixture.events, "instance-resumed ");
        status(&v);
        assert_true(l.view.settled);
        settle();
        assert_string_equal(fixture.events, ""); /* it ran before */
}

/* It runs again in a moment. */
static void a_pause_in_passing_is_none(void **state)
{
        struct instance_view v = view(QEMU_PAUSED, PAUSE_PASSING);

        assert_string_equal(status(&v), "running");
        assert_true(l.view.settled);
}

static void a_guest_that_crashed_says_when_it_comes_back(void **state)
{
        struct instance_view v = view(QEMU_NONE, PAUSE_NONE);

        g->crashed = true;
        g->backoff.failures = 3;
        strcpy(g->crash, "its kernel panicked");
        assert_string_equal(status(&v), "restarting");
        assert_string_equal(l.reason, "its kernel panicked");
        assert_int_equal(l.tries, 3);
        strcpy(g->retry_at, "soon");
        settle();
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "status.tries"), "3");
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "status.next"), "\"soon\"");
        status(&v);
        assert_true(l.view.settled);
        g->backoff.failures = 4;
        status(&v);
        assert_false(l.view.settled);
        v.wanted = WANTED_STOPPED; /* its user does not want it back */
        assert_string_equal(status(&v), "stopped");
        g->crashed = false;
        v.wanted = WANTED_RUNNING;
        assert_string_equal(status(&v), "stopped");
        assert_string_equal(l.reason, "");
}

static void since_when_is_of_the_state_and_its_reason(void **state)
{
        struct instance_view v = view(QEMU_RUNNING, PAUSE_NONE);

        fixture_set(RECORD_INSTANCE, ID, "status.since", "\"long ago\"");
        status(&v);
        settle();
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "status.since"), "\"long ago\"");
        v = view(QEMU_PAUSED, PAUSE_SUSPENDED);
        status(&v);
        settle();
        assert_string_not_equal(fixture_field(RECORD_INSTANCE, ID, "status.since"), "\"long ago\"");
        fixture_set(RECORD_INSTANCE, ID, "status.since", "\"long ago\"");
        v.pause = PAUSE_OTHER;
        status(&v);
        settle();
        assert_string_not_equal(fixture_field(RECORD_INSTANCE, ID, "status.since"), "\"long ago\"");
}

static void of_another_epoch_or_host_a_word_is_not_settled(void **state)
{
        struct instance_view v = view(QEMU_RUNNING, PAUSE_NONE);

        status(&v);
        assert_true(l.view.settled);
        fixture_set(RECORD_INSTANCE, ID, "status.epoch", "2");
        status(&v);
        assert_false(l.view.settled);
        fixture_set(RECORD_INSTANCE, ID, "status.epoch", "1");
        fixture_set(RECORD_INSTANCE, ID, "status.host", "3");
        status(&v);
        assert_false(l.view.settled);
        settle();
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "status.host"), "2");
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "status.epoch"), "1");
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)
        const struct CMUnitTest tests[] = {
            test(a_guest_that_is_to_leave_is_woken),
            test(one_with_a_note_is_busy_before_it_has_begun),
            test(only_what_was_seen_running_can_move),
            test(there_is_one_guest_for_an_instance),
            test(an_event_of_none_makes_one_where_something_runs),
            test(a_look_without_an_answer_tells_nothing),
            test(why_a_guest_stands_is_told_once_and_its_end_too),
            test(a_pause_in_passing_is_none),
            test(a_guest_that_crashed_says_when_it_comes_back),
            test(since_when_is_of_the_state_and_its_reason),
            test(of_another_epoch_or_host_a_word_is_not_settled),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
