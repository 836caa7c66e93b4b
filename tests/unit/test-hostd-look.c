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

#include "hostd/room.h"
#include "migrate/watch.h"
#include "tests/unit/hostd-fixture.h"

/* What one look makes of the record, the name on the storage, libvirt's word and the processes. */
#define ID fixture_id('a')
#define PID 4711
#define START "aaaaaaaa-0000-4000-8000-000000000001"
#define OTHER "aaaaaaaa-0000-4000-8000-000000000002"
#define ATTEMPT "bbbbbbbb-0000-4000-8000-000000000001"

static struct {
        int find; /* virt_find()'s answer */
        struct virt_domain domain;
        int processes; /* virt_processes()' answer */
        bool process;  /* a QEMU of the instance is among them */
        unsigned finds;
        bool appears; /* libvirt knows it at the second question */
} libvirt;

int __wrap_virt_find(struct virt *v, const char *instance, struct virt_domain *ret, struct err *err);
int __wrap_virt_processes(struct virt *v, struct virt_domain **ret, size_t *ret_n, struct err *err);

int __wrap_virt_find(struct virt *v, const char *instance, struct virt_domain *ret, struct err *err)
{
        int r = ++libvirt.finds > 1 && libvirt.appears ? 0 : libvirt.find;

        assert_string_equal(instance, ID);
        if (r == 0)
                *ret = libvirt.domain;
        return r < 0 ? err_set(err, r, "libvirt: error %d", -r) : r;
}

int __wrap_virt_processes(struct virt *v, struct virt_domain **ret, size_t *ret_n, struct err *err)
{
        if (libvirt.processes < 0)
                return err_set(err, libvirt.processes, "processes: error %d", -libvirt.processes);
        *ret = calloc(2, sizeof(**ret));
        *ret_n = 1 + libvirt.process;
        strcpy((*ret)[0].lease.instance, fixture_id('b'));
        (*ret)[0].pid = 1;
        strcpy((*ret)[1].lease.instance, ID);
        (*ret)[1].pid = PID;
        return libvirt.processes;
}

static int room = -EOPNOTSUPP; /* store_room()'s answer */
static unsigned rooms;         /* how often it was asked */

int __wrap_store_room(struct store *s, struct err *err);
int __wrap_store_room(struct store *s, struct err *err)
{
        rooms++;
        return room < 0 ? err_set(err, room, "room: error %d", -room) : room;
}

static int may_write;     /* lease_may_write()'s answer */
static unsigned asked_it; /* how often it was asked */

int __wrap_lease_may_write(struct store *s, const char *instance, const struct lease *mine,
                           const struct start *start, const struct disk_spec *disks, size_t n_disks,
                           struct err *err);
int __wrap_lease_may_write(struct store *s, const char *instance, const struct lease *mine,
                           const struct start *start, const struct disk_spec *disks, size_t n_disks,
                           struct err *err)
{
        asked_it++;
        assert_int_equal(mine->epoch, 1);
        assert_string_equal(start->id, START); /* of the QEMU that stands */
        return may_write < 0 ? err_set(err, may_write, "error %d", -may_write) : 0;
}

/* It runs here as it should, at epoch 1 of host 2. */
static struct guest *running(void)
{
        fixture_instance('a', ",\"start\":{\"id\":\"" START "\",\"epoch\":1},"
                              "\"status\":{\"state\":\"running\",\"host\":2,\"epoch\":1}");
        fixture_claim('a', 2);
        memset(&libvirt, 0, sizeof(libvirt));
        libvirt.domain.running = true;
        libvirt.domain.pid = PID;
        strcpy(libvirt.domain.lease.instance, ID);
        strcpy(libvirt.domain.lease.start.id, START);
        libvirt.process = true;
        return fixture_guest('a');
}

static int look(struct guest *g, struct instance_view *ret)
{
        struct guest_look l = {0};
        struct err err = {0};
        int r = guest_look(g, &l, &err);

        if (r == 0)
                guest_status_look(g, &l);
        *ret = l.view;
        if (r == 0)
                guest_look_done(&l);
        else
                assert_int_not_equal(err.text[0], 0);
        libvirt.finds = 0;
        return r;
}

static void a_guest_that_runs_is_seen_as_it_is(void **state)
{
        struct guest *g = running();
        struct instance_view v;

        assert_int_equal(look(g, &v), 0);
        assert_true(v.record && v.trusted && v.settled);
        assert_int_equal(v.me, 2);
        assert_int_equal(v.epoch, 1);
        assert_int_equal(v.host, 2);
        assert_int_equal(v.qemu, QEMU_RUNNING);
        assert_int_equal(v.qemu_epoch, 1);
        assert_false(v.qemu_of_entry || v.qemu_refused || v.qemu_go_on || v.guest_powered_off || v.restart);
        assert_int_equal(instance_decide(&v), ACTION_NONE);
        assert_int_equal(g->known_pid, PID); /* adopted: it may go on after a pause */
}

static void of_another_start_nothing_is_known(void **state)
{
        struct guest *g = running();
        struct instance_view v;

        strcpy(libvirt.domain.lease.start.id, OTHER);
        assert_int_equal(look(g, &v), 0);
        assert_int_equal(v.qemu_epoch, 0);
        assert_int_equal(instance_decide(&v), ACTION_KILL);
        assert_int_equal(g->known_pid, 0);
        strcpy(libvirt.domain.lease.start.id, ""); /* an empty id is no start's */
        fixture_set(RECORD_INSTANCE, ID, "start", "{\"epoch\":1}");
        assert_int_equal(look(g, &v), 0);
        assert_int_equal(v.qemu_epoch, 0);
}

static void only_what_owns_the_name_is_adopted(void **state)
{
        struct guest *g = running();
        struct instance_view v;

        libvirt.domain.running = false; /* it starts: the gate has not said yes */
        assert_int_equal(look(g, &v), 0);
        assert_int_equal(v.qemu, QEMU_PAUSED);
        assert_int_equal(g->known_pid, 0);
        libvirt.domain.running = true;
        fixture_claim('a', 3);
        assert_int_equal(look(g, &v), 0);
        assert_int_equal(v.host, 3);
        assert_int_equal(g->known_pid, 0);
        fixture_claim('a', 2); /* mine again, and this QEMU is of before */
        assert_int_equal(look(g, &v), 0);
        assert_int_equal(v.epoch, 3);
        assert_int_equal(v.qemu_epoch, 1);
        assert_int_equal(g->known_pid, 0);
        assert_int_equal(instance_decide(&v), ACTION_KILL);
}

static void a_source_that_stands_with_its_entry_is_adopted(void **state)
{
        struct guest *g = running();
        struct instance_view v;

        fixture_set(RECORD_INSTANCE, ID, "migration",
                    "{\"attempt\":\"" ATTEMPT "\",\"source\":2,\"destination\":3,\"epoch\":1}");
        libvirt.domain.running = false;
        assert_int_equal(look(g, &v), 0);
        assert_int_equal(g->known_pid, PID);
        assert_int_equal(v.entry_source, 2);
        assert_int_equal(v.entry_destination, 3);
        assert_int_equal(v.entry_epoch, 1);
        assert_int_equal(instance_decide(&v), ACTION_RECLAIM);
}

static void an_arrival_is_known_by_its_attempt(void **state)
{
        struct guest *g = running();
        struct instance_view v;

        fixture_set(RECORD_INSTANCE, ID, "migration",
                    "{\"attempt\":\"" ATTEMPT "\",\"source\":3,\"destination\":2,\"epoch\":2}");
        fixture_claim('a', 3);
        libvirt.domain.running = false;
        strcpy(libvirt.domain.lease.start.id, OTHER);
        strcpy(libvirt.domain.lease.attempt, ATTEMPT);
        assert_int_equal(look(g, &v), 0);
        assert_true(v.qemu_of_entry);
        assert_int_equal(instance_decide(&v), ACTION_NONE);
        strcpy(libvirt.domain.lease.attempt, OTHER);
        assert_int_equal(look(g, &v), 0);
        assert_false(v.qemu_of_entry);
        assert_int_equal(instance_decide(&v), ACTION_KILL);
}

static void one_that_libvirt_has_forgotten_must_end(void **state)
{
        struct guest *g = running();
        struct instance_view v;

        libvirt.find = -ENOENT;
        assert_int_equal(look(g, &v), 0);
        assert_int_equal(v.qemu, QEMU_RUNNING);
        assert_int_equal(v.qemu_epoch, 0);
        assert_int_equal(instance_decide(&v), ACTION_KILL);
        libvirt.appears = true; /* it was just being made: the second question finds it */
        assert_int_equal(look(g, &v), 0);
        assert_int_equal(v.qemu_epoch, 1);
        libvirt.appears = libvirt.process = false;
        assert_int_equal(look(g, &v), 0);
        assert_int_equal(v.qemu, QEMU_NONE);
}

static void what_cannot_be_asked_is_unknown(void **state)
{
        struct guest *g = running();
        struct instance_view v;

        libvirt.find = -ETIMEDOUT;
        assert_int_equal(look(g, &v), -ETIMEDOUT);
        libvirt.find = -ENOENT;
        libvirt.processes = -EIO;
        assert_int_equal(look(g, &v), -EIO);
}

static void without_libvirt_a_process_is_unknown_unless_it_is_disowned(void **state)
{
        struct guest *g = running();
        struct instance_view v;

        fixture.self.virt_connected = false;
        assert_int_equal(look(g, &v), -ENOTCONN);
        fixture_claim('a', 3);
        assert_int_equal(look(g, &v), 0);
        assert_int_equal(instance_decide(&v), ACTION_KILL);
        libvirt.process = false; /* and where no process is, no guest is */
        libvirt.find = -ENOTCONN;
        fixture.self.virt_lost_ms = fixture.now_ms - 5;
        assert_int_equal(look(g, &v), 0);
        assert_int_equal(v.qemu, QEMU_NONE);
        assert_int_equal(v.no_libvirt_ms, fixture.now_ms - 5);
        libvirt.processes = -EIO;
        assert_int_equal(look(g, &v), -EIO);
}

static void wishes_are_those_that_are_not_done(void **state)
{
        struct guest *g = running();
        struct instance_view v;

        fixture_set(RECORD_INSTANCE, ID, "restart", "3");
        assert_int_equal(look(g, &v), 0);
        assert_true(v.restart);
        fixture_set(RECORD_INSTANCE, ID, "status.restart", "3");
        fixture_set(RECORD_INSTANCE, ID, "move", "{\"to\":3,\"epoch\":1,\"serial\":5}");
        assert_int_equal(look(g, &v), 0);
        assert_false(v.restart);
        assert_int_equal(v.move_to, 3);
        assert_int_equal(v.move_epoch, 1);
        fixture_set(RECORD_INSTANCE, ID, "status.move", "{\"serial\":5}");
        fixture_set(RECORD_INSTANCE, ID, "placement", "{\"host\":3,\"epoch\":1}");
        fixture_set(RECORD_INSTANCE, ID, "wanted", "\"stopped\"");
        assert_int_equal(look(g, &v), 0);
        assert_int_equal(v.move_to, 0);
        assert_int_equal(v.placement_host, 3);
        assert_int_equal(v.placement_epoch, 1);
        assert_int_equal(v.wanted, WANTED_STOPPED);
}

static void a_word_is_settled_if_all_of_it_is_so(void **state)
{
        struct guest *g = running();
        struct instance_view v;

        fixture_set(RECORD_INSTANCE, ID, "status.host", "3");
        assert_int_equal(look(g, &v), 0);
        assert_false(v.settled);
        fixture_set(RECORD_INSTANCE, ID, "status.host", "2");
        fixture_set(RECORD_INSTANCE, ID, "status.epoch", "0");
        assert_int_equal(look(g, &v), 0);
        assert_false(v.settled);
        fixture_set(RECORD_INSTANCE, ID, "status.epoch", "1");
        fixture_set(RECORD_INSTANCE, ID, "status.state", "\"failed\"");
        assert_int_equal(look(g, &v), 0);
        assert_false(v.settled);
}

static void disks_that_are_not_there_are_not_started(void **state)
{
        const struct disk_spec disk = {.name = "disk0", .size = 1 << 20};
        struct guest *g = running();
        struct instance_view v;

        fixture_set(RECORD_INSTANCE, ID, "placement", "{\"host\":2,\"epoch\":0}");
        assert_int_equal(lease_remove(fixture.ctx.store, ID, &(struct lease){1, 2}, &disk, 1, NULL), 0);
        libvirt.find = -ENOENT;
        libvirt.process = false;
        assert_int_equal(look(g, &v), 0);
        assert_int_equal(v.host, 0);
        assert_int_equal(instance_decide(&v), ACTION_FORGET);
}

static void a_host_without_heartbeats_is_not_trusted(void **state)
{
        struct guest *g = running();
        struct instance_view v;

        fixture.now_ms += WATCH_DEAD_MS;
        assert_int_equal(look(g, &v), 0);
        assert_false(v.trusted);
}

/* Nobody says why it stands: after five seconds somebody has to let it go on. */
static void one_that_was_left_standing_is_noticed(void **state)
{
        struct guest *g = running();
        struct instance_view v;

        libvirt.domain.running = false;
        assert_int_equal(look(g, &v), 0);
        assert_false(v.qemu_go_on);
        fixture.now_ms += 4999;
        assert_int_equal(look(g, &v), 0);
        assert_false(v.qemu_go_on);
        fixture.now_ms += 1;
        assert_int_equal(look(g, &v), 0);
        assert_true(v.qemu_go_on);
        libvirt.domain.job = true; /* it migrates */
        assert_int_equal(look(g, &v), 0);
        assert_false(v.qemu_go_on);
        libvirt.domain.job = false;
        assert_int_equal(look(g, &v), 0);
        assert_false(v.qemu_go_on); /* counted from here on */
        fixture.now_ms += 6000;
        strcpy(libvirt.domain.reason, "user"); /* somebody's wish */
        assert_int_equal(look(g, &v), 0);
        assert_false(v.qemu_go_on);
}

/* A disk error has stopped it: the storage says whether it may write still. */
static struct guest *stopped_by_an_error(int answer)
{
        struct guest *g = running();

        libvirt.domain.running = false;
        strcpy(libvirt.domain.reason, "ioerror");
        may_write = answer;
        asked_it = 0;
        return g;
}

static void one_that_was_fenced_while_it_stands_is_ended(void **state)
{
        struct guest *g = stopped_by_an_error(-EACCES);
        struct instance_view v;

        assert_int_equal(look(g, &v), 0);
        assert_int_equal(asked_it, 1);
        assert_true(v.qemu_refused && g->io_error);
        assert_false(v.qemu_go_on);
        assert_int_equal(instance_decide(&v), ACTION_KILL);
}

static void one_whose_rights_are_not_known_stands(void **state)
{
        static const int answers[] = {-ETIMEDOUT, -EIO, -ESTALE};
        struct guest *g = stopped_by_an_error(0);
        struct instance_view v;

        for (unsigned i = 0; i < ARRAY_SIZE(answers); i++) {
                may_write = answers[i];
                assert_int_equal(look(g, &v), 0);
                assert_false(v.qemu_refused || v.qemu_go_on);
                fixture.now_ms += 3000;
                fixture.self.own_write_ms = fixture.now_ms;
                assert_int_equal(look(g, &v), 0);
                assert_false(v.qemu_refused || v.qemu_go_on);
        }
}

static void one_that_may_write_goes_on_after_a_pause(void **state)
{
        struct guest *g = stopped_by_an_error(0);
        struct instance_view v;

        assert_int_equal(look(g, &v), 0);
        assert_false(v.qemu_refused || v.qemu_go_on);
        fixture.now_ms += 1999;
        fixture.self.own_write_ms = fixture.now_ms;
        assert_int_equal(look(g, &v), 0);
        assert_false(v.qemu_go_on);
        assert_int_equal(asked_it, 1); /* not at every look */
        fixture.now_ms += 1;
        assert_int_equal(look(g, &v), 0);
        assert_true(v.qemu_go_on);
        assert_int_equal(asked_it, 2); /* but before it goes on */
        assert_int_equal(instance_decide(&v), ACTION_RESUME);
}

/* Its epoch, its host and its reason all have to be so: else the answer would be another QEMU's. */
static void only_of_the_owner_that_an_error_has_stopped_the_storage_is_asked(void **state)
{
        struct guest *g = stopped_by_an_error(-EACCES);
        struct instance_view v;

        strcpy(libvirt.domain.reason, "user");
        assert_int_equal(look(g, &v), 0);
        strcpy(libvirt.domain.reason, "ioerror");
        libvirt.domain.running = true;
        assert_int_equal(look(g, &v), 0);
        libvirt.domain.running = false;
        strcpy(libvirt.domain.lease.start.id, OTHER); /* of no epoch that is known */
        assert_int_equal(look(g, &v), 0);
        strcpy(libvirt.domain.lease.start.id, START);
        fixture_claim('a', 2); /* at epoch 2: this one is of 1 */
        assert_int_equal(look(g, &v), 0);
        assert_int_equal(v.qemu_epoch, 1);
        fixture_set(RECORD_INSTANCE, ID, "start.epoch", "4"); /* a record that is newer than the name */
        assert_int_equal(look(g, &v), 0);
        fixture_set(RECORD_INSTANCE, ID, "start.epoch", "3");
        fixture_claim('a', 3); /* another host's, at the same epoch */
        assert_int_equal(look(g, &v), 0);
        assert_int_equal(v.qemu_epoch, v.epoch);
        assert_false(v.qemu_refused || g->io_error);
        assert_int_equal(asked_it, 0);
}

static void a_full_storage_is_waited_for_until_it_has_room(void **state)
{
        struct guest *g = stopped_by_an_error(0);
        struct instance_view v;

        room = STORE_FULL;
        assert_int_equal(look(g, &v), 0);
        fixture.now_ms += 100000;
        fixture.self.own_write_ms = fixture.now_ms;
        assert_int_equal(look(g, &v), 0);
        assert_false(v.qemu_go_on);
        assert_int_equal(v.pause, PAUSE_FULL);
        room = STORE_ROOM;
        fixture.now_ms += ROOM_AGE_MS;
        fixture.self.own_write_ms = fixture.now_ms;
        assert_int_equal(look(g, &v), 0);
        assert_true(v.qemu_go_on);
        room = -EOPNOTSUPP;
}

/* All guests together ask the storage once in a while. */
static void whether_there_is_room_is_asked_once_in_a_while(void **state)
{
        static const int answers[] = {STORE_ROOM, STORE_FULL, STORE_FULL_WAITS, -EIO};
        static const enum health_room means[] = {ROOM_THERE, ROOM_NONE, ROOM_NONE_WAITS, ROOM_UNKNOWN};

        for (unsigned i = 0; i < ARRAY_SIZE(answers); i++) {
                room = answers[i];
                rooms = 0;
                assert_int_equal(room_now(&fixture.ctx), means[i]);
                fixture.now_ms += ROOM_AGE_MS - 1;
                room = STORE_FULL;
                assert_int_equal(room_now(&fixture.ctx), means[i]);
                assert_int_equal(rooms, 1);
                fixture.now_ms += 1;
        }
        room = -EOPNOTSUPP;
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, fixture_begin, fixture_end)
        const struct CMUnitTest tests[] = {
            test(a_guest_that_runs_is_seen_as_it_is),
            test(of_another_start_nothing_is_known),
            test(only_what_owns_the_name_is_adopted),
            test(a_source_that_stands_with_its_entry_is_adopted),
            test(an_arrival_is_known_by_its_attempt),
            test(one_that_libvirt_has_forgotten_must_end),
            test(what_cannot_be_asked_is_unknown),
            test(without_libvirt_a_process_is_unknown_unless_it_is_disowned),
            test(wishes_are_those_that_are_not_done),
            test(a_word_is_settled_if_all_of_it_is_so),
            test(disks_that_are_not_there_are_not_started),
            test(a_host_without_heartbeats_is_not_trusted),
            test(one_that_was_fenced_while_it_stands_is_ended),
            test(one_whose_rights_are_not_known_stands),
            test(one_that_may_write_goes_on_after_a_pause),
            test(only_of_the_owner_that_an_error_has_stopped_the_storage_is_asked),
            test(a_full_storage_is_waited_for_until_it_has_room),
            test(whether_there_is_room_is_asked_once_in_a_while),
            test(one_that_was_left_standing_is_noticed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
