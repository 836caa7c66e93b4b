/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/mem-engine.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void record_key(enum record_kind kind, const char *id, char ret[STORE_ID_MAX + 16])
{
        snprintf(ret, STORE_ID_MAX + 16, "%s/%s", record_kind_name(kind), id);
}

static int mem_get(struct store *s, enum record_kind kind, const char *id, char **ret_text,
                   uint64_t *ret_version, struct err *err)
{
        _cleanup_(mem_unlockp) struct mem *m = mem_lock(s);
        char key[STORE_ID_MAX + 16];
        struct item *i;

        record_key(kind, id, key);
        i = *item_find(&m->records, key);
        if (!i || !i->text)
                return err_set(err, -ENOENT, "%s: no such record", key);
        *ret_text = strdup(i->text);
        if (!*ret_text)
                return err_set(err, -ENOMEM, "%s: out of memory", key);
        *ret_version = i->version;
        return 0;
}

static int mem_put(struct store *s, enum record_kind kind, const char *id, uint64_t expected,
                   const char *text, uint64_t *ret_version, struct err *err)
{
        _cleanup_(mem_unlockp) struct mem *m = mem_lock(s);
        char key[STORE_ID_MAX + 16];
        char *copy = NULL;
        struct item *i;

        record_key(kind, id, key);
        i = *item_find(&m->records, key);
        if (expected == 0 ? i && i->text : !i || i->version != expected)
                return err_set(err, -ESTALE, "%s: newest is version %" PRIu64 ", not %" PRIu64, key,
                               i ? i->version : 0, expected);
        if (!text && (!i || !i->text))
                return err_set(err, -ENOENT, "%s: no such record", key);
        if (text)
                copy = strdup(text);
        if (!i)
                i = item_add(&m->records, key);
        if (!i || (text && !copy)) {
                free(copy);
                return err_set(err, -ENOMEM, "%s: out of memory", key);
        }
        free(i->text);
        i->text = copy;
        *ret_version = ++i->version;
        return 0;
}

static int mem_list(struct store *s, enum record_kind kind, record_cb cb, void *arg, struct err *err)
{
        struct item *copies = NULL;
        char prefix[STORE_ID_MAX + 16];
        int r = 0;

        record_key(kind, "", prefix);
        { /* the callback may use the store, so it is called without the lock */
                _cleanup_(mem_unlockp) struct mem *m = mem_lock(s);

                for (struct item *i = m->records; i && r == 0; i = i->next) {
                        struct item *c;

                        if (!i->text || strncmp(i->id, prefix, strlen(prefix)) != 0)
                                continue;
                        c = item_add(&copies, i->id + strlen(prefix));
                        if (c) {
                                c->version = i->version;
                                c->text = strdup(i->text);
                        }
                        if (!c || !c->text)
                                r = err_set(err, -ENOMEM, "out of memory");
                }
        }
        while (copies) {
                if (r == 0)
                        r = cb(arg, copies->id, copies->version, copies->text);
                item_drop(&copies);
        }
        return r;
}

static int mem_beat_write(struct store *s, unsigned host, uint64_t counter, struct err *err)
{
        _cleanup_(mem_unlockp) struct mem *m = mem_lock(s);
        char key[16];
        struct item *i;

        snprintf(key, sizeof(key), "%u", host);
        i = *item_find(&m->beats, key);
        if (!i)
                i = item_add(&m->beats, key);
        if (!i)
                return err_set(err, -ENOMEM, "out of memory");
        i->version = counter;
        return 0;
}

static int mem_beat_read(struct store *s, unsigned host, uint64_t *ret_counter, struct err *err)
{
        _cleanup_(mem_unlockp) struct mem *m = mem_lock(s);
        char key[16];
        struct item *i;

        snprintf(key, sizeof(key), "%u", host);
        i = *item_find(&m->beats, key);
        if (!i)
                return err_set(err, -ENOENT, "heartbeat of host %u: not written yet", host);
        *ret_counter = i->version;
        return 0;
}

const struct engine_records mem_records = {
    .get = mem_get,
    .put = mem_put,
    .list = mem_list,
    .beat_write = mem_beat_write,
    .beat_read = mem_beat_read,
};
