/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/rbd-gate.h"

#include <errno.h>
#include <rbd/librbd.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"

int pool_address(rados_t cluster, char **ret, struct err *err)
{
        char *addrs = NULL;
        int r = rados_getaddrs(cluster, &addrs);

        if (r < 0)
                return pool_fail(err, r, "ask for the client's own address");
        *ret = strdup(addrs);
        rados_buffer_free(addrs);
        return *ret ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int set_limits(rados_t cluster, const struct store_options *o)
{
        char seconds[32];
        int r = 0;
        const char *const settings[][2] = {
            {"rados_osd_op_timeout", seconds},
            {"rados_mon_op_timeout", seconds},
            {"client_mount_timeout", seconds},
            /* An operation that waits longer makes librados ask for a new map of the OSDs. Its own 10 s are
             * longer than ours: after the cluster was away, each operation ended before that, and none ever
             * got through again. */
            {"objecter_timeout", "1"},
            {"objecter_tick_interval", "0.5"},
            {"rbd_cache", "false"}, /* only whole images are written here, with many requests at once */
            {"rbd_disable_zero_copy_writes", "false"}, /* nobody changes a buffer that is being written */
            {"rbd_default_clone_format", "2"},
            {"rbd_validate_pool", "false"},     /* store_prepare() does it once, not every clone again */
            {"rbd_atime_update_interval", "0"}, /* who only reads writes nothing, not even when */
            {"log_to_stderr", "false"},         /* a library does not print; failures come back as codes */
            {"err_to_stderr", "false"},
            /* Ceph keeps its last log lines, half a megabyte, to print them after a failed assertion. We print none. */
            {"log_max_recent", "1"},
        };

        /* Ceph takes whole seconds here. */
        snprintf(seconds, sizeof seconds, "%u", (o->timeout_ms + 999) / 1000);
        for (size_t i = 0; i < ARRAY_SIZE(settings) && r == 0; i++)
                r = rados_conf_set(cluster, settings[i][0], settings[i][1]);
        /* Each such thread has tables of 180 KiB for its connections, and Ceph starts three. */
        if (r == 0 && o->small)
                r = rados_conf_set(cluster, "ms_async_op_threads", "1");
        return r;
}

int pool_connect(const struct store *s, rados_t *ret, struct err *err)
{
        const char *conf = s->options.ceph_conf ? s->options.ceph_conf : "/etc/ceph/ceph.conf";
        const char *user = s->options.ceph_user ? s->options.ceph_user : "admin";
        rados_t cluster = NULL;
        int r = rados_create(&cluster, user);

        if (r < 0)
                return pool_fail(err, r, "make a Ceph client for user %s", user);
        r = rados_conf_read_file(cluster, conf);
        if (r < 0) {
                rados_shutdown(cluster);
                return pool_fail(err, r, "read %s", conf);
        }
        r = set_limits(cluster, &s->options);
        if (r == 0)
                r = rados_connect(cluster);
        if (r < 0) {
                rados_shutdown(cluster);
                return pool_fail(err, r, "connect to Ceph as client.%s with %s", user, conf);
        }
        *ret = cluster;
        return 0;
}

/* "POOL[/NAMESPACE]" */
static int place_parse(struct pool *p, const char *place, struct err *err)
{
        const char *slash = strchr(place, '/');
        size_t n = slash ? (size_t)(slash - place) : strlen(place);

        if (n == 0 || (slash && (!slash[1] || strchr(slash + 1, '/'))))
                return err_set(err, -EINVAL, "rbd:%s: write it as rbd:POOL or rbd:POOL/NAMESPACE", place);
        p->name = strndup(place, n);
        p->ns = strdup(slash ? slash + 1 : "");
        if (!p->name || !p->ns)
                return err_set(err, -ENOMEM, "out of memory");
        p->account_ns = str_printf("%s%saccounts", p->ns, p->ns[0] ? "." : "");
        return p->account_ns ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int rbd_engine_open(struct store *s, struct err *err)
{
        struct pool *p = calloc(1, sizeof *p);
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        int r;

        if (!p)
                return err_set(err, -ENOMEM, "out of memory");
        s->state = p;
        pthread_mutex_init(&p->lock, NULL);
        machine_self(&p->machine);
        r = place_parse(p, s->place, err);
        if (r == 0)
                r = pool_io(s, &client, &io, err);
        if (r < 0)
                return r;
        /* "1.2.3.4:0/99" or "[fd00::1]:0/99": the address is what stands before the last colon. */
        p->address = s->options.address ? strdup(s->options.address) : strdup(client->own);
        if (!p->address)
                return err_set(err, -ENOMEM, "out of memory");
        if (!s->options.address && strrchr(p->address, ':'))
                *strrchr(p->address, ':') = '\0';
        return 0;
}

static void rbd_engine_close(struct store *s)
{
        struct pool *p = pool_of(s);

        if (!p)
                return;
        pool_client_putp(&p->client);
        free(p->name);
        free(p->ns);
        free(p->account_ns);
        free(p->address);
        pthread_mutex_destroy(&p->lock);
        free(p);
        s->state = NULL;
}

/* What the pool itself says: it knows its replicas, the cluster's raw figures do not. */
static int rbd_engine_space(struct store *s, uint64_t *ret_total, uint64_t *ret_free, struct err *err)
{
        const struct pool *p = pool_of(s);
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(json_decrefpp) json_t *df = NULL;
        _cleanup_(freep) char *text = NULL;
        const json_t *pool;
        size_t i;
        int r = pool_client_get(s, &client, err);

        if (r < 0)
                return r;
        r = pool_ask(client->cluster, "df", "", &text);
        if (r < 0)
                return pool_fail(err, r, "ask for the free space");
        r = json_parse(text, "the answer to df", &df, err);
        if (r < 0)
                return r;
        *ret_total = *ret_free = 0;
        json_array_foreach (json_object_get(df, "pools"), i, pool) {
                const json_t *stats = json_object_get(pool, "stats");

                if (!streq(json_get_str(pool, "name", NULL), p->name))
                        continue;
                *ret_free = (uint64_t)json_get_int(stats, "max_avail", 0);
                *ret_total = *ret_free + (uint64_t)json_get_int(stats, "stored", 0);
        }
        return 0;
}

/* The flag by which clients hold their writes back: of a quota, and of OSDs that are full. */
static bool pool_full(const char *flags)
{
        while (*flags) {
                size_t n = strcspn(flags, ",");

                if (n == 4 && strncmp(flags, "full", n) == 0)
                        return true;
                flags += n + (flags[n] == ',');
        }
        return false;
}

static int rbd_engine_room(struct store *s, struct err *err)
{
        const struct pool *p = pool_of(s);
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(json_decrefpp) json_t *pools = NULL;
        _cleanup_(freep) char *text = NULL;
        const json_t *pool;
        size_t i;
        int r = pool_client_get(s, &client, err);

        if (r < 0)
                return r;
        r = pool_ask(client->cluster, "osd pool ls", "\"detail\": \"detail\",", &text);
        if (r < 0)
                return pool_fail(err, r, "ask for the flags of pool %s", p->name);
        r = json_parse(text, "the answer to osd pool ls", &pools, err);
        if (r < 0)
                return r;
        json_array_foreach (pools, i, pool)
                if (streq(json_get_str(pool, "pool_name", NULL), p->name))
                        return pool_full(json_get_str(pool, "flags_names", "")) ? STORE_FULL_WAITS
                                                                                : STORE_ROOM;
        return err_set(err, -ENOENT, "the monitors know no pool %s", p->name);
}

int pool_check_clone_v2(rados_t cluster, struct err *err)
{
        static const char *const old[] = {"argonaut",   "bobtail", "cuttlefish", "dumpling",
                                          "emperor",    "firefly", "giant",      "hammer",
                                          "infernalis", "jewel",   "kraken",     "luminous"};
        _cleanup_(freep) char *text = NULL;
        int r = pool_ask(cluster, "osd get-require-min-compat-client", "", &text);

        if (r < 0)
                return pool_fail(err, r, "ask for the oldest client that the cluster allows");
        for (size_t i = 0; i < ARRAY_SIZE(old); i++)
                if (strstr(text, old[i]))
                        return err_set(err, -EINVAL,
                                       "the cluster still allows %s clients, which know no clone v2: run "
                                       "\"ceph osd set-require-min-compat-client mimic\"",
                                       old[i]);
        return 0;
}

static int rbd_engine_prepare(struct store *s, struct err *err)
{
        const struct pool *p = pool_of(s);
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        _cleanup_(pool_write_op_donep) rados_write_op_t op = rados_create_write_op();
        int r = pool_client_get(s, &client, err);

        if (r == 0)
                r = pool_check_clone_v2(client->cluster, err);
        if (r == 0)
                r = pool_io_in(s, client->cluster, "", &io, err);
        if (r < 0)
                return r;
        /* Marks the pool as RBD's, which only an administrator may, and tries snapshots once, which spares
         * the first image that wait. Whoever made the pool has usually done it. */
        r = rbd_pool_init(io, false);
        if (r < 0 && r != -EPERM && r != -EACCES)
                return pool_fail(err, r, "prepare pool %s for RBD", p->name);
        if (p->ns[0]) {
                r = rbd_namespace_create(io, p->ns);
                if (r < 0 && r != -EEXIST)
                        return pool_fail(err, r, "make namespace %s in pool %s", p->ns, p->name);
        }
        rados_ioctx_set_namespace(io, p->ns);
        rados_write_op_create(op, LIBRADOS_CREATE_IDEMPOTENT, NULL);
        r = rados_write_op_operate(op, io, POOL_GOLDEN, NULL, 0);
        return r < 0 ? pool_fail(err, r, "write to pool %s", p->name) : 0;
}

const struct engine engine_rbd = {
    .name = "rbd",
    .prefix = "rbd:",
    .open = rbd_engine_open,
    .close = rbd_engine_close,
    .space = rbd_engine_space,
    .room = rbd_engine_room,
    .prepare = rbd_engine_prepare,
    .selftest = rbd_selftest,
    .diagnose = rbd_diagnose,
    .diagnose_host = rbd_diagnose_host,
    .secret = rbd_secret,
    .records = &rbd_records,
    .volumes = &rbd_volumes,
    .leases = &rbd_leases,
    .starts = &rbd_starts,
    .lifts = &rbd_lifts,
    .disks = &rbd_disks,
    .foreign = &rbd_foreign,
};
