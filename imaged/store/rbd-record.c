/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records as omap entries, spread by a hash of the id over 64 objects a kind, those of hosts over one: they
 * are few, and all of them are read all the time. The entries of a record, of which a write changes three in
 * one atomic operation:
 *
 *   v:<id>      version, 16 hexadecimal digits, then "+", or "-" for a deleted one
 *   n:<id>:<k>  8 bytes, the nonce of the last write whose version is k modulo 16 (a hexadecimal digit)
 *   t:<id>      the text; absent when deleted
 *
 * A write compares v: (an absent key compares as empty), and needs no other knowledge: it is one operation.
 * The version stays behind a deletion, so that a writer who read version 3 long ago cannot win against a
 * later version 3. A list reads the small v: entries and only those texts whose version the cache does not
 * have.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "imaged/store/rbd-engine.h"
#include "imaged/store/record-cache.h"

#define BUCKETS 64
#define NONCES 16
#define LIST_AHEAD 16 /* buckets whose versions are asked for at the same time */
#define PAGE 1000
#define TEXT_BATCH 64 /* texts a read; 64 of the largest are 16 MiB */
#define VERSION_LEN 17

struct stand {
        uint64_t version; /* 0: never was */
        bool live;
        bool mine; /* the nonce that was asked for is among the last */
        char *text;
};

static void stand_done(struct stand *st)
{
        free(st->text);
}

static unsigned buckets_of(enum record_kind kind)
{
        return kind == RECORD_HOST ? 1 : BUCKETS;
}

static void bucket_object(enum record_kind kind, unsigned bucket, char ret[POOL_NAME_MAX])
{
        snprintf(ret, POOL_NAME_MAX, "record.%s.%u", record_kind_name(kind), bucket);
}

static void record_object(enum record_kind kind, const char *id, char ret[POOL_NAME_MAX])
{
        bucket_object(kind, (unsigned)(XXH64(id, strlen(id), 0) % buckets_of(kind)), ret);
}

static int record_io(struct store *s, enum record_kind kind, struct pool_client **ret_client,
                     rados_ioctx_t *ret, struct err *err)
{
        const struct pool *p = pool_of(s);

        int r = pool_client_get(s, ret_client, err);

        return r < 0 ? r
                     : pool_io_in(s, (*ret_client)->cluster, kind == RECORD_ACCOUNT ? p->account_ns : p->ns,
                                  ret, err);
}

static int version_parse(const char *val, size_t len, uint64_t *ret, bool *ret_live)
{
        char digits[VERSION_LEN], *end;

        if (len != VERSION_LEN || (val[16] != '+' && val[16] != '-'))
                return -EIO;
        memcpy(digits, val, 16);
        digits[16] = '\0';
        *ret = strtoull(digits, &end, 16);
        *ret_live = val[16] == '+';
        return *end ? -EIO : 0;
}

static int stand_entry(struct stand *st, char kind, const char *val, size_t len, uint64_t nonce)
{
        switch (kind) {
        case 'v':
                return version_parse(val, len, &st->version, &st->live);
        case 'n':
                st->mine = st->mine || (len == sizeof nonce && memcmp(val, &nonce, len) == 0);
                return 0;
        default:
                st->text = strndup(val, len);
                return st->text ? 0 : -ENOMEM;
        }
}

/* What stands there now, all of one moment: the version, and the text or (nonce not 0) whether one of the
 * last writes was that one. */
static int stand_read(rados_ioctx_t io, const char *oid, const char *id, uint64_t nonce, struct stand *ret)
{
        _cleanup_(pool_read_op_donep) rados_read_op_t op = rados_create_read_op();
        _cleanup_(pool_iter_donep) rados_omap_iter_t it = NULL;
        char names[1 + NONCES][STORE_ID_MAX + 8], *key, *val;
        const char *keys[1 + NONCES];
        size_t lens[1 + NONCES], n = 0, n_key, n_val;
        int prval = 0, r;

        lens[n] = (size_t)snprintf(names[n], sizeof *names, "v:%s", id);
        keys[n] = names[n];
        n++;
        for (unsigned k = 0; k < (nonce ? NONCES : 1); k++, n++) {
                lens[n] = nonce ? (size_t)snprintf(names[n], sizeof *names, "n:%s:%x", id, k)
                                : (size_t)snprintf(names[n], sizeof *names, "t:%s", id);
                keys[n] = names[n];
        }
        rados_read_op_omap_get_vals_by_keys2(op, keys, n, lens, &it, &prval);
        r = rados_read_op_operate(op, io, oid, 0);
        if (r < 0 || prval < 0)
                return r < 0 ? r : prval;
        while (rados_omap_get_next2(it, &key, &val, &n_key, &n_val) == 0 && key) {
                r = stand_entry(ret, key[0], val, n_val, nonce);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int rbd_record_get(struct store *s, enum record_kind kind, const char *id, char **ret_text,
                          uint64_t *ret_version, struct err *err)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        _cleanup_(stand_done) struct stand st = {0};
        char oid[POOL_NAME_MAX];
        int r = record_io(s, kind, &client, &io, err);

        if (r < 0)
                return r;
        record_object(kind, id, oid);
        r = stand_read(io, oid, id, 0, &st);
        if (r < 0 && r != -ENOENT)
                return pool_fail(err, r, "read %s %s", record_kind_name(kind), id);
        if (r == -ENOENT || !st.live)
                return err_set(err, -ENOENT, "there is no %s %s", record_kind_name(kind), id);
        if (!st.text)
                return err_set(err, -EIO, "%s %s has a version but no text", record_kind_name(kind), id);
        *ret_text = take(st.text);
        if (ret_version)
                *ret_version = st.version;
        return 0;
}

/* One attempt on what is taken to stand there (version 0: nothing): 0, -ECANCELED where that is not so, or
 * what librados says. The object of a bucket is made by the first record in it. */
static int put_once(rados_ioctx_t io, const char *oid, const char *id, uint64_t version, bool live,
                    const char *text, uint64_t nonce)
{
        _cleanup_(pool_write_op_donep) rados_write_op_t op = rados_create_write_op();
        char v[STORE_ID_MAX + 3], n[STORE_ID_MAX + 8], t[STORE_ID_MAX + 3], was[32] = "", next[32];
        const char *keys[2] = {v, n}, *vals[2] = {next, (const char *)&nonce}, *t_keys[1] = {t};
        size_t key_len = strlen(id) + 2, text_len = text ? strlen(text) : 0;
        const size_t lens[2] = {key_len, key_len + 2}, val_lens[2] = {VERSION_LEN, sizeof nonce};

        snprintf(v, sizeof v, "v:%s", id);
        snprintf(n, sizeof n, "n:%s:%x", id, (unsigned)((version + 1) % NONCES));
        snprintf(t, sizeof t, "t:%s", id);
        if (version > 0)
                snprintf(was, sizeof was, "%016llx%c", (unsigned long long)version, live ? '+' : '-');
        else
                rados_write_op_create(op, LIBRADOS_CREATE_IDEMPOTENT, NULL);
        snprintf(next, sizeof next, "%016llx%c", (unsigned long long)version + 1, text ? '+' : '-');
        rados_write_op_omap_cmp2(op, v, LIBRADOS_CMPXATTR_OP_EQ, was, key_len, strlen(was), NULL);
        rados_write_op_omap_set2(op, keys, vals, lens, val_lens, 2);
        if (text)
                rados_write_op_omap_set2(op, t_keys, &text, &key_len, &text_len, 1);
        else
                rados_write_op_omap_rm_keys2(op, t_keys, &key_len, 1);
        return rados_write_op_operate(op, io, oid, NULL, 0);
}

/* After an answer that is no success: 1, it was done all the same (its nonce is among the last); 0, it was
 * not, and ret says what stands there; -ETIMEDOUT: it cannot be told. */
static int put_look(rados_ioctx_t io, const char *oid, const char *id, uint64_t nonce, struct stand *ret)
{
        int r = stand_read(io, oid, id, nonce, ret);

        if (r < 0 && r != -ENOENT)
                return -ETIMEDOUT;
        return ret->mine;
}

/* put_once(), and what an unclear answer means: 0, -ECANCELED with what stands there, -ETIMEDOUT. */
static int put_surely(rados_ioctx_t io, const char *oid, const char *id, uint64_t version, bool live,
                      const char *text, uint64_t nonce, struct stand *ret)
{
        int mine, r = put_once(io, oid, id, version, live, text, nonce);

        if (r != -ECANCELED && r != -ETIMEDOUT && r != -ENOENT)
                return r;
        mine = put_look(io, oid, id, nonce, ret);
        if (mine != 0)
                return MIN_OF(mine, 0);
        return r == -ETIMEDOUT ? r : -ECANCELED;
}

static int rbd_record_put(struct store *s, enum record_kind kind, const char *id, uint64_t expected,
                          const char *text, uint64_t *ret_version, struct err *err)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        _cleanup_(stand_done) struct stand now = {0};
        const char *name = record_kind_name(kind);
        uint64_t nonce = random_u64() | 1, version = expected;
        char oid[POOL_NAME_MAX];
        int r = record_io(s, kind, &client, &io, err);

        if (r < 0)
                return r;
        record_object(kind, id, oid);
        if (!text && expected == 0) /* nothing that this could delete is there, or it is not what is meant */
                r = put_look(io, oid, id, nonce, &now) < 0 ? -ETIMEDOUT : now.live ? -ECANCELED : -ENOENT;
        else
                r = put_surely(io, oid, id, version, expected > 0, text, nonce, &now);
        /* One that was deleted is made again on top of its last version. */
        if (r == -ECANCELED && expected == 0 && text && !now.live && now.version > 0) {
                version = now.version;
                r = put_surely(io, oid, id, version, false, text, nonce, &now);
        }
        if (r == -ECANCELED)
                return err_set(err, -ESTALE, "%s %s is at version %llu, not %llu", name, id,
                               (unsigned long long)(now.live ? now.version : 0),
                               (unsigned long long)expected);
        if (r == -ENOENT)
                return err_set(err, r, "there is no %s %s", name, id);
        if (r < 0)
                return pool_fail(err, r, "write %s %s", name, id);
        *ret_version = version + 1;
        return 0;
}

/* Records of one page whose text is to be read. */
struct wanted {
        size_t n;
        char ids[PAGE][STORE_ID_MAX + 1];
};

/* Texts of up to TEXT_BATCH wanted records, and their versions once more: they may have moved on meanwhile.
 */
static int texts_read(struct store *s, rados_ioctx_t io, enum record_kind kind, const char *oid,
                      const struct wanted *w, size_t first, size_t n, record_cb cb, void *arg,
                      struct err *err)
{
        _cleanup_(pool_read_op_donep) rados_read_op_t op = rados_create_read_op();
        _cleanup_(pool_iter_donep) rados_omap_iter_t t_it = NULL;
        _cleanup_(pool_iter_donep) rados_omap_iter_t v_it = NULL;
        char names[2 * TEXT_BATCH][STORE_ID_MAX + 3], *key, *val, *v_key, *v_val;
        const char *keys[2 * TEXT_BATCH];
        size_t lens[2 * TEXT_BATCH], n_key, n_val, n_vkey, n_vval;
        int t_r = 0, v_r = 0, r;

        for (size_t i = 0; i < n; i++) {
                lens[i] = (size_t)snprintf(names[i], sizeof names[i], "t:%s", w->ids[first + i]);
                lens[n + i] = (size_t)snprintf(names[n + i], sizeof names[n + i], "v:%s", w->ids[first + i]);
                keys[i] = names[i];
                keys[n + i] = names[n + i];
        }
        rados_read_op_omap_get_vals_by_keys2(op, keys, n, lens, &t_it, &t_r);
        rados_read_op_omap_get_vals_by_keys2(op, keys + n, n, lens + n, &v_it, &v_r);
        r = rados_read_op_operate(op, io, oid, 0);
        if (r < 0 || t_r < 0 || v_r < 0)
                return pool_fail(err, r < 0 ? r : t_r < 0 ? t_r : v_r, "read %s", oid);
        /* Both come in the order of ids; a record deleted meanwhile has a version and no text. */
        while (rados_omap_get_next2(t_it, &key, &val, &n_key, &n_val) == 0 && key) {
                _cleanup_(freep) char *id = strndup(key + 2, n_key - 2);
                _cleanup_(freep) char *text = strndup(val, n_val);
                uint64_t version = 0;
                bool live = false;

                if (!id || !text)
                        return err_set(err, -ENOMEM, "out of memory");
                do {
                        r = rados_omap_get_next2(v_it, &v_key, &v_val, &n_vkey, &n_vval);
                } while (r == 0 && v_key && (n_vkey != n_key || memcmp(v_key + 2, key + 2, n_key - 2) != 0));
                if (r < 0 || !v_key || version_parse(v_val, n_vval, &version, &live) < 0)
                        return err_set(err, -EIO, "%s: record %s has a text but no version", oid, id);
                record_cache_put(s->cache, kind, id, version, text);
                r = cb(arg, id, version, text);
                if (r != 0)
                        return r;
        }
        return 0;
}

/* One page of versions: what the cache has goes to cb at once, the rest into `w`. `after` moves on. */
static int versions_read(struct store *s, struct pool_scan *scan, enum record_kind kind, const char *oid,
                         char *after, size_t after_len, struct wanted *w, record_cb cb, void *arg,
                         struct err *err)
{
        char *key, *val;
        size_t n_key, n_val;
        int r = pool_scan_wait(scan);

        w->n = 0;
        if (r == -ENOENT) /* nothing was ever put here */
                return 0;
        if (r < 0)
                return pool_fail(err, r, "list %s", oid);
        while (rados_omap_get_next2(scan->it, &key, &val, &n_key, &n_val) == 0 && key) {
                _cleanup_(freep) char *text = NULL;
                char id[STORE_ID_MAX + 1];
                uint64_t version;
                bool live;

                if (n_key - 2 > STORE_ID_MAX || version_parse(val, n_val, &version, &live) < 0)
                        return err_set(err, -EIO, "%s holds an entry that is no record's: %.*s", oid,
                                       (int)n_key, key);
                snprintf(after, after_len, "%.*s", (int)n_key, key);
                snprintf(id, sizeof id, "%.*s", (int)(n_key - 2), key + 2);
                if (!live)
                        continue;
                text = record_cache_get(s->cache, kind, id, version);
                if (!text) {
                        strcpy(w->ids[w->n++], id);
                        continue;
                }
                r = cb(arg, id, version, text);
                if (r != 0)
                        return r;
        }
        return 0;
}

/* One bucket whose first page of versions is under way. */
static int bucket_list(struct store *s, rados_ioctx_t io, struct pool_scan *scan, enum record_kind kind,
                       const char *oid, struct wanted *w, record_cb cb, void *arg, struct err *err)
{
        char after[STORE_ID_MAX + 3] = "";

        for (;;) {
                int r = versions_read(s, scan, kind, oid, after, sizeof after, w, cb, arg, err);
                bool more = scan->more;

                pool_scan_done(scan);
                for (size_t i = 0; r == 0 && i < w->n; i += TEXT_BATCH)
                        r = texts_read(s, io, kind, oid, w, i, MIN_OF(w->n - i, TEXT_BATCH), cb, arg, err);
                if (r != 0 || !more)
                        return r;
                pool_scan_begin(scan, io, oid, after, "v:", PAGE);
        }
}

/* The buckets of a list: the next ones are asked for while one is looked at. */
struct buckets {
        struct pool_scan scan[LIST_AHEAD];
        struct wanted wanted;
};

static void buckets_freep(struct buckets **b)
{
        for (unsigned i = 0; *b && i < LIST_AHEAD; i++)
                pool_scan_done(&(*b)->scan[i]);
        free(*b);
}

static int rbd_record_list(struct store *s, enum record_kind kind, record_cb cb, void *arg, struct err *err)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        _cleanup_(buckets_freep) struct buckets *b = calloc(1, sizeof *b);
        int r = record_io(s, kind, &client, &io, err);

        if (r < 0)
                return r;
        if (!b)
                return err_set(err, -ENOMEM, "out of memory");
        for (unsigned i = 0, begun = 0; i < buckets_of(kind) && r == 0; i++) {
                char oid[POOL_NAME_MAX];

                for (; begun < MIN_OF(i + LIST_AHEAD, buckets_of(kind)); begun++) {
                        bucket_object(kind, begun, oid);
                        pool_scan_begin(&b->scan[begun % LIST_AHEAD], io, oid, "", "v:", PAGE);
                }
                bucket_object(kind, i, oid);
                r = bucket_list(s, io, &b->scan[i % LIST_AHEAD], kind, oid, &b->wanted, cb, arg, err);
        }
        return r;
}

static int rbd_beat_write(struct store *s, unsigned host, uint64_t counter, struct err *err)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        char oid[POOL_NAME_MAX], bytes[8];
        int r = pool_io(s, &client, &io, err);

        if (r < 0)
                return r;
        for (size_t i = 0; i < 8; i++)
                bytes[i] = (char)(counter >> (8 * i));
        snprintf(oid, sizeof oid, "beat.%u", host);
        r = rados_write_full(io, oid, bytes, sizeof bytes);
        return r < 0 ? pool_fail(err, r, "write the heartbeat of host %u", host) : 0;
}

static int rbd_beat_read(struct store *s, unsigned host, uint64_t *ret_counter, struct err *err)
{
        _cleanup_(pool_client_putp) struct pool_client *client = NULL;
        _cleanup_(pool_io_donep) rados_ioctx_t io = NULL;
        unsigned char bytes[8];
        char oid[POOL_NAME_MAX];
        uint64_t counter = 0;
        int r = pool_io(s, &client, &io, err);

        if (r < 0)
                return r;
        snprintf(oid, sizeof oid, "beat.%u", host);
        r = rados_read(io, oid, (char *)bytes, sizeof bytes, 0);
        if (r < 0)
                return pool_fail(err, r, "read the heartbeat of host %u", host);
        if (r != (int)sizeof bytes)
                return err_set(err, -EIO, "the heartbeat of host %u has %d bytes, not 8", host, r);
        for (size_t i = 0; i < 8; i++)
                counter |= (uint64_t)bytes[i] << (8 * i);
        *ret_counter = counter;
        return 0;
}

const struct engine_records rbd_records = {
    .get = rbd_record_get,
    .put = rbd_record_put,
    .list = rbd_record_list,
    .beat_write = rbd_beat_write,
    .beat_read = rbd_beat_read,
};
