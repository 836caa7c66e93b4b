/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "imaged/network.h"
#include "imaged/records.h"

/* Names and addresses against the memory engine, by many threads at once. */

#define THREADS 16

static const struct imaged_network conf = {.bridge = "br0",
                                           .range = "10.9.0.0/24",
                                           .first = "10.9.0.1",
                                           .last = "10.9.0.17",
                                           .gateway = "10.9.0.1",
                                           .nameservers = "9.9.9.9, 1.1.1.1"};

static int setup(void **state)
{
        struct imaged *im = calloc(1, sizeof(*im));
        struct store_options so = {0};
        struct err err = {0};

        assert_non_null(im);
        if (store_open("mem:", &so, &im->store, &err) < 0 || store_prepare(im->store, &err) < 0 ||
            network_prepare(im, &conf, &err) < 0)
                fail_msg("%s", err_text(&err));
        *state = im;
        return 0;
}

static int teardown(void **state)
{
        struct imaged *im = *state;

        store_close(im->store);
        free(im);
        return 0;
}

static void instance_new(struct imaged *im, char id[UUID_LEN + 1])
{
        _cleanup_(json_decrefpp) json_t *record = json_object();

        uuid_random(id);
        assert_int_equal(records_save(im->store, RECORD_INSTANCE, id, 0, record, NULL, NULL), 0);
}

static void instance_end(struct imaged *im, const char *id)
{
        uint64_t version;
        json_t *record;

        assert_int_equal(records_load(im->store, RECORD_INSTANCE, id, &record, &version, NULL), 0);
        json_decref(record);
        assert_int_equal(records_save(im->store, RECORD_INSTANCE, id, version, NULL, NULL, NULL), 0);
}

struct task {
        struct imaged *im;
        char id[UUID_LEN + 1];
        json_t *network;
        int named;
};

static void *race(void *arg)
{
        struct task *t = arg;

        t->named = name_take(t->im, "web1", t->id, NULL);
        assert_int_equal(network_lease(t->im, NETWORK_DEFAULT, t->id, &t->network, NULL), 0);
        return NULL;
}

static void test_each_is_given_once(void **state)
{
        _cleanup_(json_decrefpp) json_t *addresses = json_object(), *macs = json_object();
        struct imaged *im = *state;
        pthread_t threads[THREADS];
        struct task tasks[THREADS];
        struct err err = {0};
        json_t *more = NULL;
        char id[UUID_LEN + 1];
        unsigned winners = 0;

        for (int i = 0; i < THREADS; i++) {
                tasks[i] = (struct task){.im = im};
                instance_new(im, tasks[i].id);
                assert_int_equal(pthread_create(&threads[i], NULL, race, &tasks[i]), 0);
        }
        for (int i = 0; i < THREADS; i++) {
                pthread_join(threads[i], NULL);
                assert_true(tasks[i].named == 0 || tasks[i].named == -EEXIST);
                winners += tasks[i].named == 0;
                json_object_set_new(addresses, json_get_str(tasks[i].network, "address", ""), json_true());
                json_object_set_new(macs, json_get_str(tasks[i].network, "mac", ""), json_true());
                assert_string_equal(json_get_str(tasks[i].network, "gateway", ""), "10.9.0.1");
                assert_int_equal(json_array_size(json_object_get(tasks[i].network, "nameservers")), 2);
        }
        assert_int_equal(winners, 1);
        assert_int_equal(json_object_size(addresses),
                         THREADS); /* 10.9.0.2 to .17: the gateway's is not given */
        assert_int_equal(json_object_size(macs), THREADS);
        assert_null(json_object_get(addresses, "10.9.0.1"));

        instance_new(im, id);
        assert_int_equal(network_lease(im, NETWORK_DEFAULT, id, &more, &err), -ENOSPC);
        assert_non_null(strstr(err.text, "all 16 from 10.9.0.1 to 10.9.0.17"));
        assert_int_equal(network_release(im, NETWORK_DEFAULT, tasks[3].id, &err), 0);
        assert_int_equal(network_lease(im, NETWORK_DEFAULT, id, &more, &err), 0);
        assert_string_equal(json_get_str(more, "address", ""),
                            json_get_str(tasks[3].network, "address", "-"));
        json_decref(more);
        /* asked again it gives the same */
        assert_int_equal(network_lease(im, NETWORK_DEFAULT, id, &more, &err), 0);
        assert_string_equal(json_get_str(more, "address", ""),
                            json_get_str(tasks[3].network, "address", "-"));
        json_decref(more);
        for (int i = 0; i < THREADS; i++)
                json_decref(tasks[i].network);
}

static void test_left_over_is_free_again(void **state)
{
        struct imaged *im = *state;
        char first[UUID_LEN + 1], second[UUID_LEN + 1], found[UUID_LEN + 1];
        json_t *network = NULL;

        instance_new(im, first);
        instance_new(im, second);
        assert_int_equal(name_take(im, "web1", first, NULL), 0);
        assert_int_equal(name_take(im, "web1", first, NULL), 0); /* again after a lost reply */
        assert_int_equal(name_take(im, "web1", second, NULL), -EEXIST);
        assert_int_equal(network_lease(im, NETWORK_DEFAULT, first, &network, NULL), 0);
        json_decref(network);
        name_release(im, "web1", second, NULL); /* not its own */
        assert_int_equal(name_find(im, "web1", found, NULL), 0);
        assert_string_equal(found, first);

        assert_int_equal(name_sweep(im, NULL), 0); /* alive: stays */
        assert_int_equal(name_take(im, "web1", second, NULL), -EEXIST);
        instance_end(im, first);
        assert_int_equal(name_take(im, "web1", second, NULL), 0);
        assert_int_equal(network_sweep(im, NETWORK_DEFAULT, NULL), 0);
        assert_int_equal(network_lease(im, NETWORK_DEFAULT, second, &network, NULL), 0);
        assert_string_equal(json_get_str(network, "address", ""), "10.9.0.2");
        json_decref(network);
        instance_end(im, second);
        assert_int_equal(name_sweep(im, NULL), 0);
        assert_int_equal(name_find(im, "web1", found, NULL), -ENOENT);
}

/* A guest that may live keeps its address, though its instance is gone. */
static void test_a_retired_address_is_held(void **state)
{
        struct imaged *im = *state;
        _cleanup_(json_decrefpp) json_t *hosts = json_pack("[i]", 3), *none = json_array(), *network = NULL;
        char old[UUID_LEN + 1], next[UUID_LEN + 1];
        json_t *lease = NULL;
        char address[16];
        struct err err = {0};

        instance_new(im, old);
        assert_int_equal(network_lease(im, NETWORK_DEFAULT, old, &lease, &err), 0);
        snprintf(address, sizeof(address), "%s", json_get_str(lease, "address", ""));
        json_decref(lease);
        assert_int_equal(network_retire(im, NETWORK_DEFAULT, old, hosts, &err), 0);
        assert_int_equal(network_retire(im, NETWORK_DEFAULT, old, hosts, &err), 0); /* after a lost reply */
        instance_end(im, old);
        for (int i = 0; i < 15; i++) {
                instance_new(im, next);
                assert_int_equal(network_lease(im, NETWORK_DEFAULT, next, &lease, &err), 0);
                assert_string_not_equal(json_get_str(lease, "address", ""), address);
                json_decref(lease);
        }
        instance_new(im, next);
        assert_int_equal(network_lease(im, NETWORK_DEFAULT, next, &lease, &err), -ENOSPC);
        assert_non_null(strstr(err_text(&err), "held"));
        /* Host 3 is no more. */
        assert_int_equal(network_sweep(im, NETWORK_DEFAULT, &err), 0);
        assert_int_equal(network_lease(im, NETWORK_DEFAULT, next, &lease, &err), 0);
        assert_string_equal(json_get_str(lease, "address", ""), address);
        json_decref(lease);
        assert_int_equal(network_retire(im, NETWORK_DEFAULT, next, none, &err), 0);
        assert_int_equal(records_load(im->store, RECORD_NETWORK, NETWORK_DEFAULT, &network, NULL, &err), 0);
        assert_null(json_object_get(json_object_get(network, "leases"), address));
}

static void test_wrong_networks(void **state)
{
        static const struct {
                struct imaged_network n;
                const char *text;
        } t[] = {
            {{"b", "10.9.0.0", "10.9.0.2", "10.9.0.3", "", ""}, "not ADDRESS/PREFIX"},
            {{"b", "10.9.0.0/33", "10.9.0.2", "10.9.0.3", "", ""}, "not 8 to 30"},
            {{"b", "10.9.0.0/24", "10.8.0.2", "10.9.0.3", "", ""}, "first: 10.8.0.2"},
            {{"b", "10.9.0.0/24", "10.9.0.0", "10.9.0.3", "", ""}, "first: 10.9.0.0"},
            {{"b", "10.9.0.0/24", "10.9.0.2", "10.9.0.255", "", ""}, "last: 10.9.0.255"},
            {{"b", "10.9.0.0/24", "10.9.0.4", "10.9.0.3", "", ""}, "is behind last"},
            {{"b", "10.9.0.0/24", "10.9.0.2", "10.9.0.3", "10.10.0.1", ""}, "gateway: 10.10.0.1"},
            {{"b", "10.9.0.0/24", "10.9.0.2", "10.9.0.3", "10.9.0.1", "9.9.9.9 x"}, "nameservers: \"x\""},
        };
        struct imaged im = {0};
        struct store_options so = {0};

        assert_int_equal(store_open("mem:", &so, &im.store, NULL), 0);
        assert_int_equal(store_prepare(im.store, NULL), 0);
        for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
                struct err err = {0};

                assert_int_equal(network_prepare(&im, &t[i].n, &err), -EINVAL);
                if (!strstr(err.text, t[i].text))
                        fail_msg("wanted \"%s\", got \"%s\"", t[i].text, err.text);
        }
        store_close(im.store);
}

struct count {
        struct store *store;
        int rounds;
};

static int add_one(json_t *record, void *arg, struct err *err)
{
        json_object_set_new(record, "n", json_integer(json_get_int(record, "n", 0) + 1));
        return 0;
}

static void *add_many(void *arg)
{
        struct count *c = arg;

        for (int i = 0; i < c->rounds; i++)
                assert_int_equal(records_change(c->store, RECORD_HOST, "1", add_one, NULL, NULL, NULL), 0);
        return NULL;
}

/* No change is lost and none is made twice. */
static void test_changes_add_up(void **state)
{
        struct imaged *im = *state;
        struct count c = {.store = im->store, .rounds = 25};
        _cleanup_(json_decrefpp) json_t *record = json_object();
        pthread_t threads[8];

        assert_int_equal(records_save(im->store, RECORD_HOST, "1", 0, record, NULL, NULL), 0);
        for (int i = 0; i < 8; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, add_many, &c), 0);
        for (int i = 0; i < 8; i++)
                pthread_join(threads[i], NULL);
        json_decref(record);
        assert_int_equal(records_load(im->store, RECORD_HOST, "1", &record, NULL, NULL), 0);
        assert_int_equal(json_get_int(record, "n", 0), 200);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test_setup_teardown(test_each_is_given_once, setup, teardown),
            cmocka_unit_test_setup_teardown(test_left_over_is_free_again, setup, teardown),
            cmocka_unit_test_setup_teardown(test_a_retired_address_is_held, setup, teardown),
            cmocka_unit_test(test_wrong_networks),
            cmocka_unit_test_setup_teardown(test_changes_add_up, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
