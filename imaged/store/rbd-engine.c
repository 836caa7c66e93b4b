/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/rbd-engine.h"

#include <errno.h>
#include <rbd/librbd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"

#define DIRECTORY_PAGE 1000

void pool_io_donep(rados_ioctx_t *io)
{
        if (*io)
                rados_ioctx_destroy(*io);
        *io = NULL;
}

void pool_iter_donep(rados_omap_iter_t *it)
{
        if (*it)
                rados_omap_get_end(*it);
        *it = NULL;
}

void pool_read_op_donep(rados_read_op_t *op)
{
        if (*op)
                rados_release_read_op(*op);
        *op = NULL;
}

void pool_write_op_donep(rados_write_op_t *op)
{
        if (*op)
                rados_release_write_op(*op);
        *op = NULL;
}

int pool_code(int r)
{
        switch (r) {
        case -ESHUTDOWN:
        case -EPERM:
                return -EACCES;
        case -EDQUOT:
                return -ENOSPC;
        case -ENOENT:
        case -EEXIST:
        case -ESTALE:
        case -ETIMEDOUT:
        case -EACCES:
        case -EBUSY:
        case -ENOSPC:
        case -EROFS:
        case -EINVAL:
        case -ENOMEM:
                return r;
        default:
                return -EIO;
        }
}

int pool_fail(struct err *err, int r, const char *fmt, ...)
{
        char what[256];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(what, sizeof what, fmt, ap);
        va_end(ap);
        if (r == -ESHUTDOWN)
                return err_set(err, -EACCES, "%s: this client is on Ceph's blocklist (it has been fenced)",
                               what);
        if (r == -ETIMEDOUT)
                return err_set(err, r, "%s: Ceph did not answer in time; whether it was done is unknown",
                               what);
        return err_set(err, pool_code(r), "%s: %s", what, strerror(-r));
}

int pool_io_in(const struct store *s, rados_t cluster, const char *ns, rados_ioctx_t *ret, struct err *err)
{
        int r = rados_ioctx_create(cluster, pool_of(s)->name, ret);

        if (r < 0) {
                *ret = NULL;
                return pool_fail(err, r, "pool %s", pool_of(s)->name);
        }
        rados_ioctx_set_namespace(*ret, ns);
        /* A full pool is an error to report, not a reason to hang until the time limit. */
        rados_set_pool_full_try(*ret);
        return 0;
}

int pool_io(const struct store *s, rados_ioctx_t *ret, struct err *err)
{
        return pool_io_in(s, pool_of(s)->cluster, pool_of(s)->ns, ret, err);
}

int pool_omap(rados_ioctx_t io, const char *oid, const char *after, const char *prefix, unsigned max,
              rados_omap_iter_t *ret, bool *ret_more)
{
        _cleanup_(pool_read_op_donep) rados_read_op_t op = rados_create_read_op();
        _cleanup_(pool_iter_donep) rados_omap_iter_t it = NULL;
        unsigned char more = 0;
        int prval = 0, r;

        rados_read_op_omap_get_vals2(op, after, prefix, max, &it, &more, &prval);
        r = rados_read_op_operate(op, io, oid, 0);
        if (r < 0)
                return r;
        if (prval < 0)
                return prval;
        *ret = take(it);
        if (ret_more)
                *ret_more = more;
        return 0;
}

int pool_names(rados_ioctx_t io, const char *prefix, pool_name_cb cb, void *arg, struct err *err)
{
        char start[POOL_NAME_MAX + 8], after[POOL_NAME_MAX + 8];
        bool more = true;

        snprintf(start, sizeof start, "name_%s", prefix);
        snprintf(after, sizeof after, "%s", start);
        while (more) {
                _cleanup_(pool_iter_donep) rados_omap_iter_t it = NULL;
                char *key, *val;
                size_t n_key, n_val;
                int r = pool_omap(io, RBD_DIRECTORY, after, start, DIRECTORY_PAGE, &it, &more);

                if (r == -ENOENT)
                        return 0;
                if (r < 0)
                        return pool_fail(err, r, "read the pool's directory");
                while (rados_omap_get_next2(it, &key, &val, &n_key, &n_val) == 0 && key) {
                        char name[POOL_NAME_MAX + 8], id[64];

                        /* A name that is too long is not ours. */
                        snprintf(after, sizeof after, "%.*s", (int)n_key, key);
                        if (n_key >= sizeof name || n_val < 4 || n_val - 4 >= sizeof id)
                                continue;
                        snprintf(name, sizeof name, "%.*s", (int)n_key, key);
                        /* The value is Ceph's encoding of a string: 4 bytes of length, then the text. */
                        snprintf(id, sizeof id, "%.*s", (int)(n_val - 4), val + 4);
                        r = cb(arg, name + strlen("name_"), id);
                        if (r != 0)
                                return r;
                }
        }
        return 0;
}

int pool_list_add(void *arg, const char *name, const char *id _unused_)
{
        struct pool_list *l = arg;
        void *grown = realloc(l->name, (l->n + 1) * sizeof *l->name);

        if (!grown)
                return -ENOMEM;
        l->name = grown;
        snprintf(l->name[l->n++], sizeof *l->name, "%s", name);
        return 0;
}

void pool_list_done(struct pool_list *l)
{
        free(l->name);
        *l = (struct pool_list){0};
}

int pool_ask(rados_t cluster, const char *what, char **ret)
{
        _cleanup_(freep) char *cmd = str_printf("{\"prefix\": \"%s\", \"format\": \"json\"}", what);
        const char *cmds[] = {cmd};
        char *out = NULL, *status = NULL;
        size_t n_out = 0, n_status = 0;
        int r;

        if (!cmd)
                return -ENOMEM;
        r = rados_mon_command(cluster, cmds, 1, "", 0, &out, &n_out, &status, &n_status);
        if (r >= 0) {
                *ret = strndup(out ? out : "", n_out);
                r = *ret ? 0 : -ENOMEM;
        }
        rados_buffer_free(out);
        rados_buffer_free(status);
        return r;
}

static int monitors_read(const struct pool *p, char *ret, size_t len, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *map = NULL;
        _cleanup_(freep) char *text = NULL;
        const json_t *mon, *addr;
        size_t i, k, used = 0;
        int r = pool_ask(p->cluster, "mon dump", &text);

        if (r < 0)
                return pool_fail(err, r, "ask for the monitors");
        r = json_parse(text, "the monitor map", &map, err);
        if (r < 0)
                return r;
        json_array_foreach (json_object_get(map, "mons"), i, mon) {
                json_array_foreach (json_path(mon, "public_addrs.addrvec"), k, addr) {
                        const char *a = json_get_str(addr, "addr", "");

                        if (used + strlen(a) + 2 > len)
                                break;
                        used += (size_t)snprintf(ret + used, len - used, "%s%s", used ? "," : "", a);
                }
        }
        return used ? 0 : err_set(err, -EIO, "the monitor map names no monitor");
}

int pool_monitors(const struct store *s, char *ret, size_t len, struct err *err)
{
        struct pool *p = pool_of(s);
        char found[sizeof p->monitors] = "";
        int r;

        pthread_mutex_lock(&p->lock);
        snprintf(found, sizeof found, "%s", p->monitors);
        pthread_mutex_unlock(&p->lock);
        if (!found[0]) {
                r = monitors_read(p, found, sizeof found, err);
                if (r < 0)
                        return r;
                pthread_mutex_lock(&p->lock);
                snprintf(p->monitors, sizeof p->monitors, "%s", found);
                pthread_mutex_unlock(&p->lock);
        }
        if (strlen(found) >= len)
                return err_set(err, -EINVAL, "the monitors' addresses are %zu bytes, at most %zu fit",
                               strlen(found), len);
        strcpy(ret, found);
        return 0;
}

int pool_path(const struct store *s, const char *image, char *ret, size_t len, struct err *err)
{
        const struct pool *p = pool_of(s);
        int n = snprintf(ret, len, "%s/%s%s%s", p->name, p->ns, p->ns[0] ? "/" : "", image);

        return n > 0 && (size_t)n < len ? 0 : err_set(err, -EINVAL, "the path of %s is too long", image);
}

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

static int set_limits(rados_t cluster, unsigned timeout_ms)
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
            {"rbd_default_clone_format", "2"},
            {"rbd_validate_pool", "false"}, /* store_prepare() does it once, not every clone again */
            {"log_to_stderr", "false"},     /* a library does not print; failures come back as codes */
            {"err_to_stderr", "false"},
        };

        /* Ceph takes whole seconds here. */
        snprintf(seconds, sizeof seconds, "%u", (timeout_ms + 999) / 1000);
        for (size_t i = 0; i < ARRAY_SIZE(settings) && r == 0; i++)
                r = rados_conf_set(cluster, settings[i][0], settings[i][1]);
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
        r = set_limits(cluster, s->options.timeout_ms);
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
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        int r;

        if (!p)
                return err_set(err, -ENOMEM, "out of memory");
        s->state = p;
        pthread_mutex_init(&p->lock, NULL);
        r = place_parse(p, s->place, err);
        if (r == 0)
                r = pool_connect(s, &p->cluster, err);
        if (r < 0)
                return r;
        p->connected = true;
        r = pool_address(p->cluster, &p->own, err);
        if (r < 0)
                return r;
        /* "1.2.3.4:0/99" or "[fd00::1]:0/99": the address is what stands before the last colon. */
        p->address = s->options.address ? strdup(s->options.address) : strdup(p->own);
        if (!p->address)
                return err_set(err, -ENOMEM, "out of memory");
        if (!s->options.address && strrchr(p->address, ':'))
                *strrchr(p->address, ':') = '\0';
        return pool_io(s, &io, err);
}

static void rbd_engine_close(struct store *s)
{
        struct pool *p = pool_of(s);

        if (!p)
                return;
        if (p->connected)
                rados_shutdown(p->cluster);
        free(p->name);
        free(p->ns);
        free(p->account_ns);
        free(p->own);
        free(p->address);
        pthread_mutex_destroy(&p->lock);
        free(p);
        s->state = NULL;
}

/* What the pool itself says: it knows its replicas, the cluster's raw figures do not. */
static int rbd_engine_space(struct store *s, uint64_t *ret_total, uint64_t *ret_free, struct err *err)
{
        const struct pool *p = pool_of(s);
        _cleanup_(json_decrefpp) json_t *df = NULL;
        _cleanup_(freep) char *text = NULL;
        const json_t *pool;
        size_t i;
        int r = pool_ask(p->cluster, "df", &text);

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

static int check_clone_v2(const struct pool *p, struct err *err)
{
        static const char *const old[] = {"argonaut",   "bobtail", "cuttlefish", "dumpling",
                                          "emperor",    "firefly", "giant",      "hammer",
                                          "infernalis", "jewel",   "kraken",     "luminous"};
        _cleanup_(freep) char *text = NULL;
        int r = pool_ask(p->cluster, "osd get-require-min-compat-client", &text);

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
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        _cleanup_(pool_write_op_donep) rados_write_op_t op = rados_create_write_op();
        int r = check_clone_v2(p, err);

        if (r < 0)
                return r;
        r = pool_io_in(s, p->cluster, "", &io, err);
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
    .prepare = rbd_engine_prepare,
    .selftest = rbd_selftest,
    .secret = rbd_secret,
    .records = &rbd_records,
    .volumes = &rbd_volumes,
    .leases = &rbd_leases,
};
