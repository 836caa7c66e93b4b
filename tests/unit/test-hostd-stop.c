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

#include "hostd/record.h"
#include "migrate/stop.h"
#include "tests/unit/hostd-fixture.h"

/* The wait for a guest that was asked to power off: what ends it, and what becomes of the guest then. */
#define ID fixture_id('a')
#define PID 4711

static struct {
        char log[512];
        int find, shutdown, kill; /* libvirt's answers */
        bool running;
        const char *reason;  /* why it stands */
        bool process;        /* its QEMU is here */
        int unread;          /* so many reads of its record fail, beginning with the first */
        void (*each)(void);  /* at each wait, which has passed a second */
        void (*since)(void); /* between the look and what it has decided */
} world;
static struct guest *g;
static struct guest_look l;

static int answer(int r, struct err *err)
{
        return r < 0 ? err_set(err, r, "error %d", -r) : r;
}

int __wrap_virt_find(struct virt *v, const char *instance, struct virt_domain *ret, struct err *err);
int __wrap_virt_find(struct virt *v, const char *instance, struct virt_domain *ret, struct err *err)
{
        *ret = (struct virt_domain){.running = world.running, .pid = PID};
        strcpy(ret->reason, world.reason);
        return answer(world.find, err);
}

int __wrap_virt_processes(struct virt *v, struct virt_domain **ret, size_t *ret_n, struct err *err);
int __wrap_virt_processes(struct virt *v, struct virt_domain **ret, size_t *ret_n, struct err *err)
{
        *ret = calloc(2, sizeof(**ret));
        strcpy((*ret)[0].lease.instance, fixture_id('b'));
        (*ret)[0].pid = 1;
        strcpy((*ret)[1].lease.instance, ID);
        (*ret)[1].pid = PID;
        *ret_n = 1 + world.process;
        return 0;
}

int __wrap_virt_shutdown(struct virt *v, const char *instance, struct err *err);
int __wrap_virt_shutdown(struct virt *v, const char *instance, struct err *err)
{
        assert_true(g->ending);
        strcat(world.log, "shutdown ");
        return answer(world.shutdown, err);
}

int __wrap_virt_kill(struct virt *v, const char *instance, struct err *err);
int __wrap_virt_kill(struct virt *v, const char *instance, struct err *err)
{
        assert_true(g->ending);
        strcat(world.log, "kill ");
        return answer(world.kill, err);
}

int __real_instance_load(struct store *s, const char *id, struct instance *ret, struct err *err);
int __wrap_instance_load(struct store *s, const char *id, struct instance *ret, struct err *err);
int __wrap_instance_load(struct store *s, const char *id, struct instance *ret, struct err *err)
{
        if (world.unread > 0 && world.unread--)
                return answer(-EIO, err);
        return __real_instance_load(s, id, ret, err);
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *until);
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *until)
{
        fixture.now_ms += 1000;
        if (world.each)
                world.each();
        return ETIMEDOUT;
}

static int begin(void **state)
{
        fixture_begin(state);
        memset(&world, 0, sizeof(world));
        world.running = world.process = true;
        world.reason = "";
        fixture_instance('a', "");
        fixture_claim('a', 2);
        g = fixture_guest('a');
        return 0;
}

static int end(void **state)
{
        guest_look_done(&l);
        memset(&l, 0, sizeof(l));
        return fixture_end(state);
}

/* As it is wanted, and what libvirt says now. Returns how long the stop took, ms. */
static int64_t stop(int expected)
{
        int64_t begun = fixture.now_ms;
        struct err err = {0};

        guest_look_done(&l);
        memset(&l, 0, sizeof(l));
        assert_int_equal(__real_instance_load(fixture.ctx.store, ID, &l.instance, NULL), 0);
        assert_int_equal(lease_find(fixture.ctx.store, ID, &l.lease, NULL), 0);
        l.view = (struct instance_view){.me = 2,
                                        .record = true,
                                        .epoch = l.lease.epoch,
                                        .host = 2,
                                        .wanted = l.instance.wanted,
                                        .leave = g->leave,
                                        .qemu = world.running ? QEMU_RUNNING : QEMU_PAUSED};
        g->ran = true;
        if (world.since)
                world.since();
        assert_int_equal(guest_stop(g, &l, &err), expected);
        return fixture.now_ms - begun;
}

static void want(const char *word)
{
        fixture_set(RECORD_INSTANCE, ID, "wanted", word);
}

static void powers_off(void)
{
        world.find = -ENOENT;
        world.process = false;
        g->ended_event = true;
}

static void what_powers_off_is_taken_out_of_libvirt(void **state)
{
        want("\"stopped\"");
        world.each = powers_off;
        assert_int_equal(stop(0), 1000);
        assert_string_equal(world.log, "shutdown kill ");
        assert_int_equal(fixture.kills, 0);
        assert_string_equal(fixture.events, "instance-stopped ");
        assert_int_equal(g->ended_epoch, 2); /* of epoch 1, plus one: this end is no news to the next look */
        assert_false(g->ran);
}

static unsigned seconds;

static void count(void)
{
        if (++seconds == 9)
                powers_off();
}

/* One that boots has not heard the first time. */
static void a_guest_is_asked_again_every_four_seconds(void **state)
{
        want("\"stopped\"");
        seconds = 0;
        world.each = count;
        assert_int_equal(stop(0), 9000);
        assert_string_equal(world.log, "shutdown shutdown shutdown kill ");
}

static void it_is_suspended(void)
{
        world.running = false;
        world.reason = "user";
}

/* Whose end only the network asks for stays where it stands; whose user wants it off is ended. */
static void one_that_stands_meanwhile_is_ended_where_its_end_is_wished(void **state)
{
        world.each = it_is_suspended;
        assert_int_equal(stop(0), 1000);
        assert_string_equal(world.log, "shutdown ");
        assert_int_equal(g->ended_epoch, 0);
        assert_false(g->ending);
        world.log[0] = '\0';
        world.running = true;
        want("\"stopped\"");
        assert_int_equal(stop(0), 1000);
        assert_string_equal(world.log, "shutdown kill ");
        world.running = true;
        want("\"running\"");
        g->leave = true; /* its host goes down */
        assert_int_equal(stop(0), 1000);
        assert_int_equal(fixture.kills, 2);
}

static void the_force_of_an_earlier_stop_is_over(void **state)
{
        fixture_set(RECORD_INSTANCE, ID, "stop_force", "true");
        world.each = powers_off;
        assert_int_equal(stop(0), 1000);
        assert_string_equal(world.log, "shutdown kill ");
}

static void the_wish_goes(void)
{
        want("\"running\"");
        world.unread = 1000; /* and nobody can read that */
}

/* A record that cannot be read is no reason to give up a stop that somebody asked for, nor to begin one by force. */
static void a_record_that_cannot_be_read_changes_no_wish(void **state)
{
        want("\"stopped\"");
        fixture_set(RECORD_INSTANCE, ID, "stop_force", "false");
        world.each = the_wish_goes;
        assert_int_equal(stop(0), STOP_PATIENCE_MS);
        assert_int_equal(fixture.killed, PID);
        assert_string_equal(fixture.events, "instance-stopped ");
}

static void it_stands_and_nobody_can_read_its_record(void)
{
        world.running = false;
        world.reason = "ioerror";
        world.unread = 1000;
}

static void nor_where_it_stands(void **state)
{
        want("\"stopped\"");
        world.each = it_stands_and_nobody_can_read_its_record;
        assert_int_equal(stop(0), 1000);
        assert_int_equal(fixture.killed, PID); /* its user wants it off, as was read before */
}

static void its_user_has_no_patience(void)
{
        want("\"stopped\"");
        fixture_set(RECORD_INSTANCE, ID, "stop_force", "true");
}

static void it_is_to_be_deleted(void)
{
        want("\"deleted\"");
}

static void the_host_has_no_time_left(void)
{
        g->leave_at_once = true;
}

static void it_is_started_anew(void)
{
        fixture_set(RECORD_INSTANCE, ID, "restart", "1");
        fixture_set(RECORD_INSTANCE, ID, "stop_force", "true");
}

static void a_wait_ends_at_once_where_its_wish_changes(void **state)
{
        void (*const changes[])(void) = {its_user_has_no_patience, it_is_to_be_deleted,
                                         the_host_has_no_time_left, it_is_started_anew};

        for (unsigned i = 0; i < ARRAY_SIZE(changes); i++) {
                g->leave = true;
                want("\"running\"");
                fixture_set(RECORD_INSTANCE, ID, "stop_force", "false");
                g->leave_at_once = false;
                fixture.kills = 0;
                world.each = changes[i];
                assert_int_equal(stop(0), 1000);
                assert_int_equal(fixture.kills, 1);
        }
}

static void its_user_wants_it_to_run(void)
{
        want("\"running\"");
}

/* The look that decided may be seconds old. */
static void a_stop_that_was_taken_back_ends_nothing(void **state)
{
        want("\"stopped\"");
        fixture_set(RECORD_INSTANCE, ID, "stop_force", "true");
        world.since = its_user_wants_it_to_run;
        assert_int_equal(stop(0), 0);
        assert_string_equal(world.log, "");
        assert_string_equal(fixture.events, "");
        assert_int_equal(fixture.kills, 0);
        assert_int_equal(g->ended_epoch, 0);
        assert_false(g->ending);
        want("\"stopped\"");
        world.since = the_wish_goes; /* where nobody can read that, the wish stays */
        assert_int_equal(stop(0), 0);
        assert_int_equal(fixture.kills, 1);
}

static void what_is_forced_is_not_asked(void **state)
{
        g->leave = g->leave_at_once = true;
        assert_int_equal(stop(0), 0);
        assert_string_equal(world.log, "kill ");
        world.log[0] = '\0';
        g->leave_at_once = false;
        want("\"deleted\"");
        assert_int_equal(stop(0), 0);
        assert_string_equal(world.log, "kill ");
        assert_int_equal(fixture.kills, 2);
}

static void what_stands_is_not_asked(void **state)
{
        want("\"stopped\"");
        world.running = false;
        world.reason = "ioerror";
        assert_int_equal(stop(0), 0);
        assert_string_equal(world.log, "kill ");
}

static void another_host_has_claimed_it(void)
{
        struct lease now;

        assert_int_equal(lease_find(fixture.ctx.store, ID, &now, NULL), 0);
        if (now.host == 2)
                fixture_claim('a', 3);
}

/* The next look ends it, and says why. */
static void a_disk_that_has_moved_on_ends_the_wait(void **state)
{
        want("\"stopped\"");
        world.each = another_host_has_claimed_it;
        assert_int_equal(stop(0), 1000);
        assert_string_equal(world.log, "shutdown ");
        assert_int_equal(fixture.kills, 0);
        assert_int_equal(g->ended_epoch, 0);
        assert_true(g->ending); /* until then its end is still ours */
}

static void a_question_without_an_answer_may_have_been_heard(void **state)
{
        want("\"stopped\"");
        world.shutdown = -ETIMEDOUT;
        world.each = powers_off;
        assert_int_equal(stop(0), 1000);
        assert_string_equal(world.log, "shutdown kill ");
}

static void one_that_cannot_be_asked_is_ended(void **state)
{
        want("\"stopped\"");
        world.shutdown = -EINVAL;
        assert_int_equal(stop(0), 0);
        assert_string_equal(world.log, "shutdown kill ");
        assert_int_equal(fixture.killed, PID);
}

/* Its process, not libvirt's word, says whether it is gone. */
static void one_that_does_not_die_is_not_told_stopped(void **state)
{
        struct err err = {0};

        want("\"deleted\"");
        fixture.kill_answer = -ETIMEDOUT;
        stop(-EBUSY);
        assert_string_equal(fixture.events, "");
        fixture.kill_answer = 0;
        world.kill = -ENOTCONN; /* the kernel has shown that it is gone */
        assert_int_equal(guest_kill(g, &err), 0);
        world.kill = -EINVAL;
        assert_int_equal(guest_kill(g, &err), -EINVAL);
        assert_false(g->ending);
}

static void an_end_leaves_nothing_to_be_judged(void **state)
{
        struct err err = {0};

        g->io_error = g->powered_off = g->ended_event = g->ran = true;
        g->known_pid = PID;
        g->stop.errors = 3;
        assert_int_equal(guest_kill(g, &err), 0);
        assert_false(g->io_error || g->powered_off || g->ended_event || g->ran || g->ending);
        assert_int_equal(g->known_pid, 0);
        assert_int_equal(g->stop.errors, 0);
}

static void hostd_ends(void)
{
        if (++seconds == 2)
                fixture.self.quit = true;
}

static void a_hostd_that_ends_meanwhile_leaves_it(void **state)
{
        want("\"stopped\"");
        seconds = 0;
        world.each = hostd_ends;
        assert_int_equal(stop(0), 2000);
        assert_string_equal(world.log, "shutdown ");
        assert_int_equal(g->ended_epoch, 0);
        assert_string_equal(fixture.events, "");
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)
        const struct CMUnitTest tests[] = {
            test(what_powers_off_is_taken_out_of_libvirt),
            test(a_guest_is_asked_again_every_four_seconds),
            test(one_that_stands_meanwhile_is_ended_where_its_end_is_wished),
            test(the_force_of_an_earlier_stop_is_over),
            test(a_record_that_cannot_be_read_changes_no_wish),
            test(nor_where_it_stands),
            test(a_wait_ends_at_once_where_its_wish_changes),
            test(a_stop_that_was_taken_back_ends_nothing),
            test(what_is_forced_is_not_asked),
            test(what_stands_is_not_asked),
            test(a_disk_that_has_moved_on_ends_the_wait),
            test(a_question_without_an_answer_may_have_been_heard),
            test(one_that_cannot_be_asked_is_ended),
            test(one_that_does_not_die_is_not_told_stopped),
            test(an_end_leaves_nothing_to_be_judged),
            test(a_hostd_that_ends_meanwhile_leaves_it),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
