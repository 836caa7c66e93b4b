/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "hostd/dhcp.h"
#include "hostd/plug/plug.h"
#include "tests/unit/hostd-fixture.h"

/* A guest's loop: what is done after a look, how long it waits, what a failure costs, and when it leaves. */
#define ID fixture_id('a')

static struct {
        struct instance_view view[8]; /* what each look finds; the last one again and again */
        unsigned n_views, looks;
        int look_answer, do_answer;
        char log[512];     /* what was done */
        int64_t at[32];    /* when, on the test's clock */
        unsigned n;        /* entries of `at` */
        int64_t waits[32]; /* how long each wait was to be */
        unsigned n_waits, end_after;
        void (*while_looking)(struct guest *g);
        bool powered_off;            /* libvirt's log says so */
        const char *users_placement; /* made between the look and what comes of it */
        unsigned endings;            /* how often it was asked */
} world;

static int done(const char *word, struct err *err)
{
        size_t n = strlen(world.log);

        snprintf(world.log + n, sizeof(world.log) - n, "%s ", word);
        if (world.n < 32)
                world.at[world.n++] = fixture.now_ms;
        return world.do_answer < 0 ? err_set(err, world.do_answer, "error %d", -world.do_answer) : 0;
}

int __wrap_guest_look(struct guest *g, struct guest_look *ret, struct err *err);
int __wrap_guest_look(struct guest *g, struct guest_look *ret, struct err *err)
{
        unsigned i = world.looks < world.n_views ? world.looks : world.n_views - 1;

        world.looks++;
        if (world.while_looking)
                world.while_looking(g);
        if (world.look_answer < 0)
                return err_set(err, world.look_answer, "look: error %d", -world.look_answer);
        memset(ret, 0, sizeof(*ret));
        assert_int_equal(instance_load(fixture.ctx.store, ID, &ret->instance, NULL), 0);
        ret->view = world.view[i];
        ret->view.now_ms = fixture.now_ms;
        ret->record = ret->view.record;
        ret->lease = (struct lease){ret->view.epoch, ret->view.host};
        return 0;
}

#define ACTION(name)                                                                                        \
        int __wrap_##name(struct guest *g, const struct guest_look *l, struct err *err);                    \
        int __wrap_##name(struct guest *g, const struct guest_look *l, struct err *err)                     \
        {                                                                                                   \
                return done(&#name[strlen("guest_")], err);                                                 \
        }
ACTION(guest_start)
ACTION(guest_stop)
ACTION(guest_migrate)
ACTION(guest_reclaim)

int __wrap_guest_kill(struct guest *g, struct err *err);
int __wrap_guest_kill(struct guest *g, struct err *err)
{
        return done("kill", err);
}

int __wrap_virt_resume(struct virt *v, const char *instance, struct err *err);
int __wrap_virt_resume(struct virt *v, const char *instance, struct err *err)
{
        return done("resume", err);
}

int __wrap_virt_ended(const char *name, struct virt_end *ret, struct err *err);
int __wrap_virt_ended(const char *name, struct virt_end *ret, struct err *err)
{
        world.endings++;
        if (world.users_placement)
                fixture_set(RECORD_INSTANCE, ID, "placement", world.users_placement);
        *ret = (struct virt_end){.off = world.powered_off};
        return 0;
}

bool __wrap_guest_move_settle(struct guest *g, const struct guest_look *l);
bool __wrap_guest_move_settle(struct guest *g, const struct guest_look *l)
{
        return false;
}

void __wrap_plug_look(struct context *ctx, const struct instance_view *v, const char *instance);
void __wrap_plug_look(struct context *ctx, const struct instance_view *v, const char *instance)
{
}

void __wrap_plug_shut(struct context *ctx, const char *instance);
void __wrap_plug_shut(struct context *ctx, const char *instance)
{
}

void __wrap_dhcp_add(struct context *ctx, const char *instance, const char *name, const char *mac,
                     const char *address);
void __wrap_dhcp_add(struct context *ctx, const char *instance, const char *name, const char *mac,
                     const char *address)
{
}

void __wrap_dhcp_remove(struct context *ctx, const char *instance);
void __wrap_dhcp_remove(struct context *ctx, const char *instance)
{
}

int __wrap_clock_gettime(clockid_t id, struct timespec *ret);
int __wrap_clock_gettime(clockid_t id, struct timespec *ret)
{
        ret->tv_sec = fixture.now_ms / 1000;
        ret->tv_nsec = fixture.now_ms % 1000 * 1000000;
        return 0;
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *until);
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *until)
{
        int64_t ms = until->tv_sec * 1000 + until->tv_nsec / 1000000;

        if (world.n_waits < 32)
                world.waits[world.n_waits] = ms - fixture.now_ms;
        if (++world.n_waits >= world.end_after)
                fixture.self.quit = true;
        fixture.now_ms = ms;
        return ETIMEDOUT;
}

static struct instance_view running(void)
{
        return (struct instance_view){.me = 2,
                                      .trusted = true,
                                      .epoch = 1,
                                      .host = 2,
                                      .record = true,
                                      .wanted = WANTED_RUNNING,
                                      .settled = true,
                                      .qemu = QEMU_RUNNING,
                                      .qemu_epoch = 1};
}

static int begin(void **state)
{
        fixture_begin(state);
        memset(&world, 0, sizeof(world));
        world.n_views = 1;
        world.view[0] = running();
        world.end_after = 3;
        fixture.ctx.guests->scanned = true;
        fixture_instance(
            'a', ",\"status\":{\"state\":\"running\",\"host\":2,\"epoch\":1},\"start\":{\"epoch\":1}");
        return 0;
}

/* The guest is gone from the table, and freed, at its end. */
static void run(void)
{
        guest_run(fixture_guest('a'));
        assert_int_equal(fixture.ctx.guests->n, 0);
}

static void nothing_to_do_is_looked_at_now_and_then(void **state)
{
        run();
        assert_string_equal(world.log, "");
        assert_int_equal(world.waits[0], 10000);
        assert_int_equal(world.waits[1], 10000);
}

static void what_stands_or_is_not_trusted_is_looked_at_sooner(void **state)
{
        world.view[0].qemu = QEMU_PAUSED;
        run();
        assert_int_equal(world.waits[0], 1000);
        world.n_waits = 0;
        fixture.self.quit = false;
        world.view[0] = running();
        world.view[0].trusted = false;
        run();
        assert_int_equal(world.waits[0], 1000);
}

static void what_cannot_be_looked_at_is_left_as_it_is(void **state)
{
        world.look_answer = -ETIMEDOUT;
        run();
        assert_string_equal(world.log, "");
        assert_int_equal(world.waits[0], 1000);
}

static void each_action_is_done(void **state)
{
        struct instance_view *v = world.view;

        v[0].wanted = WANTED_STOPPED;
        v[1] = running();
        v[1].restart = true;
        v[2] = running();
        v[2].move_to = 3;
        v[2].move_epoch = 1;
        v[3] = running();
        v[3].entry_source = 2;
        v[3].entry_epoch = 1;
        v[4] = running();
        v[4].qemu = QEMU_PAUSED;
        v[4].qemu_go_on = true;
        v[5] = running();
        v[5].host = 3;
        v[6] = running();
        v[6].qemu = QEMU_NONE;
        v[7] = running();
        world.n_views = 8;
        world.end_after = 20;
        run();
        assert_string_equal(world.log, "stop stop migrate reclaim resume kill start ");
}

static void a_guest_that_is_nobodys_business_leaves(void **state)
{
        world.view[0].host = 3;
        world.view[0].qemu = QEMU_NONE;
        run();
        assert_int_equal(world.n_waits, 0);
        assert_false(fixture.self.quit);
        assert_int_equal(world.looks, 1);
}

static void the_question_ends(struct fixture *f, int ms)
{
        assert_int_equal(f->ctx.guests->n, 1); /* still there */
        if (f->polls == 3)
                f->ctx.guests->list[0]->gates = 0;
}

/* A look beside a question of the gate is worth nothing; until it is answered the guest stays, whoever ends. */
static void not_while_the_gate_asks(void **state)
{
        struct guest *g = fixture_guest('a');

        world.view[0].host = 3;
        world.view[0].qemu = QEMU_NONE;
        g->gates = 1;
        fixture.on_poll = the_question_ends;
        guest_run(g);
        assert_int_equal(world.looks, 0);
        assert_int_equal(world.waits[0], 1000);
        assert_int_equal(fixture.polls, 3);
        assert_int_equal(fixture.ctx.guests->n, 0);
}

static void a_note_comes_in(struct guest *g)
{
        g->wake = world.looks < 3;
}

static void nor_where_a_note_came_in(void **state)
{
        world.view[0].host = 3;
        world.view[0].qemu = QEMU_NONE;
        world.while_looking = a_note_comes_in;
        run();
        assert_int_equal(world.looks, 3);
        assert_int_equal(world.n_waits, 0);
}

static void answered(struct guest *g)
{
        if (world.looks == 1)
                g->gate_serial += 2; /* a question came and went */
        world.while_looking = NULL;
}

static void a_look_during_which_the_gate_answered_is_worth_nothing(void **state)
{
        world.view[0].host = 3; /* an arrival that had not committed yet: to be killed by this look */
        world.view[1] = running();
        world.n_views = 2;
        world.while_looking = answered;
        run();
        assert_string_equal(world.log, "");
        assert_true(world.looks >= 2);
}

static void failed_starts_are_tried_again_with_growing_pauses(void **state)
{
        /* After the third another host is looked for, which takes a turn; there is none. */
        static const int64_t pause[] = {1000, 2000, 4000 + 8000, 16000, 32000, 60000, 60000};

        world.view[0].qemu = QEMU_NONE;
        world.do_answer = -EIO;
        world.end_after = 80;
        run();
        for (unsigned i = 0; i < ARRAY_SIZE(pause); i++)
                assert_int_equal(world.at[i + 1] - world.at[i], pause[i]);
}

static void after_three_failed_starts_another_host_has_it(void **state)
{
        fixture_host(3, "up", 1, "");
        world.view[0].qemu = QEMU_NONE;
        world.do_answer = -EIO;
        world.end_after = 7;
        run();
        assert_string_equal(world.log, "start start start ");
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "placement.host"), "3");
        assert_string_equal(fixture.looks, "3:a ");
        assert_non_null(strstr(fixture.events, "start-handed-on"));
}

/* Each of them, and not the crash that came before them. */
static void a_failed_start_says_why_and_when_the_next_one_comes(void **state)
{
        world.view[1] = running(); /* it crashes, and then cannot start */
        world.view[1].qemu = QEMU_NONE;
        world.n_views = 2;
        world.do_answer = -EIO;
        world.end_after = 6;
        run();
        assert_string_equal(world.log, "start start ");
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "status.state"), "\"failed\"");
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "status.error"), "\"error 5\"");
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "status.tries"), "3");
        assert_string_not_equal(fixture_field(RECORD_INSTANCE, ID, "status.next"), "absent");
        assert_string_equal(fixture.events, "instance-crashed start-failed "); /* told once */
}

/* Its user has named this host: nobody else starts it, and nobody would say so. */
static void a_start_that_waits_for_libvirt_says_so(void **state)
{
        fixture_set(RECORD_INSTANCE, ID, "placement", "{\"host\":2,\"epoch\":1,\"fixed\":true}");
        world.view[0].qemu = QEMU_NONE;
        world.view[0].settled = false;
        world.view[0].no_libvirt_ms = fixture.now_ms - 20000;
        run();
        assert_string_equal(world.log, "");
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "status.state"), "\"failed\"");
        assert_non_null(
            strstr(fixture_field(RECORD_INSTANCE, ID, "status.error"), "its libvirt does not answer"));
        assert_int_equal(world.waits[1], 1000); /* written once, and then it waits */
}

static void a_start_that_is_to_be_asked_again_has_no_pause(void **state)
{
        world.view[0].qemu = QEMU_NONE;
        world.do_answer = -EAGAIN;
        run();
        assert_int_equal(world.waits[0], 1000);
        assert_int_equal(world.waits[1], 1000);
}

/* A guest that ran and is gone, by nobody's wish: its record says so; it starts again after a pause that grows. */
static void a_crash_is_started_again_after_a_pause(void **state)
{
        for (unsigned i = 1; i < 8; i++) {
                world.view[i] = running();
                world.view[i].qemu = i == 4 ? QEMU_RUNNING : QEMU_NONE; /* it runs, and crashes again */
        }
        world.n_views = 8;
        world.end_after = 8;
        run();
        assert_string_equal(world.log, "start start ");
        assert_int_equal(world.waits[2], 1000);
        assert_int_equal(world.waits[6], 2000);
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "status.state"), "\"restarting\"");
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "status.tries"), "2");
        assert_string_equal(fixture.events, "instance-crashed instance-crashed ");
}

/* It has crashed before. */
static void crashed_before(struct guest *g)
{
        if (world.looks == 1) {
                g->crashed = true;
                g->backoff = (struct backoff){.failures = 5, .retry_ms = fixture.now_ms + 1};
        } else if (world.looks == 2) { /* its own wish is no crash */
                assert_false(g->crashed || g->powered_off);
                assert_int_equal(g->backoff.failures, 0);
                assert_int_equal(g->backoff.retry_ms, 0);
        }
}

static void one_that_powered_itself_off_is_written_down(void **state)
{
        world.while_looking = crashed_before;
        world.view[0].qemu = QEMU_NONE;
        world.powered_off = true;
        world.view[1] = world.view[0];
        world.view[1].wanted = WANTED_STOPPED;
        world.n_views = 2;
        strcpy(fixture.self.boot, "");
        run();
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "wanted"), "\"stopped\"");
        assert_string_equal(world.log, "");
        assert_non_null(strstr(fixture.events, "instance-off"));
}

/* Nobody heard how it ended: the log is asked, once for each end. */
static void an_end_is_looked_up_once(void **state)
{
        world.view[0].qemu = QEMU_NONE;
        world.do_answer = -EAGAIN;
        world.end_after = 5;
        run();
        assert_int_equal(world.looks, 5);
        assert_int_equal(world.endings, 1);
}

static void until_somebody_is_asked(struct guest *g)
{
        if (fixture.looks[0])
                fixture.self.quit = true;
}

/* Who was given it and has not claimed it is no target of the next placement. */
static void who_has_not_taken_it_is_not_asked_again(void **state)
{
        fixture_host(3, "up", 1, "");
        fixture_host(4, "up", 1, "");
        fixture_set(RECORD_INSTANCE, ID, "placement", "{\"host\":3,\"epoch\":1}");
        world.view[0].qemu = QEMU_NONE;
        world.view[0].placement_host = 3;
        world.view[0].placement_epoch = 1;
        world.while_looking = until_somebody_is_asked;
        world.end_after = 30;
        run();
        assert_string_equal(fixture.looks, "4:a ");
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "placement.host"), "4");
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "placement.chain.tried"), "[3,2]");
        assert_string_equal(world.log, "");
}

/* What is handed on is the placement that was looked at, and no newer one. */
static void a_placement_of_its_user_is_not_overwritten(void **state)
{
        fixture_host(3, "up", 1, "");
        world.view[0].qemu = QEMU_NONE;
        world.view[0].no_libvirt_ms = fixture.now_ms - 20000;
        fixture_set(RECORD_INSTANCE, ID, "placement",
                    "{\"host\":5,\"epoch\":0}"); /* void: of an older epoch */
        world.users_placement = "{\"host\":5,\"epoch\":1}";
        world.end_after = 1;
        run();
        assert_int_equal(world.endings, 1);
        assert_string_equal(fixture.looks, "");
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "placement.host"), "5");
}

static void event(enum virt_event_kind kind, const char *detail)
{
        guests_event(&fixture.ctx, kind, ID, detail);
}

/* What libvirt tells is noted until the next look, which it wakes. */
static void an_end_is_the_guests_wish_unless_somebody_caused_it(void **state)
{
        struct guest *g = fixture_guest('a');

        g->wake = false;
        event(VIRT_SHUTDOWN, "guest");
        assert_true(g->powered_off && g->ended_event && g->wake);
        event(VIRT_STARTED, "booted"); /* the next run */
        assert_false(g->powered_off);
        assert_string_equal(g->end_word, "");
        event(VIRT_SHUTDOWN, "host"); /* a signal */
        assert_false(g->powered_off);
        g->ending = true; /* hostd's own */
        event(VIRT_SHUTDOWN, "guest");
        assert_false(g->powered_off);
        g->ending = false;
        fixture.self.leaving = true;
        event(VIRT_SHUTDOWN, "guest");
        assert_false(g->powered_off);
        fixture.self.leaving = false;
        event(VIRT_POWERDOWN, ""); /* somebody pressed the button */
        event(VIRT_SHUTDOWN, "guest");
        assert_false(g->powered_off);
        event(VIRT_STARTED, "booted"); /* that was of the run before */
        event(VIRT_SHUTDOWN, "guest");
        assert_true(g->powered_off);
}

static void the_reason_of_an_end_outlives_what_follows_it(void **state)
{
        struct guest *g = fixture_guest('a');

        event(VIRT_STOPPED, "panicked");
        event(VIRT_STOPPED, "destroyed");
        assert_string_equal(g->end_word, "panicked");
        event(VIRT_STARTED, "booted");
        event(VIRT_STOPPED, "crashed");
        assert_string_equal(g->end_word, "crashed");
        assert_true(g->ended_event);
        event(VIRT_STOPPED, "migrated"); /* it runs on elsewhere: no end */
        assert_false(g->ended_event);
}

static void a_stop_by_a_disk_error_is_one_however_many_requests_fail(void **state)
{
        struct guest *g = fixture_guest('a');

        event(VIRT_IO_ERROR, "eio");
        event(VIRT_IO_ERROR, "enospc");
        assert_int_equal(g->stop.errors, 1);
        assert_string_equal(g->io_word, "enospc");
        event(VIRT_RESUMED, "unpaused");
        assert_false(g->io_error);
        event(VIRT_IO_ERROR, "eio");
        assert_int_equal(g->stop.errors, 2);
        event(VIRT_STARTED, "booted");
        assert_false(g->io_error);
}

static void not_all_that_libvirt_tells_is_a_reason_to_look(void **state)
{
        struct guest *g = fixture_guest('a');

        g->wake = false;
        event(VIRT_JOB_ENDED, "completed"); /* at its destination, whose gate comes next */
        event(VIRT_POWERDOWN, "");
        assert_false(g->wake);
        event(VIRT_JOB_ENDED, "failed");
        assert_true(g->wake);
        fixture.spawn_later = true;
        guests_event(&fixture.ctx, VIRT_STARTED, fixture_id('b'), "booted"); /* nobody looks after it yet */
        guests_event(&fixture.ctx, VIRT_STOPPED, fixture_id('c'), "failed");
        assert_non_null(guests_find(fixture.ctx.guests, fixture_id('b')));
        assert_null(guests_find(fixture.ctx.guests, fixture_id('c')));
}

static void what_it_took_is_written_down_after_the_gates_answer(void **state)
{
        struct guest *g = fixture_guest('a');

        g->commit_ns = 5000000;
        guest_run(g);
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "status.commit_ms"), "5.0");
}

static void deleted_disks_go_and_the_record_says_so(void **state)
{
        struct lease l;

        world.view[0].wanted = WANTED_DELETED;
        world.view[0].qemu = QEMU_NONE;
        world.view[1] = (struct instance_view){.me = 2};
        world.n_views = 2;
        fixture_claim('a', 2);
        run();
        assert_int_equal(lease_find(fixture.ctx.store, ID, &l, NULL), -ENOENT);
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "status.state"), "\"deleted\"");
        assert_non_null(strstr(fixture.events, "instance-removed"));
}

/* The record is the last to go: it says where the disks are. */
static void disks_that_are_not_removed_are_not_told_deleted(void **state)
{
        struct lease l;

        world.view[0].wanted = WANTED_DELETED;
        world.view[0].qemu = QEMU_NONE;
        fixture_claim('a', 3); /* since that look */
        run();
        assert_int_equal(lease_find(fixture.ctx.store, ID, &l, NULL), 0);
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "status.state"), "\"running\"");
        assert_null(strstr(fixture.events, "instance-removed"));
}

static void an_end_for_a_restart_is_told_as_no_crash(void **state)
{
        world.view[1] = running();
        world.view[1].qemu = QEMU_NONE;
        world.view[1].restart = true;
        world.n_views = 2;
        run();
        assert_null(strstr(fixture.events, "instance-crashed"));
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, begin, fixture_end)
        const struct CMUnitTest tests[] = {
            test(nothing_to_do_is_looked_at_now_and_then),
            test(what_stands_or_is_not_trusted_is_looked_at_sooner),
            test(what_cannot_be_looked_at_is_left_as_it_is),
            test(each_action_is_done),
            test(a_guest_that_is_nobodys_business_leaves),
            test(not_while_the_gate_asks),
            test(nor_where_a_note_came_in),
            test(a_look_during_which_the_gate_answered_is_worth_nothing),
            test(failed_starts_are_tried_again_with_growing_pauses),
            test(after_three_failed_starts_another_host_has_it),
            test(a_failed_start_says_why_and_when_the_next_one_comes),
            test(a_start_that_waits_for_libvirt_says_so),
            test(a_start_that_is_to_be_asked_again_has_no_pause),
            test(a_crash_is_started_again_after_a_pause),
            test(one_that_powered_itself_off_is_written_down),
            test(an_end_is_looked_up_once),
            test(who_has_not_taken_it_is_not_asked_again),
            test(a_placement_of_its_user_is_not_overwritten),
            test(an_end_is_the_guests_wish_unless_somebody_caused_it),
            test(the_reason_of_an_end_outlives_what_follows_it),
            test(a_stop_by_a_disk_error_is_one_however_many_requests_fail),
            test(not_all_that_libvirt_tells_is_a_reason_to_look),
            test(what_it_took_is_written_down_after_the_gates_answer),
            test(deleted_disks_go_and_the_record_says_so),
            test(disks_that_are_not_removed_are_not_told_deleted),
            test(an_end_for_a_restart_is_told_as_no_crash),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
