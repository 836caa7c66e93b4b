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

#include "hostd/scan.h"
#include "hostd/hostd.h"
#include "migrate/isolation.h"
#include "tests/unit/hostd-fixture.h"

/* What a scan finds: whose guests are looked at, which work begins again, what the host's record says of its network. */
static struct {
        int processes; /* virt_processes()' answer: as many that cannot be told, or an error */
        char here[8];  /* the first digits of the QEMUs on this machine */
        char taken[64];
        unsigned lifts, secrets;
        int secret;
        int64_t end;
        bool asks_again;
} world;

int __wrap_virt_processes(struct virt *v, struct virt_domain **ret, size_t *ret_n, struct err *err);
int __wrap_virt_processes(struct virt *v, struct virt_domain **ret, size_t *ret_n, struct err *err)
{
        if (world.processes < 0)
                return err_set(err, world.processes, "processes: error");
        *ret_n = strlen(world.here);
        *ret = calloc(*ret_n + 1, sizeof(**ret));
        for (size_t i = 0; i < *ret_n; i++)
                strcpy((*ret)[i].lease.instance, fixture_id(world.here[i]));
        return world.processes;
}

void __wrap_takeover_start(struct context *ctx, unsigned dead);
void __wrap_takeover_start(struct context *ctx, unsigned dead)
{
        snprintf(world.taken + strlen(world.taken), 8, "%u ", dead);
}

void __wrap_lift_start(struct context *ctx);
void __wrap_lift_start(struct context *ctx)
{
        world.lifts++;
}

int __wrap_secret_give(struct context *ctx, struct err *err);
int __wrap_secret_give(struct context *ctx, struct err *err)
{
        world.secrets++;
        return world.secret < 0 ? err_set(err, world.secret, "secret: error") : 0;
}

static void each(struct fixture *f, int ms)
{
        if (world.asks_again)
                f->self.rescan = true;
        world.asks_again = false;
        if (f->now_ms >= world.end)
                f->self.quit = true;
}

static int begin(void **state)
{
        static char folder[] = "/nowhere/dhcp";

        fixture_begin(state);
        memset(&world, 0, sizeof(world));
        world.end = fixture.now_ms + 100;
        fixture.on_poll = each;
        fixture.config.dhcp_hosts_dir = folder;
        fixture_host(2, "up", 1, "");
        fixture_host(3, "up", 1, "");
        return 0;
}

static void scan(void)
{
        struct err err = {0};

        fixture.self.quit = false;
        fixture.woken[0] = '\0';
        assert_int_equal(scan_start(&fixture.ctx, &err), 0);
}

static void what_concerns_this_host_is_looked_at(void **state)
{
        fixture_instance('a', "");
        fixture_claim('a', 2); /* its own */
        fixture_instance('b', "");
        fixture_claim('b', 3); /* another's */
        fixture_instance('c', ",\"placement\":{\"host\":2,\"epoch\":1}");
        fixture_claim('c', 3); /* another's, and given to this one */
        fixture_instance('d', ",\"placement\":{\"host\":2,\"epoch\":0}");
        fixture_claim('d', 3);   /* that was long ago */
        strcpy(world.here, "e"); /* nobody's, and its QEMU is here */
        scan();
        assert_string_equal(fixture.woken, "a c e ");
        assert_true(fixture.ctx.guests->scanned);
        assert_int_equal(world.lifts, 1);
}

/* Room is promised only once it is known what runs here. */
static void a_scan_that_does_not_see_all_is_none(void **state)
{
        fixture_instance('a', "");
        fixture_claim('a', 2);
        world.processes = 1; /* one does not show what it is */
        strcpy(world.here, "e");
        scan();
        assert_string_equal(fixture.woken, "a e ");
        assert_false(fixture.ctx.guests->scanned);
        world.processes = -EIO;
        scan();
        assert_string_equal(fixture.woken, "a ");
        assert_false(fixture.ctx.guests->scanned);
        world.processes = 0;
        scan();
        assert_true(fixture.ctx.guests->scanned);
}

static void a_scan_comes_every_ten_seconds_and_when_asked_for(void **state)
{
        world.end = fixture.now_ms + 10000;
        scan();
        assert_int_equal(world.lifts, 1);
        world.end = fixture.now_ms + 10100;
        scan();
        assert_int_equal(world.lifts, 3);
        world.asks_again = true;
        world.end = fixture.now_ms + 5000;
        scan();
        assert_int_equal(world.lifts, 5);
        assert_false(fixture.self.rescan);
}

/* A wish that came too late for the takeover begins it again. */
static void what_waits_for_a_dead_host_is_taken_over_again(void **state)
{
        fixture_host(1, "dead", 5, ",\"taken\":{\"by\":2,\"done\":true}");
        fixture_instance('a', "");
        fixture_claim('a', 1);
        fixture_host(4, "dead", 5, ",\"taken\":{\"by\":2,\"done\":true}"); /* nothing of it waits */
        fixture_host(5, "dead", 5, ",\"taken\":{\"by\":2,\"done\":false}");
        fixture_instance('b', "");
        fixture_claim('b', 5); /* that work is not over */
        fixture_host(6, "dead", 5, ",\"taken\":{\"by\":3,\"done\":true}");
        fixture_instance('c', "");
        fixture_claim('c', 6); /* another's work */
        scan();
        assert_string_equal(world.taken, "1 ");
}

static void a_dead_uplink_is_written_down_once(void **state)
{
        fixture.self.uplink = UPLINK_DEAD;
        scan();
        assert_string_equal(fixture_field(RECORD_HOST, "2", "uplink_dead"), "true");
        assert_string_equal(fixture_field(RECORD_HOST, "3", "uplink_dead"), "absent");
        scan();
        assert_string_equal(fixture.events, "uplink-dead ");
        fixture.self.uplink = UPLINK_GOOD;
        scan();
        assert_string_equal(fixture_field(RECORD_HOST, "2", "uplink_dead"), "false");
        assert_string_equal(fixture.events, "uplink-dead uplink-works ");
}

/* The others give it no guests meanwhile. Told once for each change. */
static void a_host_without_libvirt_says_that_it_can_start_nothing(void **state)
{
        scan();
        assert_string_equal(fixture_field(RECORD_HOST, "2", "cannot_start"), "null");
        assert_string_equal(fixture.events, "");
        fixture.self.virt_connected = false;
        scan();
        scan();
        assert_string_equal(fixture_field(RECORD_HOST, "2", "cannot_start"),
                            "\"its libvirt does not answer\"");
        assert_string_equal(fixture.events, "host-cannot-start ");
        fixture.self.virt_connected = true;
        scan();
        scan();
        assert_string_equal(fixture_field(RECORD_HOST, "2", "cannot_start"), "null");
        assert_string_equal(fixture.events, "host-cannot-start host-can-start ");
}

/* A libvirtd that was started anew can start nothing until it has QEMU's key. */
static void a_new_libvirtd_counts_once_it_has_the_key(void **state)
{
        fixture.self.virt_connected = false;
        fixture.self.secret_due = true;
        world.secret = -EIO;
        scan();
        assert_false(fixture.self.virt_connected);
        assert_true(fixture.self.secret_due);
        world.secret = 0;
        scan();
        assert_true(fixture.self.virt_connected);
        assert_false(fixture.self.secret_due);
        scan();
        assert_int_equal(world.secrets, 2);
}

int __real_secret_give(struct context *ctx, struct err *err);

/* Only Ceph's disks need one. */
static void without_ceph_there_is_no_key(void **state)
{
        struct err err = {0};

        assert_int_equal(__real_secret_give(&fixture.ctx, &err), 0);
        assert_null(fixture.ctx.rbd_secret);
}

/* Another machine has this one's number: nothing on the storage is its business, but the QEMUs that are here. */
static void one_that_was_replaced_looks_at_its_qemus_only(void **state)
{
        fixture_instance('a', "");
        fixture_claim('a', 2);
        fixture.self.replaced = true;
        strcpy(world.here, "e");
        scan();
        assert_string_equal(fixture.woken, "e ");
        assert_false(fixture.self.nothing_left);
        world.processes = 1;
        world.here[0] = '\0';
        scan();
        assert_false(fixture.self.nothing_left);
        world.processes = -EIO;
        scan();
        assert_false(fixture.self.nothing_left);
        world.processes = 0;
        scan();
        assert_true(fixture.self.nothing_left);
        assert_int_equal(world.lifts, 0);
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, begin, fixture_end)
        const struct CMUnitTest tests[] = {
            test(what_concerns_this_host_is_looked_at),
            test(a_scan_that_does_not_see_all_is_none),
            test(a_scan_comes_every_ten_seconds_and_when_asked_for),
            test(what_waits_for_a_dead_host_is_taken_over_again),
            test(a_dead_uplink_is_written_down_once),
            test(a_host_without_libvirt_says_that_it_can_start_nothing),
            test(a_new_libvirtd_counts_once_it_has_the_key),
            test(without_ceph_there_is_no_key),
            test(one_that_was_replaced_looks_at_its_qemus_only),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
