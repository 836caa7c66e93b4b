/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/fake-rados.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"

struct fake_rados fake_rados;

static void note(const char *fmt, ...)
{
        static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
        size_t n;
        va_list ap;

        pthread_mutex_lock(&lock);
        n = strlen(fake_rados.log);
        va_start(ap, fmt);
        vsnprintf(fake_rados.log + n, sizeof(fake_rados.log) - n, fmt, ap);
        va_end(ap);
        pthread_mutex_unlock(&lock);
}

static size_t find(const char *key)
{
        size_t i = 0;

        while (i < fake_rados.n && !streq(fake_rados.entry[i].key, key))
                i++;
        return i;
}

const char *fake_get(const char *key)
{
        size_t i = find(key);

        return i < fake_rados.n ? fake_rados.entry[i].val : NULL;
}

void fake_set(const char *key, const char *val)
{
        size_t i = find(key);

        if (i == fake_rados.n && fake_rados.n++ == ARRAY_SIZE(fake_rados.entry))
                abort();
        snprintf(fake_rados.entry[i].key, sizeof(fake_rados.entry[i].key), "%s", key);
        snprintf(fake_rados.entry[i].val, sizeof(fake_rados.entry[i].val), "%s", val);
        fake_rados.exists = true;
        fake_rados.version++;
}

static void fake_rm(const char *key)
{
        size_t i = find(key);

        if (i < fake_rados.n)
                fake_rados.entry[i] = fake_rados.entry[--fake_rados.n];
}

void fake_image(const char *name, const char *id)
{
        struct pool_image *i = &fake_rados.image[fake_rados.n_images++];

        snprintf(i->name, sizeof(i->name), "%s", name);
        snprintf(i->id, sizeof(i->id), "%s", id);
}

void fake_open(const char *id, const char *address)
{
        size_t n = fake_rados.n_open++;

        snprintf(fake_rados.open[n].id, 64, "%s", id);
        snprintf(fake_rados.open[n].address, 64, "%s", address);
}

struct store *fake_store(void)
{
        static char ip[] = "10.0.0.2";
        static struct pool pool = {.address = ip,
                                   .machine = {.boot = "boot", .view = "view", .board = "board"}};
        static struct store store = {.engine = &engine_rbd, .state = &pool};

        return &store;
}

/* --- the client --- */

static struct pool_client the_client;

int __wrap_pool_client_get(const struct store *s, struct pool_client **ret, struct err *err);
int __wrap_pool_client_get(const struct store *s, struct pool_client **ret, struct err *err)
{
        *ret = &the_client;
        return 0;
}

void __wrap_pool_client_putp(struct pool_client **client);
void __wrap_pool_client_putp(struct pool_client **client)
{
}

int __wrap_pool_io(const struct store *s, struct pool_client **ret_client, rados_ioctx_t *ret,
                   struct err *err);
int __wrap_pool_io(const struct store *s, struct pool_client **ret_client, rados_ioctx_t *ret,
                   struct err *err)
{
        static char own[] = "10.0.0.2:0/1";

        the_client.own = own;
        *ret_client = &the_client;
        *ret = &fake_rados;
        return 0;
}

void __wrap_pool_io_donep(rados_ioctx_t *io);
void __wrap_pool_io_donep(rados_ioctx_t *io)
{
}

/* --- reading --- */

struct iter {
        bool images;
        size_t at;
};

void __wrap_pool_scan_begin(struct pool_scan *s, rados_ioctx_t io, const char *oid, const char *after,
                            const char *prefix, unsigned max);
void __wrap_pool_scan_begin(struct pool_scan *s, rados_ioctx_t io, const char *oid, const char *after,
                            const char *prefix, unsigned max)
{
        struct iter *it = calloc(1, sizeof(*it));

        it->images = streq(oid, RBD_DIRECTORY);
        s->it = it;
}

int __wrap_pool_scan_wait(struct pool_scan *s);
int __wrap_pool_scan_wait(struct pool_scan *s)
{
        struct iter *it = s->it;

        s->op.version = fake_rados.version;
        return it->images || fake_rados.exists ? 0 : -ENOENT;
}

void __wrap_pool_scan_done(struct pool_scan *s);
void __wrap_pool_scan_done(struct pool_scan *s)
{
        free(s->it);
        s->it = NULL;
}

int __wrap_rados_omap_get_next2(rados_omap_iter_t iter, char **key, char **val, size_t *key_len,
                                size_t *val_len);
int __wrap_rados_omap_get_next2(rados_omap_iter_t iter, char **key, char **val, size_t *key_len,
                                size_t *val_len)
{
        struct iter *it = iter;
        static char name[256], id[80];

        *key = NULL;
        if (it->images && it->at < fake_rados.n_images) {
                snprintf(name, sizeof(name), "name_%s", fake_rados.image[it->at].name);
                snprintf(id, sizeof(id), "LLLL%s", fake_rados.image[it->at].id);
                *key = name;
                *val = id;
        } else if (!it->images && it->at < fake_rados.n) {
                *key = fake_rados.entry[it->at].key;
                *val = fake_rados.entry[it->at].val;
        }
        if (*key) {
                *key_len = strlen(*key);
                *val_len = strlen(*val);
                it->at++;
        }
        return 0;
}

int __wrap_disk_watchers(rados_ioctx_t io, const char *name, const char *id, const char *address,
                         const char *but, disk_watcher_cb cb, void *arg, struct err *err);
int __wrap_disk_watchers(rados_ioctx_t io, const char *name, const char *id, const char *address,
                         const char *but, disk_watcher_cb cb, void *arg, struct err *err)
{
        int n = 0, r = 0;

        for (size_t i = 0; i < fake_rados.n_open && r >= 0; i++)
                if (streq(fake_rados.open[i].id, id) && !(but && streq(fake_rados.open[i].address, but))) {
                        n++;
                        r = cb(arg, fake_rados.open[i].address);
                }
        return r < 0 ? r : n;
}

/* --- changing --- */

struct op {
        struct {
                enum { CMP, SET, RM, CREATE, EXISTS, VERSION } what;
                char key[128], val[GATE_CLIENT_TEXT];
                uint8_t how;
                uint64_t version;
        } step[64];
        size_t n;
};

static void step(struct op *op, int what, const char *key, const char *val, uint8_t how)
{
        size_t n = op->n++;

        op->step[n].what = what;
        op->step[n].how = how;
        snprintf(op->step[n].key, 128, "%s", key ? key : "");
        snprintf(op->step[n].val, GATE_CLIENT_TEXT, "%s", val ? val : "");
}

rados_write_op_t __wrap_rados_create_write_op(void);
rados_write_op_t __wrap_rados_create_write_op(void)
{
        return calloc(1, sizeof(struct op));
}

void __wrap_rados_release_write_op(rados_write_op_t op);
void __wrap_rados_release_write_op(rados_write_op_t op)
{
        free(op);
}

void __wrap_rados_write_op_create(rados_write_op_t op, int exclusive, const char *category);
void __wrap_rados_write_op_create(rados_write_op_t op, int exclusive, const char *category)
{
        step(op, CREATE, NULL, NULL, (uint8_t)exclusive);
}

void __wrap_rados_write_op_assert_exists(rados_write_op_t op);
void __wrap_rados_write_op_assert_exists(rados_write_op_t op)
{
        step(op, EXISTS, NULL, NULL, 0);
}

void __wrap_rados_write_op_assert_version(rados_write_op_t op, uint64_t version);
void __wrap_rados_write_op_assert_version(rados_write_op_t op, uint64_t version)
{
        struct op *o = op;

        o->step[o->n].version = version;
        step(op, VERSION, NULL, NULL, 0);
}

void __wrap_rados_write_op_omap_cmp2(rados_write_op_t op, const char *key, uint8_t how, const char *val,
                                     size_t key_len, size_t val_len, int *prval);
void __wrap_rados_write_op_omap_cmp2(rados_write_op_t op, const char *key, uint8_t how, const char *val,
                                     size_t key_len, size_t val_len, int *prval)
{
        step(op, CMP, key, val, how);
}

void __wrap_rados_write_op_omap_set2(rados_write_op_t op, const char *const *keys, const char *const *vals,
                                     const size_t *key_lens, const size_t *val_lens, size_t n);
void __wrap_rados_write_op_omap_set2(rados_write_op_t op, const char *const *keys, const char *const *vals,
                                     const size_t *key_lens, const size_t *val_lens, size_t n)
{
        for (size_t i = 0; i < n; i++)
                step(op, SET, keys[i], vals[i], 0);
}

void __wrap_rados_write_op_omap_rm_keys2(rados_write_op_t op, const char *const *keys,
                                         const size_t *key_lens, size_t n);
void __wrap_rados_write_op_omap_rm_keys2(rados_write_op_t op, const char *const *keys,
                                         const size_t *key_lens, size_t n)
{
        for (size_t i = 0; i < n; i++)
                step(op, RM, keys[i], NULL, 0);
}

/* As the OSD compares: the entry stands on the left; one that is missing is "". */
static bool holds(uint8_t how, const char *stored, const char *given)
{
        int order = strcmp(given, stored);

        switch (how) {
        case LIBRADOS_CMPXATTR_OP_EQ:
                return order == 0;
        case LIBRADOS_CMPXATTR_OP_NE:
                return order != 0;
        case LIBRADOS_CMPXATTR_OP_GT:
                return order < 0;
        case LIBRADOS_CMPXATTR_OP_GTE:
                return order <= 0;
        case LIBRADOS_CMPXATTR_OP_LT:
                return order > 0;
        case LIBRADOS_CMPXATTR_OP_LTE:
                return order >= 0;
        }
        return false;
}

static int judge(const struct op *o)
{
        for (size_t i = 0; i < o->n; i++) {
                const char *stored = fake_get(o->step[i].key);

                if (o->step[i].what == VERSION && o->step[i].version != fake_rados.version)
                        return o->step[i].version < fake_rados.version ? -ERANGE : -EOVERFLOW;
                if (o->step[i].what == CREATE && fake_rados.exists &&
                    o->step[i].how == LIBRADOS_CREATE_EXCLUSIVE)
                        return -EEXIST;
                if (o->step[i].what == EXISTS && !fake_rados.exists)
                        return -ENOENT;
                if (o->step[i].what == CMP && !holds(o->step[i].how, stored ? stored : "", o->step[i].val))
                        return -ECANCELED;
        }
        return 0;
}

int __wrap_rados_write_op_operate(rados_write_op_t op, rados_ioctx_t io, const char *oid, time_t *mtime,
                                  int flags);
int __wrap_rados_write_op_operate(rados_write_op_t op, rados_ioctx_t io, const char *oid, time_t *mtime,
                                  int flags)
{
        const struct op *o = op;
        int r;

        if (fake_rados.before_operate) {
                fake_rados.before_operate();
                fake_rados.before_operate = NULL;
        }
        if (fake_rados.operate_answer < 0)
                return fake_rados.operate_answer;
        r = judge(o);
        for (size_t i = 0; r == 0 && i < o->n; i++) {
                if (o->step[i].what == SET)
                        fake_set(o->step[i].key, o->step[i].val);
                if (o->step[i].what == RM)
                        fake_rm(o->step[i].key);
                if (o->step[i].what == SET || o->step[i].what == RM)
                        note("%s:%.7s ", o->step[i].what == SET ? "set" : "rm", o->step[i].key);
        }
        fake_rados.version++;
        return r;
}

int __wrap_rados_blocklist_add(rados_t cluster, char *address, uint32_t seconds);
int __wrap_rados_blocklist_add(rados_t cluster, char *address, uint32_t seconds)
{
        note("blocklist:%s:%u ", address, seconds);
        if (fake_rados.blocklist_refused && streq(address, fake_rados.blocklist_refused))
                return -EIO;
        return fake_rados.blocklist_answer;
}

int __wrap_rados_wait_for_latest_osdmap(rados_t cluster);
int __wrap_rados_wait_for_latest_osdmap(rados_t cluster)
{
        note("map ");
        return fake_rados.map_answer;
}

int __wrap_rados_mon_command(rados_t cluster, const char **cmd, size_t cmdlen, const char *inbuf,
                             size_t inbuflen, char **outbuf, size_t *outbuflen, char **outs,
                             size_t *outslen);
int __wrap_rados_mon_command(rados_t cluster, const char **cmd, size_t cmdlen, const char *inbuf,
                             size_t inbuflen, char **outbuf, size_t *outbuflen, char **outs, size_t *outslen)
{
        snprintf(fake_rados.command, sizeof(fake_rados.command), "%s", cmd[0]);
        note("command ");
        return fake_rados.command_answer;
}

int __wrap_disk_rename(rados_ioctx_t io, const char *id, const char *old, const char *new,
                       bool *ret_occupied, struct pool_op *later);
int __wrap_disk_rename(rados_ioctx_t io, const char *id, const char *old, const char *new,
                       bool *ret_occupied, struct pool_op *later)
{
        int r = fake_rados.rename ? fake_rados.rename(old, new) : 0;

        note("rename ");
        for (size_t i = 0; r >= 0 && i < fake_rados.n_images; i++)
                if (streq(fake_rados.image[i].name, old)) {
                        snprintf(fake_rados.image[i].name, POOL_NAME_MAX, "%s", new);
                        *ret_occupied = r == 1;
                        return 0;
                }
        return r < 0 ? r : -ENOENT;
}

int __wrap_disk_name_mend(rados_ioctx_t io, const char *name, const char *id);
int __wrap_disk_name_mend(rados_ioctx_t io, const char *name, const char *id)
{
        note("mend ");
        return 0;
}

void __wrap_pool_op_done(struct pool_op *op);
void __wrap_pool_op_done(struct pool_op *op)
{
}
