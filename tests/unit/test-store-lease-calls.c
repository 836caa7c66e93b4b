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

#include "common/util.h"
#include "imaged/store/engine.h"

/*
 * What the store checks before its engine is asked about disks, and how a commit is put together for an engine that has
 * none of its own. The engine here notes its calls.
 */
static struct {
        int answer;
        const char *fails; /* the one call that gets the answer; NULL: each does */
        char called[128];
        uint64_t total, left;
        struct lease at; /* of the last call that has one */
} engine;

static int called(const char *what, struct err *err)
{
        int answer = engine.fails && !streq(engine.fails, what) ? 0 : engine.answer;

        strcat(engine.called, what);
        err_set(err, -EIO, "set on the way");
        return answer < 0 ? err_set(err, answer, "engine: no") : answer;
}

static int on_create(struct store *s, const char *instance, const struct disk_spec *disks, size_t n,
                     struct err *err)
{
        return called("create ", err);
}

static int on_find(struct store *s, const char *instance, struct lease *ret, struct err *err)
{
        return called("find ", err);
}

static int on_list(struct store *s, lease_cb cb, void *arg, struct err *err)
{
        return called("list ", err);
}

static int on_claim(struct store *s, const char *instance, const struct lease *from, unsigned host,
                    bool again, struct lease *ret, struct err *err)
{
        *ret = (struct lease){from->epoch + 1, host};
        return called(again ? "claim-again " : "claim ", err);
}

#define ON(name)                                                                                            \
        static int on_##name(struct store *s, const char *instance, const struct lease *mine,               \
                             const struct start *start, const struct disk_spec *disks, size_t n,            \
                             struct err *err)                                                               \
        {                                                                                                   \
                engine.at = *mine;                                                                          \
                return called(#name " ", err);                                                              \
        }
ON(fence)
ON(grant)
ON(gate)
ON(may_write)

static int on_remove(struct store *s, const char *instance, const struct lease *mine,
                     const struct disk_spec *disks, size_t n, struct err *err)
{
        return called("remove ", err);
}

static int on_commit(struct store *s, const char *instance, const struct commit_claim *c,
                     const struct disk_spec *disks, size_t n, struct lease *ret, struct err *err)
{
        return called("commit ", err);
}

static int on_attach(struct store *s, const char *instance, const struct lease *lease,
                     const struct start *start, const struct disk_spec *disks, size_t n, struct attach *ret,
                     struct err *err)
{
        for (size_t i = 0; i < n; i++)
                ret[i].uid = 10 + (uint32_t)i;
        return called("attach ", err);
}

static int on_lock_path(struct store *s, const char *instance, char **ret, struct err *err)
{
        *ret = NULL;
        return called("lock_path ", err);
}

static void on_forget(struct store *s, const char *instance, const struct start *start)
{
        called("forget ", NULL);
}

static int on_fenced(struct store *s, const char *instance, fenced_cb cb, void *arg, struct err *err)
{
        return called("fenced ", err);
}

static int on_lift(struct store *s, const char *instance, const struct fenced_client *client,
                   struct err *err)
{
        return called("lift ", err);
}

static int on_space(struct store *s, uint64_t *total, uint64_t *left, struct err *err)
{
        *total = engine.total;
        *left = engine.left;
        return called("space ", err);
}

#define SIMPLE(name)                                                                                        \
        static int on_##name(struct store *s, struct err *err)                                              \
        {                                                                                                   \
                return called(#name " ", err);                                                              \
        }
SIMPLE(prepare)
SIMPLE(upkeep)
SIMPLE(selftest)
SIMPLE(room)

static int on_secret(struct store *s, char **ret, struct err *err)
{
        return called("secret ", err);
}

static int on_diagnose(struct store *s, bool many, store_finding_cb cb, void *arg, struct err *err)
{
        return called(many ? "many " : "one ", err);
}

static int on_host(struct store *s, store_finding_cb cb, void *arg, struct err *err)
{
        return called("host ", err);
}

static struct engine_leases leases;
static struct engine_starts starts;
static const struct engine_lifts lifts = {.fenced = on_fenced, .lift = on_lift};
static struct engine ops;
static struct store *store;
static const struct engine *mem;

static int begin(void **state)
{
        memset(&engine, 0, sizeof(engine));
        leases = (struct engine_leases){.create = on_create,
                                        .find = on_find,
                                        .list = on_list,
                                        .claim = on_claim,
                                        .fence = on_fence,
                                        .grant = on_grant,
                                        .gate = on_gate,
                                        .may_write = on_may_write,
                                        .remove = on_remove,
                                        .commit = on_commit};
        starts = (struct engine_starts){.attach = on_attach, .lock_path = on_lock_path, .forget = on_forget};
        ops = (struct engine){.name = "test",
                              .space = on_space,
                              .prepare = on_prepare,
                              .upkeep = on_upkeep,
                              .selftest = on_selftest,
                              .secret = on_secret,
                              .diagnose = on_diagnose,
                              .diagnose_host = on_host,
                              .leases = &leases,
                              .starts = &starts,
                              .lifts = &lifts};
        assert_int_equal(store_open("mem:", NULL, &store, NULL), 0);
        mem = store->engine;
        store->engine = &ops;
        return 0;
}

static int end(void **state)
{
        store->engine = mem;
        store = store_close(store);
        return 0;
}

static void check_answer(int r, int answer, const char *calls, struct err *err)
{
        assert_int_equal(r, answer);
        assert_string_equal(engine.called, calls);
        assert_string_equal(err->text, answer < 0 ? "engine: no" : "");
        engine.called[0] = '\0';
        *err = (struct err){};
}

static void check_refused(int r, int answer, struct err *err)
{
        assert_int_equal(r, answer);
        assert_string_equal(engine.called, "");
        assert_int_equal(err->code, answer);
        *err = (struct err){};
}

#define ANSWER(call, name)                                                                                  \
        do {                                                                                                \
                engine.answer = 0;                                                                          \
                check_answer(call, 0, name " ", &err);                                                      \
                engine.answer = -ENOSPC;                                                                    \
                check_answer(call, -ENOSPC, name " ", &err);                                                \
                engine.answer = 0;                                                                          \
        } while (0)

static const struct disk_spec disk = {.name = "disk0", .size = 512};
static const struct lease mine = {3, 2};

static void each_call_wants_an_instance_disks_and_a_start(void **state)
{
        struct start good, bad = {.id = "no uuid"};
        struct attach a[1];
        struct lease got;
        struct err err = {};

        start_init(&good, "vm", 1, NULL, NULL, 0);
#define CHECKED(call)                                                                                       \
        ANSWER(lease_##call(store, "vm", &mine, &good, &disk, 1, &err), #call);                             \
        check_refused(lease_##call(store, "v.m", &mine, &good, &disk, 1, &err), -EINVAL, &err);             \
        check_refused(lease_##call(store, "vm", &mine, &good, &disk, 0, &err), -EINVAL, &err);              \
        check_refused(lease_##call(store, "vm", &mine, &bad, &disk, 1, &err), -EINVAL, &err);               \
        check_refused(lease_##call(store, "vm", &mine, NULL, &disk, 1, &err), -EINVAL, &err)
        CHECKED(fence);
        CHECKED(grant);
        CHECKED(gate);
        CHECKED(may_write);
        ANSWER(lease_attach(store, "vm", &mine, &good, &disk, 1, a, &err), "attach");
        check_refused(lease_attach(store, "v.m", &mine, &good, &disk, 1, a, &err), -EINVAL, &err);
        check_refused(lease_attach(store, "vm", &mine, &bad, &disk, 1, a, &err), -EINVAL, &err);
        ANSWER(lease_remove(store, "vm", &mine, &disk, 1, &err), "remove");
        check_refused(lease_remove(store, "vm", &mine, &disk, 0, &err), -EINVAL, &err);
        check_refused(lease_remove(store, "", &mine, &disk, 1, &err), -EINVAL, &err);
        ANSWER(lease_find(store, "vm", &got, &err), "find");
        check_refused(lease_find(store, "", &got, &err), -EINVAL, &err);
        ANSWER(lease_list(store, NULL, NULL, &err), "list");
        ANSWER(lease_claim(store, "vm", &mine, 1, false, &got, &err), "claim");
        ANSWER(lease_claim(store, "vm", &mine, 1, true, &got, &err), "claim-again");
        check_refused(lease_claim(store, "vm", &mine, 0, false, &got, &err), -EINVAL, &err);
        check_refused(lease_claim(store, "", &mine, 1, false, &got, &err), -EINVAL, &err);
        check_refused(lease_claim(store, "vm", &(struct lease){UINT64_MAX, 1}, 1, false, &got, &err),
                      -EINVAL, &err);
        ANSWER(lease_claim(store, "vm", &(struct lease){UINT64_MAX - 1, 1}, 1, false, &got, &err), "claim");
        start_forget(store, "vm", &bad);
        start_forget(store, "v.m", &good);
        assert_string_equal(engine.called, "");
        start_forget(store, "vm", &good);
        assert_string_equal(engine.called, "forget ");
        engine.called[0] = '\0';
        ops.leases = NULL;
        check_refused(lease_find(store, "vm", &got, &err), -EOPNOTSUPP, &err);
}

static void disks_are_1_to_32_with_a_name_each(void **state)
{
        static char content[(16 << 20) + 1];
        struct disk_spec many[33], one = disk;
        char name[33][8];
        struct err err = {};

        for (size_t i = 0; i < 33; i++) {
                snprintf(name[i], sizeof(name[i]), "d%zu", i);
                many[i] = (struct disk_spec){.name = name[i], .size = 512};
        }
        ANSWER(lease_create(store, "vm", many, 32, &err), "create");
        check_refused(lease_create(store, "vm", many, 33, &err), -EINVAL, &err);
        check_refused(lease_create(store, "vm", many, 0, &err), -EINVAL, &err);
        check_refused(lease_create(store, "vm", NULL, 1, &err), -EINVAL, &err);
        many[2].name = many[0].name;
        check_refused(lease_create(store, "vm", many, 3, &err), -EINVAL, &err);
        many[2].name = name[2];
        many[2].size = 513;
        check_refused(lease_create(store, "vm", many, 3, &err), -EINVAL, &err);
        ANSWER(lease_remove(store, "vm", &mine, many, 3, &err), "remove"); /* which needs no size */
        many[2].size = 0;
        check_refused(lease_create(store, "vm", many, 3, &err), -EINVAL, &err);
        many[1].size = 0;
        many[1].content = content;
        check_refused(lease_create(store, "vm", many, 3, &err), -EINVAL, &err);
        many[2].size = 512;
        ANSWER(lease_create(store, "vm", many, 3, &err), "create");
        many[1].n_content = 16 << 20;
        ANSWER(lease_create(store, "vm", many, 3, &err), "create");
        many[1].n_content++;
        check_refused(lease_create(store, "vm", many, 3, &err), -EINVAL, &err);
        one.image = "a.b";
        check_refused(lease_create(store, "vm", &one, 1, &err), -EINVAL, &err);
        one.image = "golden";
        ANSWER(lease_create(store, "vm", &one, 1, &err), "create");
        one.name = "abcdefghijklmno";
        ANSWER(lease_create(store, "vm", &one, 1, &err), "create");
        one.name = "abcdefghijklmnop";
        check_refused(lease_create(store, "vm", &one, 1, &err), -EINVAL, &err);
        one.name = "disk-0";
        check_refused(lease_create(store, "vm", &one, 1, &err), -EINVAL, &err);
        one.name = "";
        check_refused(lease_create(store, "vm", &one, 1, &err), -EINVAL, &err);
        one.name = NULL;
        check_refused(lease_create(store, "vm", &one, 1, &err), -EINVAL, &err);
        one.name = "az09";
        ANSWER(lease_create(store, "vm", &one, 1, &err), "create");
}

/* Claim, fence, gate: at the epoch that was won, and nothing after what failed. */
static void a_commit_is_made_of_its_three_steps(void **state)
{
        struct commit_claim c = {.from = mine, .host = 5};
        struct start start, bad = {.id = ""};
        struct lease got = {};
        struct err err = {};

        start_init(&start, "vm", 1, NULL, NULL, 0);
        c.last = c.start = &start;
        ANSWER(lease_commit(store, "vm", &c, &disk, 1, &got, &err), "commit");
        leases.commit = NULL;
        check_answer(lease_commit(store, "vm", &c, &disk, 1, &got, &err), 0, "claim fence gate ", &err);
        assert_true(got.epoch == 4 && got.host == 5);
        assert_true(engine.at.epoch == 4 && engine.at.host == 5);
        c.again = true;
        engine.answer = -ESTALE;
        engine.fails = "claim-again ";
        check_answer(lease_commit(store, "vm", &c, &disk, 1, &got, &err), -ESTALE, "claim-again ", &err);
        c.again = false;
        engine.at = (struct lease){};
        engine.fails = "fence ";
        check_answer(lease_commit(store, "vm", &c, &disk, 1, &got, &err), -ESTALE, "claim fence ", &err);
        assert_true(engine.at.epoch == 4 && engine.at.host == 5);
        engine.fails = "gate ";
        check_answer(lease_commit(store, "vm", &c, &disk, 1, &got, &err), -ESTALE, "claim fence gate ",
                     &err);
        check_refused(lease_commit(store, "vm", &c, &disk, 0, &got, &err), -EINVAL, &err);
        check_refused(lease_commit(store, "v.m", &c, &disk, 1, &got, &err), -EINVAL, &err);
        c.start = &bad;
        check_refused(lease_commit(store, "vm", &c, &disk, 1, &got, &err), -EINVAL, &err);
        c.start = &start;
        c.host = 0;
        check_refused(lease_commit(store, "vm", &c, &disk, 1, &got, &err), -EINVAL, &err);
}

static void what_qemu_opens_is_told_whole_or_not_at_all(void **state)
{
        const struct disk_spec two[] = {{.name = "disk0"}, {.name = "disk1"}};
        struct attach a[3] = {{.uid = 1}, {.uid = 1}, {.uid = 1}};
        struct start start;
        struct err err = {};
        char *path = NULL;

        start_init(&start, "vm", 1, NULL, NULL, 0);
        engine.answer = -EIO;
        check_answer(lease_attach(store, "vm", &mine, &start, two, 2, a, &err), -EIO, "attach ", &err);
        assert_true(a[0].uid == 1 && a[1].uid == 1);
        engine.answer = 0;
        check_answer(lease_attach(store, "vm", &mine, &start, two, 2, a, &err), 0, "attach ", &err);
        assert_true(a[0].uid == 10 && a[1].uid == 11 && a[2].uid == 1);
        ANSWER(lease_lock_path(store, "vm", &path, &err), "lock_path");
        check_refused(lease_lock_path(store, "v.m", &path, &err), -EINVAL, &err);
        starts.lock_path = NULL;
        starts.forget = NULL;
        start_forget(store, "vm", &start);
        assert_int_equal(lease_lock_path(store, "vm", &path, &err), 0);
        assert_string_equal(path, "/dev/null");
        free(path);
        ops.starts = NULL;
        start_forget(store, "vm", &start);
        assert_int_equal(lease_lock_path(store, "vm", &path, &err), 0);
        assert_string_equal(path, "/dev/null");
        free(path);
        check_refused(lease_attach(store, "vm", &mine, &start, two, 2, a, &err), -EOPNOTSUPP, &err);
        ANSWER(lease_fenced(store, "vm", NULL, NULL, &err), "fenced");
        ANSWER(lease_lift(store, "vm", NULL, &err), "lift");
        check_refused(lease_fenced(store, "v.m", NULL, NULL, &err), -EINVAL, &err);
        ops.lifts = NULL;
        check_refused(lease_fenced(store, "vm", NULL, NULL, &err), -EOPNOTSUPP, &err);
        check_refused(lease_lift(store, "vm", NULL, &err), -EOPNOTSUPP, &err);
}

static void an_engine_is_asked_for_what_it_has(void **state)
{
        uint64_t total = 1, left = 1;
        struct err err = {};
        char *key = NULL;

        ANSWER(store_prepare(store, &err), "prepare");
        ANSWER(store_upkeep(store, &err), "upkeep");
        ANSWER(store_diagnose(store, true, NULL, NULL, &err), "many");
        ANSWER(store_diagnose(store, false, NULL, NULL, &err), "one");
        ANSWER(store_diagnose_host(store, NULL, NULL, &err), "host");
        ANSWER(store_space(store, &total, &left, &err), "space");
        engine.called[0] = '\0';
        engine.answer = -EIO;
        assert_int_equal(store_secret(store, &key, &err), -EIO);
        engine.answer = 1; /* it can fence: no message; doubts and errors have one */
        err = (struct err){};
        assert_int_equal(store_selftest(store, &err), 1);
        assert_string_equal(err.text, "");
        engine.answer = 0;
        assert_int_equal(store_selftest(store, &err), 0);
        assert_string_equal(err.text, "set on the way");
        engine.answer = -EIO;
        assert_int_equal(store_selftest(store, &err), -EIO);
        assert_string_equal(err.text, "engine: no");
        ops = (struct engine){.name = "test"};
        err = (struct err){};
        engine.called[0] = '\0';
        assert_int_equal(store_prepare(store, &err) | store_upkeep(store, &err), 0);
        assert_int_equal(store_diagnose(store, true, NULL, NULL, &err), 0);
        assert_int_equal(store_diagnose_host(store, NULL, NULL, &err), 0);
        total = left = 1;
        assert_int_equal(store_space(store, &total, &left, &err), 0);
        assert_true(total == 0 && left == 0);
        check_refused(store_secret(store, &key, &err), -EOPNOTSUPP, &err);
        check_refused(store_selftest(store, &err), -EOPNOTSUPP, &err);
        assert_int_equal(store_room(store, &err), STORE_ROOM);
}

static void a_store_is_full_below_one_mebibyte(void **state)
{
        struct err err = {};

        engine.total = 1 << 30;
        engine.left = 1 << 20;
        assert_int_equal(store_room(store, &err), STORE_ROOM);
        engine.left--;
        assert_int_equal(store_room(store, &err), STORE_FULL);
        engine.total = 0; /* it does not say */
        assert_int_equal(store_room(store, &err), STORE_ROOM);
        engine.answer = -EIO;
        assert_int_equal(store_room(store, &err), -EIO);
        ops.room = on_room;
        engine.answer = STORE_FULL_WAITS;
        assert_int_equal(store_room(store, &err), STORE_FULL_WAITS);
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)
        const struct CMUnitTest tests[] = {
            test(each_call_wants_an_instance_disks_and_a_start),
            test(disks_are_1_to_32_with_a_name_each),
            test(a_commit_is_made_of_its_three_steps),
            test(what_qemu_opens_is_told_whole_or_not_at_all),
            test(an_engine_is_asked_for_what_it_has),
            test(a_store_is_full_below_one_mebibyte),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
