/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/util.h"
#include "imaged/drill.h"
#include "imaged/hosts.h"
#include "imaged/index.h"
#include "imaged/place.h"
#include "imaged/records.h"

/* Placement and drill over real records of a store in memory, with two hosts that are alive. */
#define GiB ((json_int_t)1 << 30)

struct fixture {
        struct imaged im;
        pthread_t beats;
        atomic_bool ending;
};

static void *beat(void *arg)
{
        struct fixture *f = arg;

        for (uint64_t n = 1; !f->ending; n++) {
                beat_write(f->im.store, 1, n, NULL);
                beat_write(f->im.store, 2, n, NULL);
                poll(NULL, 0, 50);
        }
        return NULL;
}

static void host(struct fixture *f, const char *id, const char *name)
{
        _cleanup_(json_decrefpp) json_t *record =
            json_pack("{s:s,s:i,s:s,s:s,s:i,s:I}", "id", id, "number", atoi(id), "name", name, "state", "up",
                      "cpus", 4, "memory", 8 * GiB);

        assert_int_equal(records_save(f->im.store, RECORD_HOST, id, 0, record, NULL, NULL), 0);
}

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));
        struct err err = {0};

        assert_int_equal(store_open("mem:", NULL, &f->im.store, &err), 0);
        host(f, "1", "h1");
        host(f, "2", "h2");
        assert_int_equal(pthread_create(&f->beats, NULL, beat, f), 0);
        assert_int_equal(index_new(f->im.store, &f->im.index, &err), 0);
        assert_int_equal(places_new(&f->im.places, &err), 0);
        assert_int_equal(hosts_new(&f->im, &f->im.hosts, &err), 0);
        while (!hosts_alive(f->im.hosts, 1) || !hosts_alive(f->im.hosts, 2))
                poll(NULL, 0, 20);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        hosts_free(f->im.hosts);
        f->ending = true;
        pthread_join(f->beats, NULL);
        places_free(f->im.places);
        index_free(f->im.index);
        store_close(f->im.store);
        free(f);
        return 0;
}

/* As a creation does it: placed, then the record written. Returns the host; 0: none, with err set. */
static unsigned run(struct fixture *f, const char *name, const char *group, json_int_t gib, unsigned only,
                    struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        char id[UUID_LEN + 1];
        struct placing p;
        unsigned number = 0;

        uuid_random(id);
        record = json_pack("{s:s,s:s,s:s,s:s?,s:i,s:I,s:s,s:{s:s}}", "id", id, "name", name, "owner",
                           "admin", "group", group, "cpus", 1, "memory", gib * GiB, "wanted", "running",
                           "status", "state", "pending");
        placing_from(record, &p);
        p.only = only;
        if (place_pick(&f->im, &p, &number, err) < 0)
                return 0;
        json_object_set_new(record, "placement", json_pack("{s:i,s:i}", "host", (int)number, "epoch", 0));
        assert_int_equal(records_save(f->im.store, RECORD_INSTANCE, id, 0, record, NULL, NULL), 0);
        return number;
}

struct named {
        const char *name;
        char id[UUID_LEN + 1];
        uint64_t version;
        json_t *record;
};

static int find_one(void *arg, const char *id, uint64_t version, json_t *record)
{
        struct named *n = arg;

        if (!streq(json_get_str(record, "name", NULL), n->name))
                return 0;
        snprintf(n->id, sizeof(n->id), "%s", id);
        n->version = version;
        n->record = json_incref(record);
        return 0;
}

static void stop(struct fixture *f, const char *name, bool remove)
{
        struct named n = {.name = name};

        assert_int_equal(records_each(f->im.store, RECORD_INSTANCE, find_one, &n, NULL), 0);
        assert_non_null(n.record);
        json_object_set_new(n.record, "wanted", json_string("stopped"));
        json_object_set_new(json_object_get(n.record, "status"), "state", json_string("stopped"));
        assert_int_equal(records_save(f->im.store, RECORD_INSTANCE, n.id, n.version,
                                      remove ? NULL : n.record, NULL, NULL),
                         0);
        json_decref(n.record);
}

static void a_group_is_spread_and_its_refusal_names_who_is_in_the_way(void **state)
{
        struct fixture *f = *state;
        struct err err = {0};
        unsigned a = run(f, "db1", "db", 1, 0, &err), b = run(f, "db2", "db", 1, 0, &err);

        assert_int_not_equal(a, 0);
        assert_int_equal(b, 3 - a);
        assert_int_equal(run(f, "db3", "db", 1, 0, &err), 0);
        assert_int_equal(err.code, -ENOSPC);
        assert_non_null(strstr(err.text, "host h1 has another instance of its group"));
        assert_non_null(strstr(err.text, "in group db are"));
        assert_int_equal(run(f, "db3", "db", 1, a, &err), 0);
        assert_int_not_equal(run(f, "web1", "web", 1, a, &err), 0);
        assert_int_not_equal(run(f, "web2", NULL, 1, a, &err), 0);
}

/* At once, though lists lag: a seat that was left must not keep anybody away. */
static void a_stopped_one_leaves_its_seat(void **state)
{
        struct fixture *f = *state;
        struct err err = {0};
        unsigned a = run(f, "db1", "db", 1, 1, &err);

        assert_int_equal(a, 1);
        assert_int_equal(run(f, "db2", "db", 1, 2, &err), 2);
        stop(f, "db1", false);
        poll(NULL, 0, 1100); /* what a list may lag */
        assert_int_equal(run(f, "db3", "db", 1, 0, &err), 1);
        stop(f, "db2", true);
        poll(NULL, 0, 1100);
        assert_int_equal(run(f, "db4", "db", 1, 0, &err), 2);
}

static void a_drill_sees_what_was_placed_a_moment_ago(void **state)
{
        struct fixture *f = *state;
        _cleanup_(freep) struct failover_item *items = NULL, *again = NULL;
        struct drill d = {0};
        struct err err = {0};
        size_t n = 0;

        assert_int_equal(run(f, "one", NULL, 5, 1, &err), 1);
        assert_int_equal(drill_look(&f->im, NULL, &d, &err), 0);
        assert_int_equal(drill_run(&d, 1, &items, &n, &err), 0);
        assert_int_equal(n, 1);
        assert_int_equal(items[0].state, FAILOVER_DONE);
        assert_int_equal(items[0].target, 2);
        drill_done(&d);
        assert_int_equal(run(f, "two", NULL, 4, 2, &err), 2);
        assert_int_equal(drill_look(&f->im, "", &d, &err), 0); /* the list is older than that, and will do */
        assert_int_equal(drill_run(&d, 1, &again, &n, &err), 0);
        assert_int_equal(again[0].state, FAILOVER_FAILED);
        drill_done(&d);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test_setup_teardown(a_group_is_spread_and_its_refusal_names_who_is_in_the_way, setup,
                                            teardown),
            cmocka_unit_test_setup_teardown(a_stopped_one_leaves_its_seat, setup, teardown),
            cmocka_unit_test_setup_teardown(a_drill_sees_what_was_placed_a_moment_ago, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
