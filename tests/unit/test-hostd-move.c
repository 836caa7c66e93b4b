/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/http-client.h"
#include "common/json.h"
#include "hostd/plug/plug.h"
#include "migrate/isolation.h"
#include "tests/unit/hostd-fixture.h"

/* The steps of a move from here: what is written and granted before libvirt is called, and what is told after it. */
#define ID fixture_id('a')
#define START "aaaaaaaa-0000-4000-8000-000000000001"

static struct {
        char log[256];
        const char *problems;
        int grant, migrate;
        int reach;                    /* of a host that is asked whether it is there */
        bool stop_ends;               /* guest_stop() ends the guest; else something came between */
        bool name_moves;              /* somebody claims after the grant */
        bool arrives;                 /* the destination commits while libvirt is at work */
        bool entry_there;             /* when the grant was asked for */
        char forgotten[UUID_LEN + 1]; /* the last start that was */
        unsigned waits, stop_at,
            begins_at; /* the wait at which its user stops it; at which libvirt's job begins */
} world;

static void say(const char *word)
{
        size_t n = strlen(world.log);

        snprintf(world.log + n, sizeof(world.log) - n, "%s ", word);
}

int __wrap_http_client_new(const char *url, const char *token, int timeout_ms, struct http_client **ret,
                           struct err *err);
int __wrap_http_client_new(const char *url, const char *token, int timeout_ms, struct http_client **ret,
                           struct err *err)
{
        *ret = NULL;
        return 0;
}

struct http_client *__wrap_http_client_free(struct http_client *c);
struct http_client *__wrap_http_client_free(struct http_client *c)
{
        return NULL;
}

int __wrap_http_call(struct http_client *c, const char *method, const char *path, const json_t *body,
                     json_t **ret_body, long *ret_status, struct err *err);
int __wrap_http_call(struct http_client *c, const char *method, const char *path, const json_t *body,
                     json_t **ret_body, long *ret_status, struct err *err)
{
        if (strcmp(method, "GET") == 0)
                return world.reach;
        say("preflight");
        *ret_body = json_loads(world.problems ? world.problems : "{\"problems\":[]}", 0, NULL);
        return 0;
}

int __wrap_lease_grant(struct store *s, const char *instance, const struct lease *mine,
                       const struct start *destination, const struct disk_spec *disks, size_t n_disks,
                       struct err *err);
int __wrap_lease_grant(struct store *s, const char *instance, const struct lease *mine,
                       const struct start *destination, const struct disk_spec *disks, size_t n_disks,
                       struct err *err)
{
        say("grant");
        world.entry_there = strcmp(fixture_field(RECORD_INSTANCE, ID, "migration.epoch"), "1") == 0;
        if (world.name_moves)
                fixture_claim('a', 4);
        return world.grant < 0 ? err_set(err, world.grant, "grant: error") : 0;
}

int __wrap_guest_xml(struct context *ctx, const struct instance *i, const struct lease *lease,
                     const struct domain_lease *key, const char *bridge, char **ret, struct err *err);
int __wrap_guest_xml(struct context *ctx, const struct instance *i, const struct lease *lease,
                     const struct domain_lease *key, const char *bridge, char **ret, struct err *err)
{
        *ret = strdup("<domain/>");
        return 0;
}

int __wrap_virt_migrate(struct virt *v, const struct virt_migration *m, struct virt_progress *ret,
                        struct err *err);
int __wrap_virt_migrate(struct virt *v, const struct virt_migration *m, struct virt_progress *ret,
                        struct err *err)
{
        say("migrate");
        if (world.arrives) {
                char arrived[80];

                snprintf(arrived, sizeof(arrived), "%s",
                         fixture_field(RECORD_INSTANCE, ID, "migration.attempt"));
                fixture_claim('a', 3);
                fixture_set(RECORD_INSTANCE, ID, "arrived", arrived);
                fixture_set(RECORD_INSTANCE, ID, "start", "{\"epoch\":2}");
        }
        return world.migrate < 0 ? err_set(err, world.migrate, "libvirt: error") : 0;
}

int __wrap_virt_migrate_abort(struct virt *v, const char *instance, struct err *err);
int __wrap_virt_migrate_abort(struct virt *v, const char *instance, struct err *err)
{
        say("abort");
        if (world.waits < world.begins_at)
                return err_set(err, -EINVAL, "no job is active");
        world.migrate = -EIO;
        fixture.spawned(fixture.spawned_arg);
        return 0;
}

/* libvirt's call is under way, and the guest's thread waits for it. Meanwhile this happens. */
static void time_passes(void)
{
        struct guest *g = guests_find(fixture.ctx.guests, ID);

        assert_true(++world.waits < 10);
        g->wake = true;
        if (world.waits == world.stop_at)
                fixture_set(RECORD_INSTANCE, ID, "wanted", "\"stopped\"");
        else if (world.waits == 3 && !world.stop_at)
                fixture.spawned(fixture.spawned_arg);
}

int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock);
int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock)
{
        pthread_mutex_unlock(lock);
        time_passes();
        pthread_mutex_lock(lock);
        return 0;
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *until);
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *until)
{
        __wrap_pthread_cond_wait(cond, lock);
        return ETIMEDOUT;
}

void __wrap_start_forget(struct store *s, const char *instance, const struct start *start);
void __wrap_start_forget(struct store *s, const char *instance, const struct start *start)
{
        memcpy(world.forgotten, start->id, sizeof(world.forgotten));
}

int __wrap_guest_kill(struct guest *g, struct err *err);
int __wrap_guest_kill(struct guest *g, struct err *err)
{
        say("kill");
        return 0;
}

int __wrap_guest_stop(struct guest *who, const struct guest_look *look, struct err *err);
int __wrap_guest_stop(struct guest *who, const struct guest_look *look, struct err *err)
{
        say("stop");
        if (world.stop_ends)
                who->ended_epoch = look->lease.epoch + 1;
        return 0;
}

void __wrap_plug_quiet(struct context *ctx, const char *instance);
void __wrap_plug_quiet(struct context *ctx, const char *instance)
{
}

void __wrap_dhcp_remove(struct context *ctx, const char *instance);
void __wrap_dhcp_remove(struct context *ctx, const char *instance)
{
}

static struct guest *g;
static struct guest_look l;

static int begin(void **state)
{
        fixture_begin(state);
        fixture.config.moves_out = 1;
        memset(&world, 0, sizeof(world));
        fixture_host(3, "up", 1, ",\"api\":\"http://h3\"");
        fixture_instance('a', ",\"move\":{\"to\":3,\"epoch\":1,\"serial\":4},\"start\":{\"id\":\"" START
                              "\",\"epoch\":1}");
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

static int move(enum qemu_state qemu)
{
        struct err err = {0};

        assert_int_equal(instance_load(fixture.ctx.store, ID, &l.instance, NULL), 0);
        assert_int_equal(lease_find(fixture.ctx.store, ID, &l.lease, NULL), 0);
        l.record = true;
        l.view = (struct instance_view){.me = 2, .epoch = 1, .host = 2, .qemu = qemu, .move_to = 3};
        return guest_migrate(g, &l, &err);
}

static const char *outcome(const char *member)
{
        char path[64];

        snprintf(path, sizeof(path), "status.move.%s", member);
        return fixture_field(RECORD_INSTANCE, ID, path);
}

/* OWNERSHIP, migration 1 and 2: the entry, then the grant, the name once more, then libvirt. */
static void a_move_is_written_down_before_anything_is_granted(void **state)
{
        world.arrives = true;
        assert_int_equal(move(QEMU_RUNNING), 0);
        assert_string_equal(world.log, "preflight grant migrate kill ");
        assert_true(world.entry_there);
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "migration.source"), "2");
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "migration.destination"), "3");
        assert_string_equal(outcome("state"), "\"done\"");
        assert_string_equal(outcome("serial"), "4");
        assert_string_equal(world.forgotten, START); /* of the QEMU here, which is gone */
        assert_string_equal(fixture.looks, "");
}

static void a_paused_guest_is_not_moved(void **state)
{
        assert_int_equal(move(QEMU_PAUSED), 0);
        assert_string_equal(world.log, "");
        assert_string_equal(outcome("state"), "\"failed\"");
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "migration"), "absent");
}

static void what_the_destination_says_against_it_ends_it(void **state)
{
        world.problems = "{\"problems\":[{\"message\":\"no room\"},{\"message\":\"no bridge\"}]}";
        assert_int_equal(move(QEMU_RUNNING), 0);
        assert_string_equal(world.log, "preflight ");
        assert_non_null(strstr(outcome("error"), "no room; no bridge"));
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "migration"), "absent");
}

static void libvirt_is_not_called_where_the_name_has_moved_on(void **state)
{
        char expected[UUID_LEN + 3];

        world.name_moves = true;
        assert_int_equal(move(QEMU_RUNNING), 0);
        assert_string_equal(world.log, "preflight grant ");
        assert_string_equal(outcome("state"), "\"failed\"");
        /* The attempt's QEMU does not come: its start is over, and the destination looks. The guest here runs on. */
        snprintf(expected, sizeof(expected), "\"%s\"", world.forgotten);
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "migration.start.id"), expected);
        assert_string_equal(fixture.looks, "3:a ");
}

static void nor_without_the_grant(void **state)
{
        world.grant = -EIO;
        assert_int_equal(move(QEMU_RUNNING), 0);
        assert_string_equal(world.log, "preflight grant ");
}

/* libvirt's error is no outcome: the entry is open, and what is next is a claim. */
static void an_error_of_libvirts_decides_nothing(void **state)
{
        world.migrate = -EIO;
        fixture_set(RECORD_INSTANCE, ID, "status",
                    "{\"waiting\":{\"serial\":4,\"why\":\"others come first\"}}");
        assert_int_equal(move(QEMU_RUNNING), 0);
        assert_string_equal(world.log, "preflight grant migrate ");
        assert_string_equal(outcome("state"), "absent");
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "status.waiting"),
                            "absent"); /* it does not any more */
        assert_int_equal(g->move.serial, 4);
}

static void an_arrival_counts_whatever_libvirt_says(void **state)
{
        world.migrate = -ETIMEDOUT;
        world.arrives = true;
        assert_int_equal(move(QEMU_RUNNING), 0);
        assert_string_equal(world.log, "preflight grant migrate kill ");
        assert_string_equal(outcome("state"), "\"done\"");
        assert_non_null(strstr(fixture.events, "instance-migrated"));
}

/* News during a move are looked at: only a wish to stop cancels it, and that is told. */
static void a_stop_cancels_a_move_under_way(void **state)
{
        fixture.spawn_later = true;
        world.stop_at = 2;
        world.begins_at = 4; /* an abort before that finds no job */
        assert_int_equal(move(QEMU_RUNNING), 0);
        assert_string_equal(world.log, "preflight grant abort abort abort migrate ");
        assert_string_equal(err_text(&g->move.why), "cancelled: the instance is to stop");
        assert_string_equal(outcome("state"), "absent"); /* open, until the source has claimed */
}

static void other_news_do_not(void **state)
{
        fixture.spawn_later = true;
        world.arrives = true;
        assert_int_equal(move(QEMU_RUNNING), 0);
        assert_string_equal(world.log, "preflight grant migrate kill ");
        assert_int_equal(world.waits, 3);
        assert_string_equal(outcome("state"), "\"done\"");
}

static void turn(struct guest *who, int expected)
{
        struct err err = {0};

        assert_int_equal(guest_turn_take(who, &err), expected);
}

/* One at a time here: who waited longest goes next, and is woken for it. */
static void those_that_are_to_leave_take_turns(void **state)
{
        struct guest *b = fixture_guest('b'), *c = fixture_guest('c'), *idle = fixture_guest('d');

        turn(g, 0);
        turn(g, -EAGAIN); /* it leaves already: no second time beside itself */
        guest_turn_end(g);
        turn(g, 0);
        fixture.now_ms += 10;
        turn(b, -EAGAIN);
        fixture.now_ms += 10;
        turn(c, -EAGAIN);
        b->wake = c->wake = idle->wake = false;
        guest_turn_end(idle); /* it never left: nobody need look */
        assert_false(b->wake || c->wake);
        guest_turn_end(g);
        assert_true(b->wake && c->wake);
        assert_false(idle->wake);
        turn(c, -EAGAIN); /* b has waited longer */
        turn(b, 0);
        guest_turn_end(b);
        turn(c, 0);
}

/* Its destination is busy: the next one goes meanwhile, and it has kept its place when its second is over. */
static void a_turn_that_is_given_back_keeps_its_place(void **state)
{
        struct guest *b = fixture_guest('b');

        turn(g, 0);
        fixture.now_ms += 10;
        turn(b, -EAGAIN);
        guest_turn_back(g);
        turn(g, -EAGAIN);
        turn(b, 0);
        guest_turn_end(b);
        fixture.now_ms += 10;
        turn(b, 0);
        guest_turn_back(b);
        fixture.now_ms += 1000;
        turn(b, -EAGAIN);
        turn(g, 0);
}

/* A guest that came while this one had its turn still comes after it. */
static void one_that_gave_its_turn_back_is_before_who_came_since(void **state)
{
        struct guest *b = fixture_guest('b');

        turn(g, 0);
        fixture.now_ms += 10;
        turn(b, -EAGAIN);
        fixture.now_ms += 10;
        guest_turn_back(g);
        fixture.now_ms += 1000;
        turn(b, -EAGAIN);
        turn(g, 0);
}

/* The network of this host is dead for long, and the guest runs here. */
static bool uplink(void)
{
        guest_look_done(&l);
        memset(&l, 0, sizeof(l));
        assert_int_equal(instance_load(fixture.ctx.store, ID, &l.instance, NULL), 0);
        assert_int_equal(lease_find(fixture.ctx.store, ID, &l.lease, NULL), 0);
        l.record = true;
        l.view = (struct instance_view){.me = 2,
                                        .trusted = true,
                                        .record = true,
                                        .epoch = 1,
                                        .host = 2,
                                        .wanted = WANTED_RUNNING,
                                        .qemu = QEMU_RUNNING,
                                        .qemu_epoch = 1};
        fixture.self.uplink = UPLINK_HAND_ON;
        return guest_uplink(g, &l);
}

static void by_nobodys_wish(void)
{
        static char bridge[] = "br0";

        fixture.config.bridge = bridge;
        fixture_set(RECORD_INSTANCE, ID, "status", "{\"move\":{\"serial\":4,\"state\":\"done\"}}");
}

static void a_guest_leaves_a_dead_network_alive_once_and_then_by_a_stop(void **state)
{
        by_nobodys_wish();
        assert_true(uplink());
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "move"),
                            "{\"epoch\":1,\"serial\":5,\"to\":3}");
        assert_string_equal(world.log, "");
        assert_true(uplink()); /* it is here still: that move did not work */
        assert_string_equal(world.log, "stop ");
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "placement"), "absent"); /* nobody ended it */
        world.stop_ends = true;
        assert_true(uplink());
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "placement"), "{\"epoch\":1,\"host\":3}");
        assert_string_equal(fixture.looks, "3:a ");
        assert_string_equal(fixture.events, "uplink-dead uplink-dead uplink-dead ");
}

static void a_host_that_cannot_be_reached_starts_it(void **state)
{
        by_nobodys_wish();
        world.reach = -ETIMEDOUT;
        world.stop_ends = true;
        assert_true(uplink());
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "move.serial"), "4");
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "placement.host"), "3");
}

/* Nor does it go to where another of its group is; and where there is nobody else it stays. */
static void a_dead_network_is_no_reason_to_leave_for_anywhere(void **state)
{
        by_nobodys_wish();
        fixture_set(RECORD_INSTANCE, ID, "group", "\"db\"");
        fixture_instance('b', ",\"group\":\"db\"");
        fixture_claim('b', 3);
        assert_false(uplink());
        assert_string_equal(world.log, "");
        assert_string_equal(fixture.events, "");
        fixture_host(4, "up", 1, ",\"api\":\"http://h4\"");
        assert_true(uplink());
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "move.to"), "4");
        fixture.self.leaving = true; /* it is handed on anyway */
        assert_false(uplink());
}

static void its_users_move_comes_first(void **state)
{
        by_nobodys_wish();
        fixture_set(RECORD_INSTANCE, ID, "move.serial", "5");
        assert_true(uplink());
        assert_string_equal(fixture_field(RECORD_INSTANCE, ID, "move.serial"), "5");
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)
        const struct CMUnitTest tests[] = {
            test(a_move_is_written_down_before_anything_is_granted),
            test(a_paused_guest_is_not_moved),
            test(what_the_destination_says_against_it_ends_it),
            test(libvirt_is_not_called_where_the_name_has_moved_on),
            test(nor_without_the_grant),
            test(an_error_of_libvirts_decides_nothing),
            test(an_arrival_counts_whatever_libvirt_says),
            test(a_stop_cancels_a_move_under_way),
            test(other_news_do_not),
            test(those_that_are_to_leave_take_turns),
            test(a_turn_that_is_given_back_keeps_its_place),
            test(one_that_gave_its_turn_back_is_before_who_came_since),
            test(a_guest_leaves_a_dead_network_alive_once_and_then_by_a_stop),
            test(a_host_that_cannot_be_reached_starts_it),
            test(a_dead_network_is_no_reason_to_leave_for_anywhere),
            test(its_users_move_comes_first),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
