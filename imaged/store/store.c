/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "imaged/store/record-cache.h"
#include "imaged/store/store-call.h"

/*
 * The one place that checks arguments and knows which engines there are. The calls themselves are in
 * store-records.c, store-volumes.c and store-leases.c.
 */
#define TIMEOUT_MS 5000
#define CACHE_BYTES ((size_t)256 << 20)

static const struct engine *const engines[] = {
    &engine_dir,
#ifdef HAVE_NFS
    &engine_nfs,
#endif
#ifdef HAVE_RBD
    &engine_rbd,
#endif
    &engine_mem,
};

static int copy_text(const char *text, const char **ret)
{
        *ret = text ? strdup(text) : NULL;
        return text && !*ret ? -ENOMEM : 0;
}

static int options_copy(const struct store_options *from, struct store_options *ret)
{
        static const struct store_options defaults = {};

        if (!from)
                from = &defaults;
        *ret = *from;
        ret->ceph_conf = ret->ceph_user = ret->address = NULL;
        if (ret->timeout_ms == 0)
                ret->timeout_ms = TIMEOUT_MS;
        if (copy_text(from->ceph_conf, &ret->ceph_conf) < 0 ||
            copy_text(from->ceph_user, &ret->ceph_user) < 0 || copy_text(from->address, &ret->address) < 0)
                return -ENOMEM;
        return 0;
}

static void store_free(struct store *s)
{
        record_cache_free(s->cache);
        free((char *)s->options.ceph_conf);
        free((char *)s->options.ceph_user);
        free((char *)s->options.address);
        free(s->place);
        free(s->url);
        free(s);
}

int store_open(const char *url, const struct store_options *options, struct store **ret, struct err *err)
{
        const struct engine *engine = NULL;
        struct store *s;
        int r;

        if (!url || !ret)
                return err_set(err, -EINVAL, "a store needs a URL");
        for (size_t i = 0; i < ARRAY_SIZE(engines) && !engine; i++)
                if (strncmp(url, engines[i]->prefix, strlen(engines[i]->prefix)) == 0)
                        engine = engines[i];
        if (!engine)
                return err_set(
                    err, -EINVAL,
                    "%s: no such storage engine; use dir:PATH, nfs://SERVER/EXPORT or rbd:POOL[/NAMESPACE]",
                    url);
        s = calloc(1, sizeof(*s));
        if (!s)
                return err_set(err, -ENOMEM, "%s: out of memory", url);
        s->engine = engine;
        s->url = strdup(url);
        s->place = strdup(url + strlen(engine->prefix));
        s->cache = record_cache_new(CACHE_BYTES);
        if (!s->url || !s->place || !s->cache || options_copy(options, &s->options) < 0) {
                store_free(s);
                return err_set(err, -ENOMEM, "%s: out of memory", url);
        }
        r = ENGINE_CALL(err, engine->open(s, &own));
        if (r < 0) {
                engine->close(s);
                store_free(s);
                return r;
        }
        *ret = s;
        return 0;
}

struct store *store_close(struct store *s)
{
        if (!s)
                return NULL;
        s->engine->close(s);
        store_free(s);
        return NULL;
}

const char *store_url(const struct store *s)
{
        return s->url;
}

const char *store_engine(const struct store *s)
{
        return s->engine->name;
}

int store_space(struct store *s, uint64_t *ret_total, uint64_t *ret_free, struct err *err)
{
        if (!s->engine->space) {
                *ret_total = *ret_free = 0;
                return 0;
        }
        return ENGINE_CALL(err, s->engine->space(s, ret_total, ret_free, &own));
}

/* Less than a record's reserve gives up at once: what guests write next fails, or has failed. */
#define ROOM_MIN ((uint64_t)1 << 20)

int store_room(struct store *s, struct err *err)
{
        uint64_t total = 0, left = 0;
        int r;

        if (s->engine->room)
                return ENGINE_CALL(err, s->engine->room(s, &own));
        r = store_space(s, &total, &left, err);
        return r < 0 ? r : total > 0 && left < ROOM_MIN ? STORE_FULL : STORE_ROOM;
}

int store_prepare(struct store *s, struct err *err)
{
        return s->engine->prepare ? ENGINE_CALL(err, s->engine->prepare(s, &own)) : 0;
}

int store_upkeep(struct store *s, struct err *err)
{
        return s->engine->upkeep ? ENGINE_CALL(err, s->engine->upkeep(s, &own)) : 0;
}

int store_secret(struct store *s, char **ret, struct err *err)
{
        if (!s->engine->secret)
                return err_set(err, -EOPNOTSUPP, "%s: the %s engine needs no key", s->url, s->engine->name);
        return s->engine->secret(s, ret, err);
}

int store_selftest(struct store *s, struct err *err)
{
        struct err own = {};
        int r;

        if (!s->engine->selftest)
                return err_set(err, -EOPNOTSUPP, "%s: the engine %s has no fence to test", s->url,
                               s->engine->name);
        r = s->engine->selftest(s, &own);
        if (r <= 0 && err)
                *err = own;
        return r;
}

int store_diagnose(struct store *s, bool many_machines, store_finding_cb cb, void *arg, struct err *err)
{
        if (!s->engine->diagnose)
                return 0;
        return ENGINE_CALL(err, s->engine->diagnose(s, many_machines, cb, arg, &own));
}

int store_diagnose_host(struct store *s, store_finding_cb cb, void *arg, struct err *err)
{
        if (!s->engine->diagnose_host)
                return 0;
        return ENGINE_CALL(err, s->engine->diagnose_host(s, cb, arg, &own));
}

static bool is_taken(uint32_t uid, const uint32_t *taken, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (taken[i] == uid)
                        return true;
        return false;
}

void start_init(struct start *ret, const char *instance, uint64_t epoch, const char *attempt,
                const uint32_t *taken, size_t n_taken)
{
        *ret = (struct start){};
        do {
                uuid_random(ret->id);
                ret->uid = start_uid(instance, epoch, attempt, ret->id);
        } while (is_taken(ret->uid, taken, n_taken));
        if (attempt)
                ret->gid = ret->uid;
}
