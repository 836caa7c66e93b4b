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

#include "migrate/failover.h"
#include "migrate/isolation.h"
#include "hostd/survey.h"
#include "tests/unit/hostd-fixture.h"

/* What all of hostd makes of the storage: hosts, instances, and who takes which room. */
static struct survey s;

static int begin(void **state)
{
        fixture_begin(state);
        fixture_host(1, "dead", 5, ",\"disarmed_ms\":60000,\"taken\":{\"by\":2,\"done\":true}");
        fixture_host(2, "up", 3,
                     ",\"drained\":true,\"uplink_dead\":true,\"cannot_start\":\"no libvirt\",\"api\":"
                     "\"http://h2\",\"nonce\":\"n\"");
        fixture_host(3, "stopped", 4, ",\"disarmed_ms\":60000,\"maintenance\":true");
        return 0;
}

static int end(void **state)
{
        survey_done(&s);
        return fixture_end(state);
}

static void survey(void)
{
        struct err err = {0};

        survey_done(&s);
        assert_int_equal(survey_all(fixture.ctx.store, &s, &err), 0);
}

static const struct survey_host *host(unsigned number)
{
        for (size_t i = 0; i < s.n_hosts; i++)
                if (s.hosts[i].ring.number == number)
                        return &s.hosts[i];
        return NULL;
}

static const struct survey_instance *instance(char digit)
{
        for (size_t i = 0; i < s.n_instances; i++)
                if (s.instances[i].id[0] == digit)
                        return &s.instances[i];
        return NULL;
}

static void a_host_is_what_its_record_says(void **state)
{
        survey();
        assert_int_equal(s.n_hosts, 3);
        assert_int_equal(host(1)->ring.state, HOST_DEAD);
        assert_int_equal(host(1)->ring.epoch, 5);
        assert_int_equal(host(1)->ring.taken_by, 2);
        assert_true(host(1)->ring.taken_done);
        assert_int_equal(host(1)->disarmed_ms, 0); /* that was an orderly end before */
        assert_int_equal(host(2)->ring.state, HOST_UP);
        assert_false(host(2)->ring.taken_done || host(2)->ring.maintenance);
        assert_true(host(2)->drained && host(2)->cut_off);
        assert_string_equal(host(2)->cannot_start, "no libvirt");
        assert_string_equal(host(2)->api, "http://h2");
        assert_string_equal(host(2)->nonce, "n");
        assert_string_equal(host(2)->name, "h2");
        assert_int_equal(host(2)->cpus, 8);
        assert_int_equal(host(2)->memory, 62ULL << 30);
        assert_int_equal(host(3)->ring.state, HOST_STOPPED);
        assert_int_equal(host(3)->disarmed_ms, 60000);
        assert_true(host(3)->ring.maintenance);
        assert_false(host(3)->drained || host(3)->cut_off);
}

/* The record of one must not stop the others. */
static void what_is_no_hosts_record_is_left_out(void **state)
{
        assert_int_equal(record_put(fixture.ctx.store, RECORD_HOST, "7", 0, "{", NULL, NULL), 0);
        fixture_host(8, "asleep", 1, "");
        fixture_host(0, "up", 1, "");
        survey();
        assert_int_equal(s.n_hosts, 3);
}

static void an_instance_is_its_record_and_its_name(void **state)
{
        const struct survey_instance *in;

        fixture_instance('c', ",\"priority\":7,\"group\":\"web\",\"placement\":{\"host\":3,\"epoch\":1}");
        fixture_claim('c', 1);
        fixture_instance('a', ",\"placement\":{\"host\":3,\"epoch\":0},\"status\":{\"state\":\"stopped\","
                              "\"host\":1,\"epoch\":1}");
        fixture_claim('a', 1);
        survey();
        assert_int_equal(s.n_instances, 2);
        in = instance('c');
        assert_int_equal(in->lease.host, 1);
        assert_int_equal(in->lease.epoch, 1);
        assert_int_equal(in->priority, 7);
        assert_string_equal(in->group, "ann/web");
        assert_int_equal(in->placement, 3);
        assert_int_equal(in->wanted, WANTED_RUNNING);
        assert_false(in->told_off);
        in = instance('a');
        assert_ptr_equal(in, &s.instances[0]); /* sorted */
        assert_int_equal(in->placement, 0);    /* that was long ago */
        assert_true(in->told_off);
        fixture_claim('a', 2);
        survey();
        assert_false(instance('a')->told_off); /* of another epoch */
}

static void disks_without_a_record_are_nobodys(void **state)
{
        const struct disk_spec disk = {.name = "disk0", .size = 1 << 20};

        fixture_instance('a', "");
        assert_int_equal(lease_create(fixture.ctx.store, fixture_id('b'), &disk, 1, NULL), 0);
        fixture_instance('c', "");
        fixture_set(RECORD_INSTANCE, fixture_id('c'), "wanted", "\"what\"");
        survey();
        assert_int_equal(s.n_instances, 1);
        assert_non_null(instance('a'));
}

static void whether_it_was_placed_on_a_living_host_is_seen(void **state)
{
        fixture_instance('a', ",\"placement\":{\"host\":2,\"epoch\":1}");
        fixture_claim('a', 1);
        fixture_instance('b', ",\"placement\":{\"host\":3,\"epoch\":1}");
        fixture_claim('b', 1);
        fixture_instance('c', "");
        fixture_claim('c', 1);
        survey();
        assert_true(survey_seen(&s, instance('a')).placement_up);
        assert_int_equal(survey_seen(&s, instance('a')).placement, 2);
        assert_int_equal(survey_seen(&s, instance('a')).owner, 1);
        assert_false(survey_seen(&s, instance('b')).placement_up);
        assert_false(survey_seen(&s, instance('c')).placement_up);
}

/* What should run takes its room where it is placed, else where it is. */
static void a_plan_counts_each_once_where_it_is_to_run(void **state)
{
        struct planner_host *plan = NULL;
        size_t n = 0;

        fixture_instance('a', ",\"placement\":{\"host\":3,\"epoch\":1}");
        fixture_claim('a', 2);
        fixture_instance('b', "");
        fixture_claim('b', 2);
        fixture_instance('c', "");
        fixture_claim('c', 2);
        fixture_set(RECORD_INSTANCE, fixture_id('c'), "wanted", "\"stopped\"");
        survey();
        assert_int_equal(survey_plan(&s, &plan, &n), 0);
        assert_int_equal(n, 3);
        for (size_t i = 0; i < n; i++) {
                assert_int_equal(plan[i].cpus_used, plan[i].number == 1 ? 0 : 1);
                assert_int_equal(plan[i].memory_used, plan[i].number == 1 ? 0 : planner_memory(1 << 20, 1));
                assert_int_equal(plan[i].alive, plan[i].number == 2);
                assert_int_equal(plan[i].drained, plan[i].number == 2);
                assert_int_equal(plan[i].cut_off, plan[i].number == 2);
                assert_string_equal(plan[i].cannot_start, plan[i].number == 2 ? "no libvirt" : "");
                assert_int_equal(plan[i].cpus, 8);
        }
        free(plan);
}

static size_t seats(const char *but, unsigned not_on, unsigned *ret_host)
{
        struct failover_seat *list = NULL;
        size_t n = 0;

        assert_int_equal(survey_seats(&s, but, not_on, &list, &n), 0);
        *ret_host = n ? list[0].host : 0;
        free(list);
        return n;
}

static void a_seat_is_where_one_of_a_group_is_to_run(void **state)
{
        unsigned on;

        fixture_instance('a', ",\"group\":\"web\",\"placement\":{\"host\":3,\"epoch\":1}");
        fixture_claim('a', 2);
        fixture_instance('b', ""); /* of no group */
        fixture_claim('b', 2);
        fixture_instance('c', ",\"group\":\"web\"");
        fixture_claim('c', 2);
        fixture_set(RECORD_INSTANCE, fixture_id('c'), "wanted", "\"stopped\"");
        fixture_instance('d', ",\"group\":\"web\""); /* that nobody has yet */
        survey();
        assert_int_equal(seats(NULL, 0, &on), 1);
        assert_int_equal(on, 3);
        assert_int_equal(seats(NULL, 2, &on), 1);
        assert_int_equal(seats(NULL, 3, &on), 0);
        assert_int_equal(seats(fixture_id('a'), 0, &on), 0);
        assert_int_equal(seats(fixture_id('b'), 0, &on), 1);
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)
        const struct CMUnitTest tests[] = {
            test(a_host_is_what_its_record_says),
            test(what_is_no_hosts_record_is_left_out),
            test(an_instance_is_its_record_and_its_name),
            test(disks_without_a_record_are_nobodys),
            test(whether_it_was_placed_on_a_living_host_is_seen),
            test(a_plan_counts_each_once_where_it_is_to_run),
            test(a_seat_is_where_one_of_a_group_is_to_run),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
