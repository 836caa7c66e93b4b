/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/conformance.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "common/log.h"

const struct disk_spec plain_disk = {.name = "disk0", .size = 64 * MIB};

/* Where faults are asked for: around the engine, or what lies below it (nfs: the proxy; rbd: linked in). */
static void put_faults_in(struct store *s)
{
        if (!getenv("STORE_FAULTS"))
                return;
        if (streq(store_engine(s), "mem"))
                fault_mem_put_in(s);
        if (streq(store_engine(s), "dir"))
                fault_fs_put_in(s);
        if (faults_on())
                patient_put_in(s);
}

int store_connect(struct store **ret, struct err *err)
{
        const char *url = getenv("STORE_URL");
        const char *timeout = getenv("STORE_TIMEOUT_MS");
        struct store_options options = {
            /* Ceph on a busy machine of two cores may take its time, which is no fault */
            .timeout_ms = url && strncmp(url, "rbd:", 4) == 0 ? 30000 : 0,
            .ceph_conf = getenv("STORE_CEPH_CONF"),
            .ceph_user = getenv("STORE_CEPH_USER"),
            .address = getenv("STORE_ADDRESS"),
        };
        int r;

        if (!url)
                return err_set(err, -EINVAL, "STORE_URL is not set; start this with tests/store/run ENGINE");
        if (timeout)
                options.timeout_ms = (unsigned)atoi(timeout);
        for (int i = 0; i < 20; i++) { /* opening asks the storage, too */
                r = store_open(url, &options, ret, err);
                if (r >= 0) {
                        put_faults_in(*ret);
                        return 0;
                }
                if (!faults_on())
                        break;
        }
        return r;
}

struct suite *suite_of(void **state)
{
        return *state;
}

static int suite_begin(void **state)
{
        static struct suite suite;
        struct err err = {};

        if (store_connect(&suite.store, &err) < 0 || store_prepare(suite.store, &err) < 0) {
                fprintf(stderr, "%s\n", err_text(&err));
                return -1;
        }
        suite.shared = !streq(store_engine(suite.store), "mem");
        suite.locks = streq(store_engine(suite.store), "dir");
        suite.second = suite.store;
        if (suite.shared && store_connect(&suite.second, &err) < 0) {
                fprintf(stderr, "%s\n", err_text(&err));
                return -1;
        }
        *state = &suite;
        return 0;
}

static int suite_end(void **state)
{
        struct suite *s = *state;

        if (!s) /* it did not begin */
                return 0;
        if (s->second != s->store)
                store_close(s->second);
        store_close(s->store);
        return 0;
}

void image_make(struct store *s, const char *id, uint64_t size, const char *text)
{
        struct volume *v = NULL;
        struct err err = {};

        assert_ok(volume_create(s, id, size, &v, &err));
        assert_ok(volume_write(v, text, strlen(text), 0, &err));
        assert_ok(volume_seal(v, &err));
        volume_close(v);
}

void disks_make(struct store *s, const char *instance, const struct disk_spec *disks, size_t n)
{
        struct err err = {};

        assert_ok(lease_create(s, instance, disks, n, &err));
}

static unsigned engine_of(const char *url)
{
        static const char *const prefixes[] = {"mem:", "dir:", "nfs:", "rbd:"};

        for (size_t i = 0; url && i < ARRAY_SIZE(prefixes); i++)
                if (strncmp(url, prefixes[i], 4) == 0)
                        return 1u << i;
        return 0;
}

/* Those of the tests that this engine can be put to; none: nothing is said. */
static int run_group(const char *name, const struct engine_test *all, size_t n_all)
{
        unsigned engine = engine_of(getenv("STORE_URL"));
        struct CMUnitTest tests[64];
        size_t n = 0;

        for (size_t i = 0; i < n_all; i++)
                if ((all[i].where & engine) && !((all[i].where & NO_FAULTS) && getenv("STORE_FAULTS")))
                        tests[n++] = all[i].test;
        if (n < n_all)
                printf("%s: %zu of %zu tests apply here\n", name, n, n_all);
        return n ? _cmocka_run_group_tests(name, tests, n, suite_begin, suite_end) : 0;
}

static int run_all(void)
{
        int failed = 0;

        failed += run_group("records", record_tests, n_record_tests);
        failed += run_group("images", volume_tests, n_volume_tests);
        failed += run_group("leases", lease_tests, n_lease_tests);
        failed += run_group("races", race_tests, n_race_tests);
        failed += run_group("twins", twin_tests, n_twin_tests);
        failed += run_group("fence", fence_tests, n_fence_tests);
        failed += run_group("twins' fences", twin_fence_tests, n_twin_fence_tests);
        failed += run_group("kill -9", kill_tests, n_kill_tests);
        faults_report();
        return failed;
}

/* Aimed faults. */
static int run_lost(void)
{
        int failed = run_group("lost answers", lost_tests, n_lost_tests);

#ifdef HAVE_RBD
        failed += run_group("own client", client_tests, n_client_tests);
#endif
        return failed;
}

static int begin_faults(void)
{
        const char *proxy = getenv("STORE_PROXY");
        char at[64], server[64];

        if (faults_begin() < 0) {
                fprintf(stderr, "STORE_FAULTS is not KIND:SEED:PERCENT\n");
                return -1;
        }
#ifdef HAVE_NFS
        if (proxy && (sscanf(proxy, "%63s %63s", at, server) != 2 || nfs_proxy_start(at, server) < 0)) {
                fprintf(stderr, "STORE_PROXY is not \"ADDRESS SERVER\", or the proxy did not start\n");
                return -1;
        }
#endif
        return 0;
}

int main(int argc, char **argv)
{
        const char *what = argc > 1 ? argv[1] : "all";

        signal(SIGPIPE, SIG_IGN); /* as both daemons: servers end under their clients here */
        log_level(LOG_WARNING);
        cmocka_set_message_output(CM_OUTPUT_STDOUT);
        if (!engine_of(getenv("STORE_URL"))) {
                fprintf(stderr, "STORE_URL names no store; start this with tests/store/run ENGINE\n");
                return 2;
        }
        if (begin_faults() < 0)
                return 2;
        if (streq(what, "all"))
                return run_all();
        if (streq(what, "full"))
                return run_full();
        if (streq(what, "lost"))
                return run_lost();
        if (streq(what, "outage"))
                return run_outage();
#ifdef HAVE_NFS
        if (streq(what, "late"))
                return run_late();
#endif
        if (streq(what, "squash"))
                return run_squash();
        fprintf(stderr, "Usage: %s [all|full|late|lost|outage|squash]\n", argv[0]);
        return 2;
}
