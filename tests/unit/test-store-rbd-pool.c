/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/util.h"
#include "tests/unit/rados-memory.h"

/* What the rbd engine asks of the cluster as a whole: its client, its answers, room, keys, findings, the self-test. */
static void codes_are_those_that_callers_know(void **state)
{
        static const int same[] = {-ENOENT, -EEXIST, -ESTALE, -ETIMEDOUT, -EACCES,
                                   -EBUSY,  -ENOSPC, -EROFS,  -EINVAL,    -ENOMEM};
        unsigned before = pool_refusals();

        for (size_t i = 0; i < ARRAY_SIZE(same); i++)
                assert_int_equal(pool_code(same[i]), same[i]);
        assert_int_equal(pool_code(-EPERM), -EACCES);
        assert_int_equal(pool_code(-EDQUOT), -ENOSPC);
        assert_int_equal(pool_code(-ERANGE), -EIO);
        assert_int_equal(pool_refusals(), before);
        assert_int_equal(pool_code(-ESHUTDOWN), -EACCES);
        assert_int_equal(pool_refusals(), before + 1);
}

/* A client on the blocklist fails once, and never again: the next call has a new one. */
static void a_blocklisted_client_is_replaced(void **state)
{
        struct err err = {0};

        assert_int_equal(beat_write(*state, 1, 1, &err), 0);
        (void)pool_code(-ESHUTDOWN); /* another's: this one stays */
        assert_int_equal(beat_write(*state, 1, 1, &err), 0);
        memory_fail("write", "", -ESHUTDOWN, 0);
        assert_int_equal(beat_write(*state, 1, 1, &err), -EACCES);
        assert_int_equal(beat_write(*state, 1, 1, &err), 0);
        assert_int_equal(memory.clients, 1);
        strcpy(memory.blocked[memory.n_blocked++], "10.0.0.2:0/1");
        assert_int_equal(beat_write(*state, 1, 1, &err), -EACCES);
        memory.settings[0] = '\0';
        assert_int_equal(beat_write(*state, 1, 1, &err), 0);
        assert_int_equal(memory.clients, 1); /* the old one is closed */
        assert_non_null(strstr(memory.settings, "rados_osd_op_timeout=2 rados_mon_op_timeout=2 "));
        assert_non_null(strstr(memory.settings, "rbd_cache=false "));
        assert_null(strstr(memory.settings, "ms_async"));
}

static int opens(const char *url, const struct store_options *o, struct pool *ret)
{
        struct store *s = NULL;
        struct err err = {0};
        int r = store_open(url, o, &s, &err);

        if (r == 0) {
                char path[64];

                assert_int_equal(pool_path(s, "image", path, sizeof(path), &err), 0);
                assert_string_equal(path, pool_of(s)->ns[0] ? "pool/ns/image" : "pool/image");
                assert_int_equal(pool_path(s, "image", path, strlen(path), &err), -EINVAL);
                assert_string_equal(pool_of(s)->account_ns, pool_of(s)->ns[0] ? "ns.accounts" : "accounts");
                assert_string_equal(pool_of(s)->address, o ? o->address : "10.0.0.2");
        }
        store_close(s);
        return r;
}

static void a_url_names_a_pool_and_a_namespace(void **state)
{
        const struct store_options o = {.address = "10.0.0.2:77", .small = true};

        assert_int_equal(opens("rbd:pool", NULL, NULL), 0);
        assert_int_equal(opens("rbd:pool/ns", &o, NULL), 0);
        assert_non_null(strstr(memory.settings, "ms_async_op_threads=1"));
        assert_int_equal(opens("rbd:", NULL, NULL), -EINVAL);
        assert_int_equal(opens("rbd:/ns", NULL, NULL), -EINVAL);
        assert_int_equal(opens("rbd:pool/", NULL, NULL), -EINVAL);
        assert_int_equal(opens("rbd:pool/ns/more", NULL, NULL), -EINVAL);
        memory_fail("connect", "", -ETIMEDOUT, 0);
        assert_int_equal(opens("rbd:pool", NULL, NULL), -ETIMEDOUT);
        memory_fail("conf", "", -ENOENT, 0);
        assert_int_equal(opens("rbd:pool", NULL, NULL), -ENOENT);
        memory_fail("ioctx", "", -ENOENT, 0);
        assert_int_equal(opens("rbd:pool", NULL, NULL), -ENOENT);
        assert_int_equal(memory.clients, 1);
}

static void the_pool_says_what_room_there_is(void **state)
{
        uint64_t total = 1, left = 1;
        struct err err = {0};

        memory.answer = "{\"pools\":[{\"name\":\"other\",\"stats\":{\"max_avail\":1,\"stored\":1}},"
                        "{\"name\":\"pool\",\"stats\":{\"max_avail\":700,\"stored\":300}}]}";
        assert_int_equal(store_space(*state, &total, &left, &err), 0);
        assert_true(total == 1000 && left == 700);
        memory.answer = "[{\"pool_name\":\"other\",\"flags_names\":\"full\"},"
                        "{\"pool_name\":\"pool\",\"flags_names\":\"hashpspool,nearfull,fulls\"}]";
        assert_int_equal(store_room(*state, &err), STORE_ROOM);
        memory.answer = "[{\"pool_name\":\"pool\",\"flags_names\":\"hashpspool,full,x\"}]";
        assert_int_equal(store_room(*state, &err), STORE_FULL_WAITS);
        memory.answer = "[]";
        assert_int_equal(store_room(*state, &err), -ENOENT);
        memory_fail("command", "", -ETIMEDOUT, 0);
        assert_int_equal(store_room(*state, &err), -ETIMEDOUT);
}

static void monitors_are_asked_for_once(void **state)
{
        struct err err = {0};
        char text[32];

        assert_int_equal(pool_monitors(*state, text, sizeof(text), &err), -EIO); /* none */
        memory.answer =
            "{\"mons\":[{\"public_addrs\":{\"addrvec\":[{\"addr\":\"m:1\"},{\"addr\":\"m:2\"}]}},"
            "{\"public_addrs\":{\"addrvec\":[{\"addr\":\"n:1\"}]}}]}";
        assert_int_equal(pool_monitors(*state, text, 11, &err), -EINVAL);
        memory.answer = NULL;
        assert_int_equal(pool_monitors(*state, text, 12, &err), 0);
        assert_string_equal(text, "m:1,m:2,n:1");
}

static void a_new_pool_is_prepared(void **state)
{
        struct err err = {0};

        memory.answer = "\"mimic\"";
        assert_int_equal(store_prepare(*state, &err), 0);
        assert_true(memory_exists("/golden"));
        assert_null(strstr(memory.log, "namespace"));
        memory_fail("init", "", -EPERM, 0); /* an administrator's right */
        assert_int_equal(store_prepare(*state, &err), 0);
        memory_fail("init", "", -EIO, 0);
        assert_int_equal(store_prepare(*state, &err), -EIO);
        memory_fail("operate", "golden", -EROFS, 0);
        assert_int_equal(store_prepare(*state, &err), -EROFS);
        memory.answer = "\"luminous\"";
        assert_int_equal(store_prepare(*state, &err), -EINVAL);
        memory.answer = "\"argonaut\"";
        assert_int_equal(store_prepare(*state, &err), -EINVAL);
}

static void the_key_is_the_users_first_one(void **state)
{
        _cleanup_(freep) char *key = NULL;
        char path[] = "/tmp/keyring-XXXXXX", paths[64];
        FILE *f = fdopen(mkstemp(path), "w");
        struct err err = {0};

        fputs(
            "[client.other]\n key = no\n[client.admin]\n key = YES=\n caps = x\n[client.admin]\nkey = no\n",
            f);
        fclose(f);
        memory.keyring = "/nonexistent";
        assert_int_equal(store_secret(*state, &key, &err), -ENOENT);
        snprintf(paths, sizeof(paths), "/nonexistent, %s;%s", path, path);
        memory.keyring = paths;
        assert_int_equal(store_secret(*state, &key, &err), 0);
        assert_string_equal(key, "YES=");
        memory_fail("conf_get", "", -EIO, 0);
        assert_int_equal(store_secret(*state, &key, &err), -EIO);
        unlink(path);
}

/* --- the self-test: a client on the blocklist can no longer write --- */

static void the_self_test_tries_a_write(void **state)
{
        struct err err = {0};

        memory_fail("write", "selftest", 0, 0);
        assert_int_equal(store_selftest(*state, &err), 1);
        assert_non_null(strstr(memory.log, "write:selftest"));
        assert_non_null(strstr(memory.log, "blocklist:10.0.0.2:0/2:120 map remove:selftest"));
        assert_int_equal(memory.clients, 1);
        memory.blocklist_idle = true;
        assert_int_equal(store_selftest(*state, &err), 0);
        memory.blocklist_idle = false;
        memory_fail("blocklist", "", -EPERM, 0);
        assert_int_equal(store_selftest(*state, &err), 0);
        memory_fail("blocklist", "", -EIO, 0);
        assert_int_equal(store_selftest(*state, &err), -EIO);
        memory_fail("map", "", -ETIMEDOUT, 0);
        assert_int_equal(store_selftest(*state, &err), -ETIMEDOUT);
        memory.blocklist_idle = true;
        memory_fail("write", "selftest", -EIO, 1); /* refused for another reason */
        assert_int_equal(store_selftest(*state, &err), -EIO);
        memory_fail("write", "selftest", ESHUTDOWN, 1); /* refused, and yet it is there */
        assert_int_equal(store_selftest(*state, &err), 0);
}

/* --- findings --- */

static int tell(void *arg, const struct store_finding *f)
{
        snprintf(arg, 512, "%s: %s", f->code, f->text);
        return streq(f->code, "old-clients") ? 3 : 0;
}

#define UUID "aaaaaaaa-0000-4000-8000-00000000000"

static void images_with_locks_are_told(void **state)
{
        struct err err = {0};
        char text[512] = "", header[128];

        memory.answer = "\"mimic\"";
        assert_int_equal(store_diagnose(*state, true, tell, text, &err), 0);
        assert_string_equal(text, "");
        for (unsigned i = 1; i <= 5; i++) { /* the first has none, the last is nobody's instance's */
                char name[64];

                snprintf(name, sizeof(name), i < 5 ? UUID "%u.e1.h1" : "someones%u.e1.h1", i);
                snprintf(header, sizeof(header), "/rbd_header.%s", memory_add(name, false)->id);
                memory_set(header, "features", i > 1 ? "\5xxxxxxx" : "\1xxxxxxx");
        }
        memory_add(UUID "9.e1.h1", false); /* its header is gone */
        assert_int_equal(store_diagnose(*state, true, tell, text, &err), 0);
        assert_non_null(strstr(text, "exclusive-lock: 3 disks of instances have"));
        assert_non_null(strstr(text, UUID "2.e1.h1, " UUID "3.e1.h1, " UUID "4.e1.h1"));
        assert_null(strstr(text, ", ..."));
        memory_set(header, "features", "\5xxxxxxx");
        snprintf(header, sizeof(header), "/rbd_header.%s", memory_find(UUID "1.e1.h1")->id);
        memory_set(header, "features", "\4xxxxxxx");
        assert_int_equal(store_diagnose(*state, true, tell, text, &err), 0);
        assert_non_null(strstr(text, "4 disks"));
        assert_non_null(strstr(text, ", ..."));
        memory_fail("read", "rbd_header", -EIO, 0);
        assert_int_equal(store_diagnose(*state, true, tell, text, &err), -EIO);
        memory.answer = "\"jewel\"";
        assert_int_equal(store_diagnose(*state, true, tell, text, &err), 3);
        memory_fail("command", "", -EIO, 0);
        assert_int_equal(store_diagnose(*state, true, tell, text, &err), -EIO);
}

static void who_may_lift_nobody_is_told(void **state)
{
        struct err err = {0};
        char text[512] = "";

        assert_int_equal(store_diagnose_host(*state, tell, text, &err), 0);
        assert_string_equal(text, "");
        assert_non_null(strstr(memory.command, "\"0.0.0.0:0/1\""));
        memory_fail("command", "", -ETIMEDOUT, 0);
        assert_int_equal(store_diagnose_host(*state, tell, text, &err), -ETIMEDOUT);
        memory_fail("command", "", -EACCES, 0);
        assert_int_equal(store_diagnose_host(*state, tell, text, &err), 0);
        assert_non_null(strstr(text, "no-lift: client.admin"));
}

/* --- disks --- */

static void disks_have_no_locks(void **state)
{
        const struct disk_spec small = {.name = "d", .image = "gold", .size = 512 << 10};
        const struct disk_spec same = {.name = "d", .image = "gold", .size = 1 << 20};
        const uint64_t features = RBD_FEATURE_LAYERING | RBD_FEATURE_DEEP_FLATTEN;
        char big[513] = "";
        struct disk_spec seed = {.name = "seed", .content = big, .n_content = 512};
        struct err err = {0};

        memory_add("golden.gold.1", true);
        memory_set("/golden", "gold", "1048576 golden.gold.1");
        assert_int_equal(lease_create(*state, "a", &small, 1, &err), -EINVAL);
        assert_int_equal(lease_create(*state, "a", &same, 1, &err), 0);
        assert_true(memory_find("a.e0.h0")->features == features && memory_find("a.e0.h0")->order == 22);
        assert_int_equal(memory_find("a.e0.h0")->clone_format, 2);
        assert_null(memory_get("/gate.a", "size.d"));
        assert_int_equal(lease_create(*state, "b", &seed, 1, &err), 0);
        assert_int_equal(memory_find("b.e0.h0")->size, 512);
        seed.n_content = 513;
        assert_int_equal(lease_create(*state, "c", &seed, 1, &err), 0);
        assert_int_equal(memory_find("c.e0.h0")->size, 1024);
        assert_true(memory_find("c.e0.h0")->features == features && memory_find("c.e0.h0")->format == 2);
        assert_int_equal(memory_find("c.e0.h0")->n_watchers, 0);
        memory_fail("write_image", "", -ENOSPC, 0);
        assert_int_equal(lease_create(*state, "d", &seed, 1, &err), -ENOSPC);
}

static int add(void *arg, const char *client)
{
        strcat(strcat(arg, client), " ");
        return 0;
}

static int watchers(struct store *s, const char *address, const char *but, char *ret)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        struct err err = {0};

        *ret = '\0';
        assert_int_equal(pool_io(s, &client, &io, &err), 0);
        return disk_watchers(io, "a", "image-1", address, but, add, ret, &err);
}

static void watchers_are_known_by_their_address(void **state)
{
        char text[128];

        memory_add("a", false);
        memory_watch("a", "10.0.0.2:0/9");
        memory_watch("a", "10.0.0.22:0/9");
        memory_watch("a", "[fd00::1]:0/9");
        assert_int_equal(watchers(*state, NULL, NULL, text), 3);
        assert_int_equal(watchers(*state, "10.0.0.2", "x", text), 1);
        assert_string_equal(text, "10.0.0.2:0/9 ");
        assert_int_equal(watchers(*state, "10.0.0.2", "10.0.0.2:0/9", text), 0);
        assert_int_equal(watchers(*state, "fd00::1", "x", text), 1);
        assert_int_equal(watchers(*state, "[fd00::1]", "x", text), 1);
        assert_int_equal(watchers(*state, "fd00::", "x", text), 0);
        memory_fail("watchers", "", -ETIMEDOUT, 0);
        assert_int_equal(watchers(*state, NULL, NULL, text), -ETIMEDOUT);
        while (memory_find("a")->n_watchers < 65)
                memory_watch("a", "10.0.0.2:0/9");
        assert_int_equal(watchers(*state, NULL, NULL, text), -EIO); /* too many to be sure of all */
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, memory_setup, memory_teardown)
        const struct CMUnitTest tests[] = {
            test(codes_are_those_that_callers_know),
            test(a_blocklisted_client_is_replaced),
            test(a_url_names_a_pool_and_a_namespace),
            test(the_pool_says_what_room_there_is),
            test(monitors_are_asked_for_once),
            test(a_new_pool_is_prepared),
            test(the_key_is_the_users_first_one),
            test(the_self_test_tries_a_write),
            test(images_with_locks_are_told),
            test(who_may_lift_nobody_is_told),
            test(disks_have_no_locks),
            test(watchers_are_known_by_their_address),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
