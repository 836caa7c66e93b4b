/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/rados-memory.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"

struct memory memory;

struct entry {
        char key[160], *val;
        size_t len;
};
struct object {
        char oid[256], data[256];
        bool there;
        size_t len;
        struct entry *entry;
        size_t n;
        uint64_t version;
};
static struct object objects[256];
static size_t n_objects;
static pthread_mutex_t lock; /* recursive: a hook may call the store */
static unsigned next_client, next_image;
static struct {
        const char *call, *object;
        int r, skip;
} failing;

static void unlockp(pthread_mutex_t **l)
{
        pthread_mutex_unlock(*l);
}
#define LOCKED _cleanup_(unlockp) _unused_ pthread_mutex_t *locked = (pthread_mutex_lock(&lock), &lock)

static void note(const char *fmt, ...)
{
        size_t n = strlen(memory.log);
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(memory.log + n, sizeof(memory.log) - n, fmt, ap);
        va_end(ap);
}

static int enter(const char *call, const char *object)
{
        if (failing.call && streq(failing.call, call) &&
            strncmp(object, failing.object, strlen(failing.object)) == 0 && failing.skip-- == 0) {
                failing.call = NULL;
                return failing.r;
        }
        return memory.hook ? memory.hook(call, object) : 0;
}

void memory_fail(const char *call, const char *object, int r, int skip)
{
        failing.call = call;
        failing.object = object;
        failing.r = r;
        failing.skip = skip;
}

/* The answer of a call that was done with `r`, where the hook said `told`. */
static int leave(int told, int r)
{
        return told > 0 ? -told : r;
}

/* --- objects --- */

static struct object *object(const char *oid, bool make)
{
        for (size_t i = 0; i < n_objects; i++)
                if (streq(objects[i].oid, oid))
                        return objects[i].there || make ? &objects[i] : NULL;
        if (!make)
                return NULL;
        if (n_objects == ARRAY_SIZE(objects))
                abort();
        snprintf(objects[n_objects].oid, sizeof(objects->oid), "%s", oid);
        return &objects[n_objects++];
}

static struct entry *entry(struct object *o, const char *key)
{
        for (size_t i = 0; o && i < o->n; i++)
                if (streq(o->entry[i].key, key))
                        return &o->entry[i];
        return NULL;
}

static void entry_rm(struct object *o, const char *key)
{
        struct entry *e = entry(o, key);

        if (!e)
                return;
        free(e->val);
        memmove(e, e + 1, (size_t)(o->entry + --o->n - e) * sizeof(*e));
}

static void entry_set(struct object *o, const char *key, const void *val, size_t len)
{
        size_t at = 0;

        entry_rm(o, key);
        o->entry = reallocarray(o->entry, o->n + 1, sizeof(*o->entry));
        while (at < o->n && strcmp(o->entry[at].key, key) < 0)
                at++;
        memmove(o->entry + at + 1, o->entry + at, (o->n++ - at) * sizeof(*o->entry));
        snprintf(o->entry[at].key, sizeof(o->entry->key), "%s", key);
        o->entry[at].val = calloc(1, len + 1);
        memcpy(o->entry[at].val, val, len);
        o->entry[at].len = len;
        o->there = true;
        o->version++;
}

static void object_rm(struct object *o)
{
        while (o->n > 0)
                entry_rm(o, o->entry[0].key);
        o->there = false;
        o->len = 0;
        o->version++;
}

const char *memory_get(const char *oid, const char *key)
{
        struct entry *e = entry(object(oid, false), key);

        return e ? e->val : NULL;
}

void memory_set(const char *oid, const char *key, const char *val)
{
        entry_set(object(oid, true), key, val, strlen(val));
}

void memory_drop(const char *oid)
{
        struct object *o = object(oid, false);

        if (o)
                object_rm(o);
}

bool memory_exists(const char *oid)
{
        return object(oid, false) != NULL;
}

static size_t put_string(char *at, const char *text)
{
        size_t n = strlen(text);

        memcpy(at, &(uint32_t){(uint32_t)n}, 4);
        memcpy(at + 4, text, n);
        return n + 4;
}

static void object_write(struct object *o, const void *data, size_t len)
{
        memcpy(o->data, data, MIN_OF(len, sizeof(o->data)));
        o->len = len;
        o->there = true;
        o->version++;
}

/* --- clients --- */

struct client {
        char address[64], settings[1024];
};
struct ioctx {
        struct client *client;
        char ns[64];
};

static void path(rados_ioctx_t io, const char *oid, char ret[256])
{
        snprintf(ret, 256, "%s/%s", ((struct ioctx *)io)->ns, oid);
}

static bool is_blocked(const char *address)
{
        for (size_t i = 0; i < memory.n_blocked; i++)
                if (streq(memory.blocked[i], address))
                        return true;
        return false;
}

static int io_enter(rados_ioctx_t io, const char *call, const char *oid)
{
        if (!memory.blocklist_idle && is_blocked(((struct ioctx *)io)->client->address))
                return -ESHUTDOWN;
        return enter(call, oid);
}

int rados_create(rados_t *ret, const char *const id)
{
        struct client *c = calloc(1, sizeof(*c));

        snprintf(c->address, sizeof(c->address), "10.0.0.2:0/%u", ++next_client);
        memory.clients++;
        *ret = c;
        return 0;
}

void rados_shutdown(rados_t cluster)
{
        memory.clients--;
        free(cluster);
}

int rados_conf_read_file(rados_t cluster, const char *file)
{
        return enter("conf", file);
}

int rados_conf_set(rados_t cluster, const char *option, const char *value)
{
        size_t n = strlen(memory.settings);

        snprintf(memory.settings + n, sizeof(memory.settings) - n, "%s=%s ", option, value);
        return 0;
}

int rados_conf_get(rados_t cluster, const char *option, char *buf, size_t len)
{
        snprintf(buf, len, "%s", memory.keyring ? memory.keyring : "");
        return enter("conf_get", option);
}

int rados_connect(rados_t cluster)
{
        return enter("connect", "");
}

int rados_getaddrs(rados_t cluster, char **ret)
{
        *ret = strdup(((struct client *)cluster)->address);
        return 0;
}

void rados_buffer_free(char *buf)
{
        free(buf);
}

int rados_cluster_fsid(rados_t cluster, char *buf, size_t len)
{
        snprintf(buf, len, "fsid");
        return 4;
}

int rados_ioctx_create(rados_t cluster, const char *pool, rados_ioctx_t *ret)
{
        struct ioctx *io;
        int r = enter("ioctx", pool);

        if (r < 0)
                return r;
        io = calloc(1, sizeof(*io));
        io->client = cluster;
        *ret = io;
        return 0;
}

void rados_ioctx_destroy(rados_ioctx_t io)
{
        free(io);
}

void rados_ioctx_set_namespace(rados_ioctx_t io, const char *ns)
{
        snprintf(((struct ioctx *)io)->ns, 64, "%s", ns);
}

void rados_set_pool_full_try(rados_ioctx_t io)
{
}

int rados_blocklist_add(rados_t cluster, char *address, uint32_t seconds)
{
        LOCKED;
        int r = enter("blocklist", address);

        note("blocklist:%s:%u ", address, seconds);
        if (r >= 0)
                snprintf(memory.blocked[memory.n_blocked++], 64, "%s", address);
        return leave(r, MIN_OF(r, 0));
}

int rados_wait_for_latest_osdmap(rados_t cluster)
{
        note("map ");
        return enter("map", "");
}

int rados_mon_command(rados_t cluster, const char **cmd, size_t cmdlen, const char *inbuf, size_t inbuflen,
                      char **outbuf, size_t *outbuflen, char **outs, size_t *outslen)
{
        const char *answer = memory.answer ? memory.answer : "[]";
        int r = enter("command", cmd[0]);

        snprintf(memory.command, sizeof(memory.command), "%s", cmd[0]);
        note("command ");
        if (r < 0)
                return r;
        if (outbuf) {
                *outbuf = strdup(answer);
                *outbuflen = strlen(answer);
        }
        return 0;
}

/* --- reading --- */

struct iter {
        struct entry *entry;
        size_t n, at;
};
struct query {
        char after[160], prefix[160], (*keys)[160];
        size_t n_keys;
        uint64_t max;
        rados_omap_iter_t *it;
        unsigned char *more;
        int *r;
};
struct read_op {
        struct query query[2];
        size_t n;
};

rados_read_op_t rados_create_read_op(void)
{
        return calloc(1, sizeof(struct read_op));
}

void rados_release_read_op(rados_read_op_t op)
{
        for (size_t i = 0; i < 2; i++)
                free(((struct read_op *)op)->query[i].keys);
        free(op);
}

void rados_read_op_omap_get_vals2(rados_read_op_t op, const char *after, const char *prefix, uint64_t max,
                                  rados_omap_iter_t *it, unsigned char *more, int *r)
{
        struct read_op *o = op;
        struct query *q = &o->query[o->n++];

        snprintf(q->after, sizeof(q->after), "%s", after);
        snprintf(q->prefix, sizeof(q->prefix), "%s", prefix);
        q->max = memory.page ? MIN_OF(max, memory.page) : max;
        q->it = it;
        q->more = more;
        q->r = r;
}

void rados_read_op_omap_get_vals_by_keys2(rados_read_op_t op, char const *const *keys, size_t n,
                                          const size_t *lens, rados_omap_iter_t *it, int *r)
{
        struct read_op *o = op;
        struct query *q = &o->query[o->n++];

        q->keys = calloc(n, sizeof(*q->keys));
        q->n_keys = n;
        for (size_t i = 0; i < n; i++)
                snprintf(q->keys[i], sizeof(*q->keys), "%.*s", (int)lens[i], keys[i]);
        q->it = it;
        q->r = r;
}

void rados_read_op_omap_get_vals_by_keys(rados_read_op_t op, const char *const *keys, size_t n,
                                         rados_omap_iter_t *it, int *r)
{
        const size_t len = strlen(keys[0]);

        rados_read_op_omap_get_vals_by_keys2(op, keys, 1, &len, it, r);
}

static bool wanted(const struct query *q, const char *key)
{
        for (size_t i = 0; i < q->n_keys; i++)
                if (streq(q->keys[i], key))
                        return true;
        return !q->keys && strcmp(key, q->after) > 0 && strncmp(key, q->prefix, strlen(q->prefix)) == 0;
}

static void query_run(const struct query *q, const struct object *o)
{
        struct iter *it = calloc(1, sizeof(*it));

        for (size_t i = 0; i < o->n; i++) {
                struct entry *e;

                if (!wanted(q, o->entry[i].key))
                        continue;
                if (!q->keys && it->n == q->max) {
                        *q->more = 1;
                        break;
                }
                it->entry = reallocarray(it->entry, it->n + 1, sizeof(*it->entry));
                e = &it->entry[it->n++];
                *e = o->entry[i];
                e->val = malloc(e->len + 1);
                memcpy(e->val, o->entry[i].val, e->len + 1);
        }
        *q->it = it;
        *q->r = 0;
}

int rados_read_op_operate(rados_read_op_t op, rados_ioctx_t io, const char *oid, int flags)
{
        LOCKED;
        int r = io_enter(io, "read", oid);
        struct object *o;
        char p[256];

        if (r < 0)
                return r;
        path(io, oid, p);
        o = object(p, false);
        if (!o)
                return -ENOENT;
        for (size_t i = 0; i < ((struct read_op *)op)->n; i++)
                query_run(&((struct read_op *)op)->query[i], o);
        return leave(r, 0);
}

int rados_omap_get_next2(rados_omap_iter_t iter, char **key, char **val, size_t *key_len, size_t *val_len)
{
        struct iter *it = iter;

        *key = NULL;
        if (it->at == it->n)
                return 0;
        *key = it->entry[it->at].key;
        *val = it->entry[it->at].val;
        *key_len = strlen(*key);
        *val_len = it->entry[it->at++].len;
        return 0;
}

int rados_omap_get_next(rados_omap_iter_t iter, char **key, char **val, size_t *len)
{
        size_t key_len;

        return rados_omap_get_next2(iter, key, val, &key_len, len);
}

void rados_omap_get_end(rados_omap_iter_t iter)
{
        struct iter *it = iter;

        for (size_t i = 0; i < it->n; i++)
                free(it->entry[i].val);
        free(it->entry);
        free(it);
}

int rados_read(rados_ioctx_t io, const char *oid, char *buf, size_t len, uint64_t off)
{
        LOCKED;
        int r = io_enter(io, "read", oid);
        struct object *o;
        char p[256];

        if (r < 0)
                return r;
        path(io, oid, p);
        o = object(p, false);
        if (!o)
                return -ENOENT;
        len = MIN_OF(len, o->len);
        if (memory.read_max)
                len = MIN_OF(len, memory.read_max);
        memcpy(buf, o->data, len);
        return leave(r, (int)len);
}

int rados_stat(rados_ioctx_t io, const char *oid, uint64_t *size, time_t *when)
{
        return io_enter(io, "stat", oid);
}

int rados_write_full(rados_ioctx_t io, const char *oid, const char *buf, size_t len)
{
        LOCKED;
        int r = io_enter(io, "write", oid);
        char p[256];

        if (r < 0)
                return r;
        path(io, oid, p);
        object_write(object(p, true), buf, len);
        note("write:%s ", oid);
        return leave(r, 0);
}

int rados_remove(rados_ioctx_t io, const char *oid)
{
        LOCKED;
        int r = io_enter(io, "remove", oid);
        char p[256];

        if (r < 0)
                return r;
        path(io, oid, p);
        if (!memory_exists(p))
                return leave(r, -ENOENT);
        memory_drop(p);
        note("remove:%s ", oid);
        return leave(r, 0);
}

/* --- changing --- */

struct write_op {
        struct step {
                enum { CREATE, EXISTS, VERSION, CMP, SET, RM, FULL, REMOVE, RENAME } what;
                char key[160], *val;
                size_t len;
                uint64_t number;
        } step[160];
        size_t n;
};

static void step(rados_write_op_t op, int what, const char *key, const void *val, size_t len,
                 uint64_t number)
{
        struct write_op *o = op;
        struct step *s = &o->step[o->n++];

        s->what = what;
        snprintf(s->key, sizeof(s->key), "%s", key);
        s->val = calloc(1, len + 1);
        if (len)
                memcpy(s->val, val, len);
        s->len = len;
        s->number = number;
}

rados_write_op_t rados_create_write_op(void)
{
        return calloc(1, sizeof(struct write_op));
}

void rados_release_write_op(rados_write_op_t op)
{
        struct write_op *o = op;

        for (size_t i = 0; i < o->n; i++)
                free(o->step[i].val);
        free(op);
}

void rados_write_op_create(rados_write_op_t op, int exclusive, const char *category)
{
        step(op, CREATE, "", NULL, 0, exclusive == LIBRADOS_CREATE_EXCLUSIVE);
}

void rados_write_op_assert_exists(rados_write_op_t op)
{
        step(op, EXISTS, "", NULL, 0, 0);
}

void rados_write_op_assert_version(rados_write_op_t op, uint64_t version)
{
        step(op, VERSION, "", NULL, 0, version);
}

void rados_write_op_omap_cmp2(rados_write_op_t op, const char *key, uint8_t how, const char *val,
                              size_t key_len, size_t val_len, int *prval)
{
        step(op, CMP, key, val, val_len, how);
}

void rados_write_op_omap_set2(rados_write_op_t op, char const *const *keys, char const *const *vals,
                              const size_t *key_lens, const size_t *val_lens, size_t n)
{
        char key[160];

        for (size_t i = 0; i < n; i++) {
                snprintf(key, sizeof(key), "%.*s", (int)key_lens[i], keys[i]);
                step(op, SET, key, vals[i], val_lens[i], 0);
        }
}

void rados_write_op_omap_rm_keys2(rados_write_op_t op, char const *const *keys, const size_t *key_lens,
                                  size_t n)
{
        for (size_t i = 0; i < n; i++)
                step(op, RM, keys[i], NULL, 0, 0);
}

void rados_write_op_write_full(rados_write_op_t op, const char *buf, size_t len)
{
        step(op, FULL, "", buf, len, 0);
}

void rados_write_op_remove(rados_write_op_t op)
{
        step(op, REMOVE, "", NULL, 0, 0);
}

void rados_write_op_exec(rados_write_op_t op, const char *cls, const char *method, const char *in,
                         size_t len, int *prval)
{
        step(op, RENAME, method, in, len, 0);
}

/* As the OSD compares: the entry stands on the left; one that is missing is "". */
static bool holds(const struct step *s, struct object *o)
{
        const struct entry *e = entry(o, s->key);
        int order = strcmp(e ? e->val : "", s->val);

        return s->number == LIBRADOS_CMPXATTR_OP_EQ ? order == 0
                                                    : s->number == LIBRADOS_CMPXATTR_OP_LT && order < 0;
}

struct rename {
        char old[160], new[160], id[64];
};

static struct rename rename_parse(const struct step *s)
{
        struct rename ret;
        const char *at = s->val;

        snprintf(ret.old, sizeof(ret.old), "name_%.*s", *(const unsigned char *)at, at + 4);
        at += 4 + *(const unsigned char *)at;
        snprintf(ret.new, sizeof(ret.new), "name_%.*s", *(const unsigned char *)at, at + 4);
        at += 4 + *(const unsigned char *)at;
        snprintf(ret.id, sizeof(ret.id), "%.*s", *(const unsigned char *)at, at + 4);
        return ret;
}

static int judge(const struct write_op *op, struct object *o, bool there)
{
        for (size_t i = 0; i < op->n; i++) {
                const struct step *s = &op->step[i];

                if (s->what == CREATE && there && s->number)
                        return -EEXIST;
                if (s->what == CREATE)
                        there = true;
                if ((s->what == EXISTS || s->what == VERSION || s->what == CMP || s->what == RM ||
                     s->what == REMOVE) &&
                    !there)
                        return -ENOENT;
                if (s->what == VERSION && s->number != o->version)
                        return s->number < o->version ? -ERANGE : -EOVERFLOW;
                if (s->what == CMP && !holds(s, o))
                        return -ECANCELED;
                if (s->what == RENAME) {
                        const struct rename r = rename_parse(s);
                        const struct entry *e = entry(o, r.old);

                        if (!e)
                                return -ENOENT;
                        if (!streq(e->val + 4, r.id))
                                return -ESTALE;
                        if (entry(o, r.new))
                                return -EEXIST;
                }
        }
        return 0;
}

static void apply(const struct step *s, struct object *o, const char *oid)
{
        if (s->what == SET) {
                entry_set(o, s->key, s->val, s->len);
                note("set:%.7s ", s->key);
        } else if (s->what == RM) {
                entry_rm(o, s->key);
                note("rm:%.7s ", s->key);
        } else if (s->what == FULL) {
                object_write(o, s->val, s->len);
                note("write:%s ", oid);
        } else if (s->what == REMOVE) {
                object_rm(o);
                note("remove:%s ", oid);
        } else if (s->what == CREATE) {
                o->there = true;
        } else if (s->what == RENAME) {
                const struct rename r = rename_parse(s);
                char id[68];

                entry_set(o, r.new, id, put_string(id, r.id));
                entry_rm(o, r.old);
                note("rename:%s ", r.new + 5);
        }
}

int rados_write_op_operate(rados_write_op_t op, rados_ioctx_t io, const char *oid, time_t *mtime, int flags)
{
        LOCKED;
        const struct write_op *w = op;
        int told = io_enter(io, "operate", oid), r;
        struct object *o;
        char p[256];

        if (told < 0)
                return told;
        path(io, oid, p);
        r = judge(w, object(p, true), memory_exists(p));
        o = object(p, true);
        for (size_t i = 0; r == 0 && i < w->n; i++)
                apply(&w->step[i], o, oid);
        o->version += r == 0;
        return leave(told, r);
}

/* Done when it is waited for, but for its result nobody can tell. */
struct completion {
        int r;
        uint64_t version;
};

int rados_aio_create_completion2(void *arg, rados_callback_t cb, rados_completion_t *ret)
{
        *ret = calloc(1, sizeof(struct completion));
        return 0;
}

int rados_aio_write_op_operate(rados_write_op_t op, rados_ioctx_t io, rados_completion_t done,
                               const char *oid, time_t *mtime, int flags)
{
        ((struct completion *)done)->r = rados_write_op_operate(op, io, oid, mtime, flags);
        return 0;
}

int rados_aio_read_op_operate(rados_read_op_t op, rados_ioctx_t io, rados_completion_t done, const char *oid,
                              int flags)
{
        struct object *o;
        char p[256];

        path(io, oid, p);
        ((struct completion *)done)->r = rados_read_op_operate(op, io, oid, flags);
        o = object(p, false);
        ((struct completion *)done)->version = o ? o->version : 0;
        return 0;
}

int rados_aio_wait_for_complete(rados_completion_t done)
{
        return 0;
}

int rados_aio_get_return_value(rados_completion_t done)
{
        return ((struct completion *)done)->r;
}

uint64_t rados_aio_get_version(rados_completion_t done)
{
        return ((struct completion *)done)->version;
}

void rados_aio_release(rados_completion_t done)
{
        free(done);
}

/* --- the clock and the fixture --- */

int64_t __wrap_clock_ms(void);
int64_t __wrap_clock_ms(void)
{
        return memory.now_ms;
}

int __wrap_clock_nanosleep(clockid_t clock, int flags, const struct timespec *t, struct timespec *left);
int __wrap_clock_nanosleep(clockid_t clock, int flags, const struct timespec *t, struct timespec *left)
{
        memory.now_ms += t->tv_nsec / 1000000;
        (void)enter("sleep", "");
        return 0;
}

void memory_clear(void)
{
        pthread_mutexattr_t a;

        for (size_t i = 0; i < n_objects; i++) {
                object_rm(&objects[i]);
                free(objects[i].entry);
        }
        memset(objects, 0, sizeof(objects));
        n_objects = 0;
        memory = (struct memory){0};
        failing.call = NULL;
        next_client = next_image = 0;
        pthread_mutexattr_init(&a);
        pthread_mutexattr_settype(&a, PTHREAD_MUTEX_RECURSIVE);
        pthread_mutex_init(&lock, &a);
}

int memory_setup(void **state)
{
        struct err err = {0};

        memory_clear();
        return store_open("rbd:pool", &(struct store_options){.timeout_ms = 1500}, (struct store **)state,
                          &err);
}

int memory_teardown(void **state)
{
        memory.hook = NULL;
        store_close(*state);
        memory_clear();
        return 0;
}

static struct memory_image *by_id(const char *id)
{
        for (size_t i = 0; i < memory.n_images; i++)
                if (memory.image[i].there && streq(memory.image[i].id, id))
                        return &memory.image[i];
        return NULL;
}

struct memory_image *memory_find(const char *name)
{
        char key[160];
        const char *id;

        snprintf(key, sizeof(key), "name_%s", name);
        id = memory_get("/" RBD_DIRECTORY, key);
        return id ? by_id(id + 4) : NULL;
}

struct memory_image *memory_add(const char *name, bool sealed)
{
        struct memory_image *i = &memory.image[memory.n_images++];
        char key[256], id[68];
        size_t n;

        *i = (struct memory_image){.there = true, .sealed = sealed, .size = 1 << 20};
        snprintf(i->id, sizeof(i->id), "image-%u", ++next_image);
        n = put_string(id, i->id);
        snprintf(key, sizeof(key), "name_%s", name);
        entry_set(object("/" RBD_DIRECTORY, true), key, id, n);
        snprintf(key, sizeof(key), "/rbd_id.%s", name);
        object_write(object(key, true), id, n);
        return i;
}

void memory_watch(const char *name, const char *address)
{
        struct memory_image *i = memory_find(name);

        snprintf(i->watcher[i->n_watchers++], 64, "%s", address);
}

/* --- RBD --- */

static struct memory_image *by_name(rados_ioctx_t io, const char *name)
{
        char p[256], id[64];
        struct object *o;

        snprintf(p, sizeof(p), "%s/rbd_id.%s", ((struct ioctx *)io)->ns, name);
        o = object(p, false);
        if (!o)
                return NULL;
        snprintf(id, sizeof(id), "%.*s", (int)o->len - 4, o->data + 4);
        return by_id(id);
}

/* The name's own object is there, of an image or not: a creation begins with it. */
static bool is_named(rados_ioctx_t io, const char *name)
{
        char p[256];

        snprintf(p, sizeof(p), "%s/rbd_id.%s", ((struct ioctx *)io)->ns, name);
        return memory_exists(p);
}

struct options {
        uint64_t val[32];
};

void rbd_image_options_create(rbd_image_options_t *ret)
{
        *ret = calloc(1, sizeof(struct options));
}

void rbd_image_options_destroy(rbd_image_options_t opts)
{
        free(opts);
}

int rbd_image_options_set_uint64(rbd_image_options_t opts, int name, uint64_t val)
{
        ((struct options *)opts)->val[name] = val;
        return 0;
}

static struct memory_image *make(const char *name, uint64_t size, rbd_image_options_t opts)
{
        struct memory_image *i = memory_add(name, false);
        const struct options *o = opts;

        i->size = size;
        i->features = o->val[RBD_IMAGE_OPTION_FEATURES];
        i->order = o->val[RBD_IMAGE_OPTION_ORDER];
        i->format = o->val[RBD_IMAGE_OPTION_FORMAT];
        i->clone_format = o->val[RBD_IMAGE_OPTION_CLONE_FORMAT];
        note("make:%s ", name);
        return i;
}

int rbd_create4(rados_ioctx_t io, const char *name, uint64_t size, rbd_image_options_t opts)
{
        LOCKED;
        int r = io_enter(io, "make", name);

        if (r < 0)
                return r;
        if (is_named(io, name) || memory_find(name))
                return leave(r, -EEXIST);
        make(name, size, opts);
        return leave(r, 0);
}

int rbd_clone3(rados_ioctx_t p_io, const char *p_name, const char *snap, rados_ioctx_t io, const char *name,
               rbd_image_options_t opts)
{
        LOCKED;
        int r = io_enter(io, "make", name);
        struct memory_image *parent = by_name(p_io, p_name), *i;

        if (r < 0)
                return r;
        if (!parent || !parent->sealed || !streq(snap, POOL_SNAP))
                return leave(r, -ENOENT);
        if (is_named(io, name) || memory_find(name))
                return leave(r, -EEXIST);
        i = make(name, parent->size, opts);
        strcpy(i->parent, parent->id);
        return leave(r, 0);
}

struct handle {
        struct memory_image *image;
        char own[64]; /* its watch; empty: read-only */
};

static int open_image(rados_ioctx_t io, const char *name, struct memory_image *i, rbd_image_t *ret,
                      const char *snap, bool writes)
{
        int r = io_enter(io, writes ? "open" : "open_read_only", name);
        struct handle *h;

        if (r < 0)
                return r;
        if (!i || (snap && !i->sealed))
                return leave(r, -ENOENT);
        h = calloc(1, sizeof(*h));
        h->image = i;
        if (writes) {
                strcpy(h->own, ((struct ioctx *)io)->client->address);
                strcpy(i->watcher[i->n_watchers++], h->own);
        }
        *ret = h;
        return 0;
}

int rbd_open(rados_ioctx_t io, const char *name, rbd_image_t *ret, const char *snap)
{
        LOCKED;
        return open_image(io, name, by_name(io, name), ret, snap, true);
}

int rbd_open_read_only(rados_ioctx_t io, const char *name, rbd_image_t *ret, const char *snap)
{
        LOCKED;
        return open_image(io, name, by_name(io, name), ret, snap, false);
}

int rbd_open_by_id_read_only(rados_ioctx_t io, const char *id, rbd_image_t *ret, const char *snap)
{
        LOCKED;
        return open_image(io, id, by_id(id), ret, snap, false);
}

int rbd_close(rbd_image_t image)
{
        LOCKED;
        struct handle *h = image;
        struct memory_image *i = h->image;

        for (size_t k = 0; h->own[0] && k < i->n_watchers; k++)
                if (streq(i->watcher[k], h->own)) {
                        memmove(i->watcher[k], i->watcher[--i->n_watchers], sizeof(*i->watcher));
                        break;
                }
        free(h);
        return 0;
}

int rbd_remove(rados_ioctx_t io, const char *name)
{
        LOCKED;
        int r = io_enter(io, "remove_image", name);
        struct memory_image *i = by_name(io, name);
        char key[256];

        if (r < 0)
                return r;
        if (!i)
                return leave(r, -ENOENT);
        for (size_t k = 0; k < i->n_watchers; k++)
                if (!is_blocked(i->watcher[k]))
                        return leave(r, -EBUSY);
        if (i->sealed)
                return leave(r, -ENOTEMPTY);
        i->there = false;
        snprintf(key, sizeof(key), "/rbd_id.%s", name);
        memory_drop(key);
        snprintf(key, sizeof(key), "name_%s", name);
        entry_rm(object("/" RBD_DIRECTORY, true), key);
        note("gone:%s ", name);
        return leave(r, 0);
}

int rbd_watchers_list(rbd_image_t image, rbd_image_watcher_t *ret, size_t *n)
{
        struct memory_image *i = ((struct handle *)image)->image;
        int r = enter("watchers", i->id);
        size_t max = *n;

        if (r < 0)
                return r;
        *n = i->n_watchers;
        if (i->n_watchers > max)
                return -ERANGE;
        for (size_t k = 0; k < *n; k++)
                ret[k].addr = strdup(i->watcher[k]);
        return 0;
}

void rbd_watchers_list_cleanup(rbd_image_watcher_t *watchers, size_t n)
{
        for (size_t k = 0; k < n; k++)
                free(watchers[k].addr);
}

int rbd_list_children3(rbd_image_t image, rbd_linked_image_spec_t *ret, size_t *max)
{
        struct memory_image *i = ((struct handle *)image)->image;
        size_t n = 0;
        int r = enter("children", i->id);

        for (size_t k = 0; k < memory.n_images; k++)
                n += memory.image[k].there && streq(memory.image[k].parent, i->id);
        if (r == 0 && n > *max)
                r = -ERANGE;
        *max = n;
        return r;
}

int rbd_snap_create(rbd_image_t image, const char *snap)
{
        struct memory_image *i = ((struct handle *)image)->image;
        int r = enter("snap", i->id);

        if (r < 0)
                return r;
        if (i->sealed)
                return -EEXIST;
        i->sealed = true;
        note("snap ");
        return leave(r, 0);
}

int rbd_snap_remove(rbd_image_t image, const char *snap)
{
        struct memory_image *i = ((struct handle *)image)->image;
        int r = enter("snap_remove", i->id);

        if (r < 0)
                return r;
        if (!i->sealed)
                return -ENOENT;
        i->sealed = false;
        return 0;
}

int rbd_snap_get_id(rbd_image_t image, const char *snap, uint64_t *ret)
{
        int r = enter("snap_id", snap);

        *ret = 7 + (r > 0);
        return MIN_OF(r, 0);
}

int rbd_get_id(rbd_image_t image, char *id, size_t len)
{
        snprintf(id, len, "%s", ((struct handle *)image)->image->id);
        return 0;
}

int rbd_get_size(rbd_image_t image, uint64_t *ret)
{
        *ret = ((struct handle *)image)->image->size;
        return enter("size", ((struct handle *)image)->image->id);
}

int rbd_get_modify_timestamp(rbd_image_t image, struct timespec *ret)
{
        *ret = ((struct handle *)image)->image->written;
        return 0;
}

int rbd_resize(rbd_image_t image, uint64_t size)
{
        ((struct handle *)image)->image->size = size;
        return enter("resize", "");
}

int rbd_flush(rbd_image_t image)
{
        note("flush ");
        return enter("flush", "");
}

ssize_t rbd_read(rbd_image_t image, uint64_t offset, size_t len, char *buf)
{
        struct memory_image *i = ((struct handle *)image)->image;
        int r = enter("read_image", i->id);

        if (r < 0)
                return r;
        if (offset >= i->size)
                return 0;
        len = MIN_OF(len, i->size - offset);
        if (memory.read_max)
                len = MIN_OF(len, memory.read_max);
        memcpy(buf, i->data + offset, len);
        return (ssize_t)len;
}

ssize_t rbd_write(rbd_image_t image, uint64_t offset, size_t len, const char *buf)
{
        struct memory_image *i = ((struct handle *)image)->image;
        int r = enter("write_image", i->id);

        if (r < 0)
                return r;
        memcpy(i->data + offset, buf, len);
        return (ssize_t)len;
}

int rbd_aio_create_completion(void *arg, rbd_callback_t cb, rbd_completion_t *ret)
{
        *ret = calloc(1, sizeof(ssize_t));
        return 0;
}

int rbd_aio_write(rbd_image_t image, uint64_t offset, size_t len, const char *buf, rbd_completion_t done)
{
        *(ssize_t *)done = rbd_write(image, offset, len, buf);
        return 0;
}

int rbd_aio_wait_for_complete(rbd_completion_t done)
{
        note("waited ");
        return 0;
}

ssize_t rbd_aio_get_return_value(rbd_completion_t done)
{
        return MIN_OF(*(ssize_t *)done, 0);
}

void rbd_aio_release(rbd_completion_t done)
{
        free(done);
}

int rbd_diff_iterate2(rbd_image_t image, const char *from, uint64_t offset, uint64_t len, uint8_t parent,
                      uint8_t whole, int (*cb)(uint64_t, size_t, int, void *), void *arg)
{
        int r = enter("diff", "");

        note("diff:%llu:%llu ", (unsigned long long)offset, (unsigned long long)len);
        for (size_t i = 0; i < memory.n_diffs && r == 0; i++)
                r = cb(memory.diff[i].offset, (size_t)memory.diff[i].len, memory.diff[i].exists, arg);
        return r;
}

int rbd_pool_init(rados_ioctx_t io, bool force)
{
        note("init ");
        return enter("init", "");
}

int rbd_namespace_create(rados_ioctx_t io, const char *ns)
{
        note("namespace:%s ", ns);
        return enter("namespace", ns);
}

/* "get_size" and "set_size" of an image's header. */
int rados_exec(rados_ioctx_t io, const char *oid, const char *cls, const char *method, const char *in,
               size_t len, char *out, size_t out_len)
{
        LOCKED;
        int r = io_enter(io, method, oid);
        struct memory_image *i = by_id(oid + strlen("rbd_header."));

        if (r < 0)
                return r;
        if (!i)
                return -ENOENT;
        if (streq(method, "set_size")) {
                memcpy(&i->size, in, 8);
                note("set_size ");
                return leave(r, 0);
        }
        if (!streq(method, "get_size") || memcmp(in, "\xfe\xff\xff\xff\xff\xff\xff\xff", 8) != 0)
                return -EINVAL;
        out[0] = 22;
        memcpy(out + 1, &i->size, 8);
        return leave(r, 9);
}
