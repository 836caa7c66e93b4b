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

#include "hostd/dhcp.h"
#include "hostd/plug/plug.h"
#include "tests/unit/hostd-fixture.h"

/* The steps of a start, and of a source that runs on: which, in which order, and what a failure leaves. */
#define ID fixture_id('a')
#define PID 4711
#define START "aaaaaaaa-0000-4000-8000-000000000001"

static struct {
        char log[512];
        int claim, commit, fence, start, kill, processes, abort; /* answers: 0 is the real one's */
        unsigned n_processes; /* QEMUs of the instance here, until they are killed */
        bool domain;          /* libvirt knows it */
        bool yes;             /* the gate lets it run while libvirt is waited for */
        int64_t appears_ms;   /* when libvirt shows the domain whose start has no answer; 0: it does not */
        const char *domain_start;    /* of which start it is; NULL: of the one under way */
        char starting[UUID_LEN + 1]; /* what the gate would see while libvirt starts it */
        uint64_t starting_epoch;
        char at_kill[UUID_LEN + 1]; /* "?": the same, at the first look for processes after that */
} world;

static void say(const char *word)
{
        size_t n = strlen(world.log);

        snprintf(world.log + n, sizeof(world.log) - n, "%s ", word);
}

static int answer(int r, struct err *err)
{
        return r < 0 ? err_set(err, r, "error %d", -r) : r;
}

int __real_lease_claim(struct store *s, const char *instance, const struct lease *from, unsigned host,
                       bool again, struct lease *ret, struct err *err);
int __wrap_lease_claim(struct store *s, const char *instance, const struct lease *from, unsigned host,
                       bool again, struct lease *ret, struct err *err);
int __wrap_lease_claim(struct store *s, const char *instance, const struct lease *from, unsigned host,
                       bool again, struct lease *ret, struct err *err)
{
        say("claim");
        return world.claim < 0 ? answer(world.claim, err)
                               : __real_lease_claim(s, instance, from, host, again, ret, err);
}

int __real_lease_commit(struct store *s, const char *instance, const struct commit_claim *c,
                        const struct disk_spec *disks, size_t n_disks, struct lease *ret, struct err *err);
int __wrap_lease_commit(struct store *s, const char *instance, const struct commit_claim *c,
                        const struct disk_spec *disks, size_t n_disks, struct lease *ret, struct err *err);
int __wrap_lease_commit(struct store *s, const char *instance, const struct commit_claim *c,
                        const struct disk_spec *disks, size_t n_disks, struct lease *ret, struct err *err)
{
        say("commit");
        assert_false(c->again); /* this hostd has not asked before */
        assert_string_equal(c->last->id, START);
        assert_string_equal(c->start->id, START);
        return world.commit < 0 ? answer(world.commit, err)
                                : __real_lease_commit(s, instance, c, disks, n_disks, ret, err);
}

int __real_lease_fence(struct store *s, const char *instance, const struct lease *mine,
                       const struct start *start, const struct disk_spec *disks, size_t n_disks,
                       struct err *err);
int __wrap_lease_fence(struct store *s, const char *instance, const struct lease *mine,
                       const struct start *start, const struct disk_spec *disks, size_t n_disks,
                       struct err *err);
int __wrap_lease_fence(struct store *s, const char *instance, const struct lease *mine,
                       const struct start *start, const struct disk_spec *disks, size_t n_disks,
                       struct err *err)
{
        say("fence");
        return world.fence < 0 ? answer(world.fence, err)
                               : __real_lease_fence(s, instance, mine, start, disks, n_disks, err);
}

int __wrap_lease_attach(struct store *s, const char *instance, const struct lease *lease,
                        const struct start *start, const struct disk_spec *disks, size_t n_disks,
                        struct attach *ret, struct err *err);
int __wrap_lease_attach(struct store *s, const char *instance, const struct lease *lease,
                        const struct start *start, const struct disk_spec *disks, size_t n_disks,
                        struct attach *ret, struct err *err)
{
        for (size_t i = 0; i < n_disks; i++) {
                ret[i] = (struct attach){.kind = ATTACH_NFS, .uid = start->uid};
                snprintf(ret[i].path, sizeof(ret[i].path), "/export/%s.e%u", instance,
                         (unsigned)lease->epoch);
                strcpy(ret[i].server, "server");
        }
        return 0;
}

void __wrap_start_forget(struct store *s, const char *instance, const struct start *start);
void __wrap_start_forget(struct store *s, const char *instance, const struct start *start)
{
        say("forget");
}

int __wrap_virt_start(struct virt *v, const char *xml, struct err *err);
int __wrap_virt_start(struct virt *v, const char *xml, struct err *err)
{
        struct guest *g = guests_find(fixture.ctx.guests, ID);

        say("start");
        strcpy(world.starting, g->starting.id);
        world.starting_epoch = g->starting_epoch;
        assert_non_null(strstr(xml, world.starting));
        return answer(world.start, err);
}

int __wrap_virt_kill(struct virt *v, const char *instance, struct err *err);
int __wrap_virt_kill(struct virt *v, const char *instance, struct err *err)
{
        say("kill");
        assert_true(guests_find(fixture.ctx.guests, ID)->ending); /* its end is nobody's wish */
        world.domain = false;
        return answer(world.kill, err);
}

int __wrap_virt_processes(struct virt *v, struct virt_domain **ret, size_t *ret_n, struct err *err);
int __wrap_virt_processes(struct virt *v, struct virt_domain **ret, size_t *ret_n, struct err *err)
{
        if (world.processes < 0)
                return answer(world.processes, err);
        say("processes");
        if (strstr(world.log, "dhcp processes") && world.at_kill[0] == '?')
                strcpy(world.at_kill, guests_find(fixture.ctx.guests, ID)->starting.id);
        *ret = calloc(3, sizeof(**ret));
        for (size_t i = 0; i < 3; i++) {
                strcpy((*ret)[i].lease.instance, i < world.n_processes ? ID : fixture_id('b'));
                (*ret)[i].pid = PID + (int)i;
        }
        *ret_n = 3;
        return 0;
}

int __wrap_virt_find(struct virt *v, const char *instance, struct virt_domain *ret, struct err *err);
int __wrap_virt_find(struct virt *v, const char *instance, struct virt_domain *ret, struct err *err)
{
        *ret = (struct virt_domain){.running = true, .pid = PID};
        if (world.appears_ms) {
                snprintf(ret->lease.start.id, sizeof(ret->lease.start.id), "%s",
                         world.domain_start ? world.domain_start : world.starting);
                return fixture.now_ms < world.appears_ms ? answer(-ENOTCONN, err) : 0;
        }
        return world.domain ? 0 : answer(-ENOENT, err);
}

int __wrap_virt_migrate_abort(struct virt *v, const char *instance, struct err *err);
int __wrap_virt_migrate_abort(struct virt *v, const char *instance, struct err *err)
{
        say("abort");
        return answer(world.abort, err);
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *until);
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *until)
{
        fixture.now_ms += 1000;
        if (world.yes)
                guests_find(fixture.ctx.guests, ID)->known_pid = PID;
        return ETIMEDOUT;
}

void __wrap_plug_announce(struct context *ctx, const char *instance, const char *mac, const char *address);
void __wrap_plug_announce(struct context *ctx, const char *instance, const char *mac, const char *address)
{
        say("announce");
}

void __wrap_dhcp_remove(struct context *ctx, const char *instance);
void __wrap_dhcp_remove(struct context *ctx, const char *instance)
{
}

void __wrap_dhcp_add(struct context *ctx, const char *instance, const char *name, const char *mac,
                     const char *address);
void __wrap_dhcp_add(struct context *ctx, const char *instance, const char *name, const char *mac,
                     const char *address)
{
        say("dhcp");
}

static struct guest *g;
static struct guest_look l;

static int begin(void **state)
{
        fixture_begin(state);
        memset(&world, 0, sizeof(world));
        fixture.ctx.capacity.cpus = 4;
        fixture.ctx.capacity.memory = 8ULL << 30;
        fixture.ctx.guests->scanned = true;
        fixture_instance('a', "");
        g = fixture_guest('a');
        return 0;
}

static int end(void **state)
{
        guest_look_done(&l);
        memset(&l, 0, sizeof(l));
        return fixture_end(state);
}

/* As a look finds it before a start, or with a QEMU that runs. */
static void looked(enum qemu_state qemu)
{
        guest_look_done(&l);
        memset(&l, 0, sizeof(l));
        assert_int_equal(instance_load(fixture.ctx.store, ID, &l.instance, NULL), 0);
        assert_int_equal(lease_find(fixture.ctx.store, ID, &l.lease, NULL), 0);
        l.record = true;
        l.view = (struct instance_view){.me = 2, .epoch = l.lease.epoch, .host = l.lease.host, .qemu = qemu};
}

static int start(void)
{
        struct err err = {0};

        int r;

        looked(QEMU_NONE);
        r = guest_start(g, &l, &err);
        if (r < 0 && r != -EAGAIN) { /* as the loop does */
                backoff_start_failed(&g->backoff, false, fixture.now_ms);
                strcpy(g->retry_at, "soon");
                guest_start_failed(g, &l, true, &err);
        }
        return r;
}

static void a_start_goes_by_rule_2(void **state)
{
        struct lease now;

        world.n_processes = 2;
        assert_int_equal(start(), 0);
        /* kill what is here, claim, fence, kill what came meanwhile, then QEMU */
        assert_string_equal(world.log, "processes kill claim forget fence processes dhcp start announce ");
        assert_int_equal(fixture.kills, 4);
        assert_int_equal(lease_find(fixture.ctx.store, ID, &now, NULL), 0);
        assert_true(now.epoch == 1 && now.host == 2);
        assert_true(uuid_valid(world.starting)); /* the gate knew it while libvirt asked */
        assert_int_equal(world.starting_epoch, 1);
        assert_string_equal(g->starting.id, "");
        assert_true(g->ran);
        assert_int_equal(g->backoff.started_ms, fixture.now_ms);
        assert_true(g->promise.held);
        assert_false(g->ending);
}

static void what_cannot_be_killed_is_not_started_beside(void **state)
{
        world.processes = -EIO;
        assert_int_equal(start(), -EIO);
        assert_string_equal(world.log, "");
        world.processes = 0;
        world.kill = -EIO;
        assert_int_equal(start(), -EIO);
        assert_null(strstr(world.log, "claim"));
        world.kill = 0;
        world.n_processes = 1;
        fixture.kill_answer = -EBUSY; /* it hangs in the kernel */
        assert_int_equal(start(), -EBUSY);
        assert_null(strstr(world.log, "claim"));
}

static void without_room_nothing_is_claimed(void **state)
{
        fixture.ctx.capacity.memory = 1 << 20;
        assert_int_equal(start(), -ENOSPC);
        assert_null(strstr(world.log, "claim"));
        assert_false(g->promise.held);
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "status.state"), "\"failed\"");
        fixture.ctx.capacity.memory = 8ULL << 30;
        fixture.ctx.guests->scanned = false; /* it does not know yet what runs here */
        assert_int_equal(start(), -EAGAIN);
        assert_null(strstr(world.log, "claim"));
}

static void a_lost_claim_starts_nothing_and_is_no_failure(void **state)
{
        world.claim = -ESTALE;
        assert_int_equal(start(), 0);
        assert_null(strstr(world.log, "fence"));
        assert_string_equal(fixture.events, "");
        world.claim = -ETIMEDOUT;
        assert_int_equal(start(), -ETIMEDOUT);
        assert_null(strstr(world.log, "fence"));
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "status.error"), "\"error 110\"");
}

static void without_its_fence_no_qemu_starts(void **state)
{
        world.fence = -ETIMEDOUT;
        assert_int_equal(start(), -ETIMEDOUT);
        assert_null(strstr(world.log, "start "));
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "status.state"), "\"failed\"");
        assert_string_equal(fixture.events, "start-failed ");
        assert_false(g->ran);
}

static void a_start_that_failed_leaves_nothing(void **state)
{
        world.start = -EIO;
        assert_int_equal(start(), -EIO);
        assert_string_equal(world.log,
                            "processes kill claim forget fence processes dhcp start processes kill forget ");
        assert_string_equal(g->starting.id, "");
        assert_false(g->ran);
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "status.epoch"), "1");
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "status.error"), "\"error 5\"");
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "status.tries"), "1");
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "status.next"), "\"soon\"");
}

/* Its call does not return. What it starts later the gate refuses, from before the look at what is there. */
static void a_start_that_takes_too_long_is_given_up(void **state)
{
        int64_t begun = fixture.now_ms;

        fixture.spawn_later = true;
        strcpy(world.at_kill, "?");
        assert_int_equal(start(), -ETIME);
        assert_string_equal(world.at_kill, "");
        assert_non_null(strstr(world.log, "dhcp processes processes forget "));
        assert_false(g->ran);
        assert_true(fixture.now_ms > begun);
        fixture.spawned(fixture.spawned_arg); /* at last: nobody waits for it */
        assert_false(g->ran);
}

/* The gate has let it run: it is started, whenever the call returns. */
static void one_that_runs_is_started_though_libvirt_does_not_say_so(void **state)
{
        fixture.spawn_later = true;
        world.yes = true;
        assert_int_equal(start(), 0);
        assert_true(g->ran);
        assert_int_equal(g->known_pid, PID);
        fixture.spawned(fixture.spawned_arg);
}

static int settle(uint64_t start_epoch)
{
        char text[64];
        struct err err = {0};

        snprintf(text, sizeof(text), "{\"id\":\"" START "\",\"epoch\":%u}", (unsigned)start_epoch);
        fixture_set(RECORD_INSTANCE, ID, "start", text);
        fixture_set(RECORD_INSTANCE, ID, "wanted", "\"stopped\"");
        world.log[0] = '\0';
        looked(QEMU_NONE);
        l.view.record = true;
        l.view.wanted = WANTED_STOPPED;
        guest_status_look(g, &l);
        return guest_settle(g, &l, &err);
}

/* "stopped" means that nothing writes: by an epoch of its own, unless it has run here at this one. */
static void it_is_told_stopped_once_nothing_can_write(void **state)
{
        fixture_claim('a', 2);
        fixture_set(RECORD_INSTANCE, ID, "status", "{\"state\":\"running\"}");
        world.fence = -ETIMEDOUT;
        assert_int_equal(settle(0), -ETIMEDOUT);
        assert_string_equal(world.log, "claim fence forget ");
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "status.state"), "\"running\"");
        world.fence = 0;
        world.claim = -ESTALE; /* another host has it by now */
        assert_int_equal(settle(0), -ESTALE);
        assert_string_equal(world.log, "claim ");
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "status.state"), "\"running\"");
        world.claim = 0;
        assert_int_equal(settle(0), 0);
        assert_string_equal(world.log, "claim fence forget ");
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "status.state"), "\"stopped\"");
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "status.epoch"), "3");
        assert_int_equal(settle(3), 0);
        assert_string_equal(world.log, "");
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "status.epoch"), "3");
}

/* libvirtd goes down over the call: what it says when it is here again counts. */
static void a_start_without_an_answer_is_looked_at_until_one_comes(void **state)
{
        world.start = -ENOTCONN;
        world.appears_ms = fixture.now_ms + 3000;
        assert_int_equal(start(), 0);
        assert_true(g->ran);
        assert_in_range(fixture.now_ms, world.appears_ms, world.appears_ms + 200);
        assert_null(strstr(world.log, "start processes kill")); /* nothing was ended */
}

static void another_starts_qemu_is_no_answer(void **state)
{
        int64_t begun = fixture.now_ms;

        world.start = -ETIMEDOUT;
        world.appears_ms = 1;
        world.domain_start = START;
        assert_int_equal(start(), -ETIMEDOUT);
        assert_in_range(fixture.now_ms - begun, 8000, 8200);
        assert_non_null(strstr(world.log, "start processes kill forget "));
        assert_false(g->ran);
}

static void a_domain_that_is_not_there_is_an_answer(void **state)
{
        int64_t begun = fixture.now_ms;

        world.start = -ENOTCONN; /* and libvirt knows none */
        assert_int_equal(start(), -ENOTCONN);
        assert_int_equal(fixture.now_ms, begun);
        assert_non_null(strstr(world.log, "start processes kill forget "));
}

/* Another host may have the room, or the seat of its group, that this one lacks. */
static void what_finds_no_place_here_goes_on_to_the_next(void **state)
{
        fixture_host(3, "up", 1, "");
        fixture_set(RECORD_INSTANCE, ID, "status", "{}");
        fixture_set(RECORD_INSTANCE, ID, "group", "\"web\"");
        strcpy(fixture_guest('b')->seat, "ann/web");
        assert_int_equal(start(), -EEXIST);
        assert_null(strstr(world.log, "claim"));
        assert_string_equal(fixture.looks, "3:a ");
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "placement.host"), "3");
}

/* Only a start that a death asked for is told as a failover. */
static void a_start_is_told_as_what_it_was(void **state)
{
        assert_int_equal(start(), 0);
        assert_string_equal(fixture.events, "instance-started ");
        fixture.events[0] = '\0';
        fixture_set(RECORD_INSTANCE, ID, "placement", "{\"host\":2,\"epoch\":1,\"chain\":{\"tries\":1}}");
        assert_int_equal(start(), 0);
        assert_string_equal(fixture.events, "instance-started ");
        fixture.events[0] = '\0';
        fixture_set(RECORD_INSTANCE, ID, "placement", "{\"host\":2,\"epoch\":2,\"failover\":{\"from\":1}}");
        assert_int_equal(start(), 0);
        assert_string_equal(fixture.events, "failover ");
}

static int reclaim(int commit)
{
        struct err err = {0};

        fixture_set(RECORD_INSTANCE, ID, "start", "{\"id\":\"" START "\",\"epoch\":1}");
        fixture_claim('a', 2);
        world.log[0] = '\0';
        world.commit = commit;
        looked(QEMU_RUNNING);
        strcpy(l.domain.lease.start.id, START);
        return guest_reclaim(g, &l, &err);
}

static void a_source_that_runs_on_commits_and_says_so(void **state)
{
        struct lease now;

        assert_int_equal(reclaim(0), 0);
        assert_string_equal(world.log, "commit ");
        assert_int_equal(lease_find(fixture.ctx.store, ID, &now, NULL), 0);
        assert_int_equal(now.epoch, 2);
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "start.epoch"), "2");
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "start.id"), "\"" START "\"");
}

static void a_source_whose_commit_fails_says_nothing(void **state)
{
        assert_int_equal(reclaim(-ESTALE), 0); /* the destination has committed */
        assert_string_equal(world.log, "commit ");
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "start.epoch"), "1");
        assert_int_equal(reclaim(-ETIMEDOUT), -ETIMEDOUT);
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "start.epoch"), "1");
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)
        const struct CMUnitTest tests[] = {
            test(a_start_goes_by_rule_2),
            test(what_cannot_be_killed_is_not_started_beside),
            test(without_room_nothing_is_claimed),
            test(a_lost_claim_starts_nothing_and_is_no_failure),
            test(without_its_fence_no_qemu_starts),
            test(a_start_that_failed_leaves_nothing),
            test(a_start_that_takes_too_long_is_given_up),
            test(one_that_runs_is_started_though_libvirt_does_not_say_so),
            test(it_is_told_stopped_once_nothing_can_write),
            test(a_start_without_an_answer_is_looked_at_until_one_comes),
            test(another_starts_qemu_is_no_answer),
            test(a_domain_that_is_not_there_is_an_answer),
            test(what_finds_no_place_here_goes_on_to_the_next),
            test(a_start_is_told_as_what_it_was),
            test(a_source_that_runs_on_commits_and_says_so),
            test(a_source_whose_commit_fails_says_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
