/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "imaged/drill.h"

#define GiB (1ULL << 30)

/* The memory of a guest with one core that takes so much of a host, QEMU's own included. */
static uint64_t guest_of(uint64_t bytes)
{
        return (bytes - PLANNER_QEMU_BASE - PLANNER_QEMU_CPU) / 513 * 512;
}

static struct planner_host hosts[] = {
    {.number = 1, .name = "h1", .alive = true, .cpus = 4, .memory = 8 * GiB, .memory_used = 6 * GiB},
    {.number = 2, .name = "h2", .alive = true, .cpus = 4, .memory = 8 * GiB, .memory_used = 4 * GiB},
    {.number = 3, .name = "h3", .alive = true, .cpus = 4, .memory = 4 * GiB, .memory_used = 1 * GiB},
};

static struct drill_instance instance(char letter, unsigned host, int priority, unsigned gib, char *group)
{
        struct drill_instance i = {
            .host = host, .priority = priority, .cpus = 1, .memory = guest_of(gib * GiB), .group = group};

        memset(i.id, letter, UUID_LEN);
        return i;
}

static const struct failover_item *item(const struct failover_item *items, size_t n, char letter)
{
        for (size_t i = 0; i < n; i++)
                if (items[i].instance[0] == letter)
                        return &items[i];
        fail_msg("no item %c", letter);
        return NULL;
}

static void the_more_important_get_what_room_there_is(void **state)
{
        struct drill_instance list[] = {instance('a', 1, 0, 3, NULL), instance('b', 1, 5, 3, NULL),
                                        instance('c', 1, 9, 2, NULL), instance('d', 2, 99, 4, NULL)};
        struct drill d = {.hosts = hosts, .n_hosts = 3, .instances = list, .n_instances = 4};
        _cleanup_(freep) struct failover_item *items = NULL;
        struct err err = {0};
        size_t n = 0;

        drill_sort(&d);
        assert_int_equal(drill_run(&d, 1, &items, &n, &err), 0);
        assert_int_equal(n, 3);
        assert_int_equal(items[0].instance[0], 'c');
        assert_int_equal(item(items, n, 'c')->target, 2); /* 4 GiB free there, 3 on h3 */
        assert_int_equal(item(items, n, 'b')->target, 3);
        assert_int_equal(item(items, n, 'a')->state, FAILOVER_FAILED);
        assert_non_null(
            strstr(item(items, n, 'a')->reason, "h2 has 2 GiB of memory free, needed are 3 GiB"));
}

static void groups_stay_apart(void **state)
{
        char group[] = "admin/db", other[] = "else/db";
        struct drill_instance list[] = {instance('a', 1, 0, 1, group), instance('b', 2, 0, 1, group),
                                        instance('c', 1, -1, 1, group), instance('d', 3, 0, 1, other)};
        struct drill d = {.hosts = hosts, .n_hosts = 3, .instances = list, .n_instances = 4};
        _cleanup_(freep) struct failover_item *items = NULL;
        size_t n = 0;

        drill_sort(&d);
        assert_int_equal(drill_run(&d, 1, &items, &n, NULL), 0);
        assert_int_equal(item(items, n, 'a')->target, 3); /* not to b, though h2 has more room */
        assert_int_equal(item(items, n, 'c')->state, FAILOVER_FAILED);
        assert_non_null(strstr(item(items, n, 'c')->reason, "another instance of its group"));
}

static void a_look_is_not_changed_by_a_drill(void **state)
{
        struct drill_instance list[] = {instance('a', 1, 0, 3, NULL), instance('b', 2, 0, 3, NULL)};
        struct drill d = {.hosts = hosts, .n_hosts = 3, .instances = list, .n_instances = 2};

        drill_sort(&d);
        for (int i = 0; i < 3; i++) {
                _cleanup_(freep) struct failover_item *items = NULL;
                size_t n = 0;

                assert_int_equal(drill_run(&d, 1, &items, &n, NULL), 0);
                assert_int_equal(items[0].target, 2);
                assert_int_equal(hosts[1].memory_used, 4 * GiB);
        }
}

static void a_host_alone_has_nowhere_to_go(void **state)
{
        struct drill_instance list[] = {instance('a', 1, 0, 1, NULL)};
        struct drill d = {.hosts = hosts, .n_hosts = 1, .instances = list, .n_instances = 1};
        _cleanup_(freep) struct failover_item *items = NULL;
        size_t n = 0;

        drill_sort(&d);
        assert_int_equal(drill_run(&d, 1, &items, &n, NULL), 0);
        assert_int_equal(items[0].state, FAILOVER_FAILED);
}

/* The sum over all hosts is what "wherry run" waits for. */
static void a_thousand_hosts_can_be_drilled_one_by_one(void **state)
{
        enum { HOSTS = 1000, EACH = 20 };
        struct planner_host *many = calloc(HOSTS, sizeof(*many));
        struct drill_instance *list = calloc(HOSTS * EACH, sizeof(*list));
        struct drill d = {.hosts = many, .n_hosts = HOSTS, .instances = list, .n_instances = HOSTS * EACH};

        assert_true(many && list);
        for (unsigned i = 0; i < HOSTS; i++)
                many[i] = (struct planner_host){.number = i + 1,
                                                .name = "h",
                                                .alive = true,
                                                .cpus = 64,
                                                .memory = 64 * GiB,
                                                .memory_used = EACH * 2 * GiB};
        for (unsigned i = 0; i < HOSTS * EACH; i++) {
                list[i] = instance('a', i % HOSTS + 1, 0, 2, NULL);
                snprintf(list[i].id, sizeof(list[i].id), "%036u", i);
        }
        drill_sort(&d);
        for (unsigned i = 1; i <= HOSTS; i++) {
                _cleanup_(freep) struct failover_item *items = NULL;
                size_t n = 0;

                assert_int_equal(drill_run(&d, i, &items, &n, NULL), 0);
                assert_int_equal(n, EACH);
                for (size_t k = 0; k < n; k++)
                        assert_int_equal(items[k].state, FAILOVER_DONE);
        }
        free(many);
        free(list);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(the_more_important_get_what_room_there_is),
            cmocka_unit_test(groups_stay_apart),
            cmocka_unit_test(a_look_is_not_changed_by_a_drill),
            cmocka_unit_test(a_host_alone_has_nowhere_to_go),
            cmocka_unit_test(a_thousand_hosts_can_be_drilled_one_by_one),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
