/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <errno.h>

#include "common/json.h"
#include "imaged/catalog.h"

struct world {
        struct store *store;
        struct catalog *catalog;
};

static int setup(void **state)
{
        static struct world w;
        struct err err = {0};

        *state = &w;
        if (store_open("mem:", NULL, &w.store, &err) < 0 || store_prepare(w.store, &err) < 0)
                return -1;
        return catalog_new(w.store, &w.catalog, &err);
}

static int teardown(void **state)
{
        struct world *w = *state;

        w->catalog = catalog_free(w->catalog);
        w->store = store_close(w->store);
        return 0;
}

static void id_of(unsigned i, char ret[UUID_LEN + 1])
{
        snprintf(ret, UUID_LEN + 1, "00000000-0000-4000-8000-%012u", i);
}

static json_t *record_of(unsigned i, const char *name)
{
        char id[UUID_LEN + 1];

        id_of(i, id);
        return json_pack("{s:s,s:s,s:o,s:s,s:s,s:s}", "id", id, "name", name, "created_at",
                         json_sprintf("2026-01-01T00:00:%02u.000Z", i % 60), "status", "active",
                         "visibility", "public", "owner", "admin");
}

/* Another imaged writes: straight into the store. */
static void elsewhere(struct world *w, unsigned i, const char *name)
{
        _cleanup_(json_decrefpp) json_t *record = name ? record_of(i, name) : NULL;
        _cleanup_(freep) char *text = record ? json_text(record) : NULL, *old = NULL;
        char id[UUID_LEN + 1];
        uint64_t version = 0;

        id_of(i, id);
        record_get(w->store, RECORD_IMAGE, id, &old, &version, NULL);
        assert_int_equal(record_put(w->store, RECORD_IMAGE, id, version, text, NULL, NULL), 0);
}

static void here(struct world *w, unsigned i, const char *name)
{
        _cleanup_(json_decrefpp) json_t *record = name ? record_of(i, name) : NULL;
        char id[UUID_LEN + 1];

        elsewhere(w, i, name);
        id_of(i, id);
        catalog_put(w->catalog, id, record);
}

/* The names in the catalog's order, apart by spaces. */
static const char *names(struct world *w, int64_t max_age_ms)
{
        static char text[4096];
        const struct cataloged *const *items;
        struct err err = {0};
        size_t n;

        text[0] = '\0';
        assert_int_equal(catalog_open(w->catalog, max_age_ms, &items, &n, &err), 0);
        for (size_t i = 0; i < n; i++)
                snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i ? " " : "",
                         items[i]->name);
        catalog_close(w->catalog);
        return text;
}

static void oldest_is_first_whoever_wrote_it(void **state)
{
        struct world *w = *state;

        assert_string_equal(names(w, 0), "");
        elsewhere(w, 3, "three");
        here(w, 1, "one");
        elsewhere(w, 2, "two");
        assert_string_equal(names(w, 0), "one two three");
}

static void own_changes_show_at_once(void **state)
{
        struct world *w = *state;

        elsewhere(w, 1, "one");
        assert_string_equal(names(w, 0), "one");
        here(w, 2, "two");
        assert_string_equal(names(w, 3600000), "one two");
        here(w, 1, "uno");
        assert_string_equal(names(w, 3600000), "uno two");
        here(w, 2, NULL);
        assert_string_equal(names(w, 3600000), "uno");
        assert_string_equal(names(w, 0), "uno");
}

static void changes_of_others_are_followed(void **state)
{
        struct world *w = *state;

        for (unsigned i = 0; i < 50; i++)
                elsewhere(w, i, "x");
        names(w, 0);
        for (unsigned i = 0; i < 49; i++)
                elsewhere(w, i, NULL);
        elsewhere(w, 49, "last");
        assert_string_equal(names(w, 0), "last");
}

/* More than are put in their places one by one: all are sorted. */
static void many_at_once_stand_in_order(void **state)
{
        struct world *w = *state;
        const struct cataloged *const *items;
        size_t n;

        for (unsigned i = 0; i < 500; i++)
                elsewhere(w, i * 7919 % 500, "first");
        names(w, 0);
        for (unsigned i = 0; i < 300; i++)
                elsewhere(w, i, "second");
        assert_int_equal(catalog_open(w->catalog, 0, &items, &n, NULL), 0);
        assert_int_equal(n, 500);
        for (size_t i = 1; i < n; i++) {
                int order = strcmp(items[i - 1]->created, items[i]->created);

                assert_true(order < 0 || (order == 0 && strcmp(items[i - 1]->id, items[i]->id) < 0));
        }
        catalog_close(w->catalog);
}

static void needle_denies_only_what_is_not_there(void **state)
{
        struct world *w = *state;
        struct catalog_needle n;
        const struct cataloged *const *items;
        size_t count;

        elsewhere(w, 1, "a \"quoted\" name");
        assert_int_equal(catalog_needle("name", "a \"quoted\" name", &n), 0);
        assert_int_equal(catalog_open(w->catalog, 0, &items, &count, NULL), 0);
        assert_true(catalog_may_have(items[0], &n));
        free(n.text);
        assert_int_equal(catalog_needle("name", "another", &n), 0);
        assert_false(catalog_may_have(items[0], &n));
        free(n.text);
        catalog_close(w->catalog);
}

#define WORLD_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
            WORLD_TEST(oldest_is_first_whoever_wrote_it),     WORLD_TEST(own_changes_show_at_once),
            WORLD_TEST(changes_of_others_are_followed),       WORLD_TEST(many_at_once_stand_in_order),
            WORLD_TEST(needle_denies_only_what_is_not_there),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
