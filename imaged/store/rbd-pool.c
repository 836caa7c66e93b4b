/* SPDX-License-Identifier: Apache-2.0 */
/* What all of the rbd engine needs of librados: contexts, errors, omap, the pool's directory, the monitors.
 */
#include "imaged/store/rbd-engine.h"

#include <errno.h>
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

/* A hint and nothing else, hence for all pools together: whose client it was is found out by asking. */
static unsigned refusals;

unsigned pool_refusals(void)
{
        return __atomic_load_n(&refusals, __ATOMIC_RELAXED);
}

int pool_code(int r)
{
        switch (r) {
        case -ESHUTDOWN:
                __atomic_add_fetch(&refusals, 1, __ATOMIC_RELAXED);
                return -EACCES;
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
                return err_set(err, pool_code(r),
                               "%s: this client is on Ceph's blocklist (it has been fenced)", what);
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

int pool_io(const struct store *s, struct pool_client **ret_client, rados_ioctx_t *ret, struct err *err)
{
        int r = pool_client_get(s, ret_client, err);

        return r < 0 ? r : pool_io_in(s, (*ret_client)->cluster, pool_of(s)->ns, ret, err);
}

/* Calls cb with the entries of one page of the directory. `after` becomes the last one's key. */
static int names_page(struct pool_scan *s, char *after, size_t after_len, pool_name_cb cb, void *arg)
{
        char *key, *val;
        size_t n_key, n_val;

        while (rados_omap_get_next2(s->it, &key, &val, &n_key, &n_val) == 0 && key) {
                char name[POOL_NAME_MAX + 8], id[64];
                int r;

                /* A name that is too long is not ours. */
                snprintf(after, after_len, "%.*s", (int)n_key, key);
                if (n_key >= sizeof name || n_val < 4 || n_val - 4 >= sizeof id)
                        continue;
                snprintf(name, sizeof name, "%.*s", (int)n_key, key);
                /* The value is Ceph's encoding of a string: 4 bytes of length, then the text. */
                snprintf(id, sizeof id, "%.*s", (int)(n_val - 4), val + 4);
                r = cb(arg, name + strlen("name_"), id);
                if (r != 0)
                        return r;
        }
        return 0;
}

void pool_list_begin(struct pool_scan *s, rados_ioctx_t io, const char *prefix)
{
        char start[POOL_NAME_MAX + 8];

        snprintf(start, sizeof start, "name_%s", prefix);
        pool_scan_begin(s, io, RBD_DIRECTORY, start, start, DIRECTORY_PAGE);
}

/* The first page is begun; the others are read one after the other. */
static int names_wait(struct pool_scan *s, rados_ioctx_t io, const char *prefix, pool_name_cb cb, void *arg,
                      struct err *err)
{
        char start[POOL_NAME_MAX + 8], after[POOL_NAME_MAX + 8];

        snprintf(start, sizeof start, "name_%s", prefix);
        for (;;) {
                int r = pool_scan_wait(s);

                if (r == -ENOENT)
                        return 0;
                if (r < 0)
                        return pool_fail(err, r, "read the pool's directory");
                r = names_page(s, after, sizeof after, cb, arg);
                if (r != 0 || !s->more)
                        return r;
                pool_scan_done(s);
                pool_scan_begin(s, io, RBD_DIRECTORY, after, start, DIRECTORY_PAGE);
        }
}

int pool_names(rados_ioctx_t io, const char *prefix, pool_name_cb cb, void *arg, struct err *err)
{
        _cleanup_(pool_scan_done) struct pool_scan s = {0};

        pool_list_begin(&s, io, prefix);
        return names_wait(&s, io, prefix, cb, arg, err);
}

static int list_add(void *arg, const char *name, const char *id)
{
        struct pool_list *l = arg;
        struct pool_image *grown = reallocarray(l->image, l->n + 1, sizeof *grown);

        if (!grown)
                return -ENOMEM;
        l->image = grown;
        snprintf(grown[l->n].name, sizeof grown->name, "%s", name);
        snprintf(grown[l->n++].id, sizeof grown->id, "%s", id);
        return 0;
}

int pool_list_wait(struct pool_scan *s, rados_ioctx_t io, const char *prefix, struct pool_list *ret,
                   struct err *err)
{
        int r = names_wait(s, io, prefix, list_add, ret, err);

        return r == -ENOMEM ? err_set(err, r, "out of memory") : r;
}

int pool_list(rados_ioctx_t io, const char *prefix, struct pool_list *ret, struct err *err)
{
        _cleanup_(pool_scan_done) struct pool_scan s = {0};

        pool_list_begin(&s, io, prefix);
        return pool_list_wait(&s, io, prefix, ret, err);
}

const char *pool_list_id(const struct pool_list *l, const char *name)
{
        for (size_t i = 0; i < l->n; i++)
                if (streq(l->image[i].name, name))
                        return l->image[i].id;
        return NULL;
}

void pool_list_done(struct pool_list *l)
{
        free(l->image);
        *l = (struct pool_list){0};
}

int pool_ask(rados_t cluster, const char *what, const char *more, char **ret)
{
        _cleanup_(freep) char *cmd = str_printf("{\"prefix\": \"%s\", %s \"format\": \"json\"}", what, more);
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

static int monitors_read(const struct store *s, char *ret, size_t len, struct err *err)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(json_decrefpp) json_t *map = NULL;
        _cleanup_(freep) char *text = NULL;
        const json_t *mon, *addr;
        size_t i, k, used = 0;
        int r = pool_client_get(s, &client, err);

        if (r < 0)
                return r;
        r = pool_ask(client->cluster, "mon dump", "", &text);
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
                r = monitors_read(s, found, sizeof found, err);
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

int pool_reading_read(const struct pool_reading *i, const char *what, void *buf, size_t len, uint64_t offset,
                      struct err *err)
{
        ssize_t n;

        for (size_t done = 0; done < len; done += (size_t)n) {
                n = rbd_read(i->image, offset + done, len - done, (char *)buf + done);
                if (n == 0)
                        n = -EIO;
                if (n < 0)
                        return pool_fail(err, (int)n, "%s: read at %llu", what,
                                         (unsigned long long)(offset + done));
        }
        return 0;
}

void pool_reading_close(struct pool_reading *i)
{
        if (i->image)
                rbd_close(i->image);
        pool_io_donep(&i->io);
        pool_client_putp(&i->client);
}
