/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/files.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "imaged/store/record-cache.h"

/*
 * All records of a kind, one shard after the other, so that memory is bounded by a shard. Texts come from
 * the cache by version; the rest is read in one request to the engine, which may overlap the reads.
 */
struct entry {
        char id[STORE_ID_MAX + 1];
        uint64_t version;
        char *text;   /* owned; of those that had to be read */
        bool deleted; /* so says what was read */
};

struct shard {
        struct entry *entries;
        size_t n, room;
};

struct read_arg {
        struct store *store;
        enum record_kind kind;
        struct entry **wanted;
        record_cb cb;
        void *arg;
        struct err *err;
};

static int shard_name(void *arg, const char *name)
{
        struct shard *s = arg;
        struct entry e = {};

        if (!files_record_name(name, e.id, &e.version))
                return 0;
        if (s->n == s->room) {
                size_t room = s->room ? s->room * 2 : 512;
                struct entry *bigger = realloc(s->entries, room * sizeof(*bigger));

                if (!bigger)
                        return -ENOMEM;
                s->entries = bigger;
                s->room = room;
        }
        s->entries[s->n++] = e;
        return 0;
}

static int entry_compare(const void *a, const void *b)
{
        const struct entry *x = a, *y = b;
        int order = strcmp(x->id, y->id);

        if (order)
                return order;
        return x->version < y->version ? 1 : x->version > y->version ? -1 : 0; /* the highest first */
}

/* One entry per id, with its highest version. */
static void shard_newest(struct shard *s)
{
        size_t n = 0;

        if (s->n)
                qsort(s->entries, s->n, sizeof(*s->entries), entry_compare);
        for (size_t i = 0; i < s->n; i++)
                if (n == 0 || !streq(s->entries[n - 1].id, s->entries[i].id))
                        s->entries[n++] = s->entries[i];
        s->n = n;
}

/* Overtaken between the listing and the read. */
static int read_again(struct read_arg *a, const char *id)
{
        _cleanup_(freep) char *text = NULL;
        uint64_t version;
        int r = files_records.get(a->store, a->kind, id, &text, &version, a->err);

        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return r;
        return a->cb(a->arg, id, version, text);
}

static int read_text(void *arg, size_t i, int r, const char *file, size_t len)
{
        struct read_arg *a = arg;
        struct entry *e = a->wanted[i];
        const char *text;

        if (r == -ENOENT) /* collected since */
                return 0;
        if (r < 0)
                return err_set(a->err, r, "%s %s: cannot read version %" PRIu64 ": %s",
                               record_kind_name(a->kind), e->id, e->version, strerror(-r));
        text = files_record_text(file, &e->deleted);
        if (!text)
                return err_set(a->err, -EIO, "%s %s: version %" PRIu64 " is not a record's file",
                               record_kind_name(a->kind), e->id, e->version);
        e->text = strdup(e->deleted ? "" : text);
        return e->text ? 0
                       : err_set(a->err, -ENOMEM, "%s %s: out of memory", record_kind_name(a->kind), e->id);
}

/* Both sorted by id. */
static bool is_newest(const struct shard *now, size_t *at, const struct entry *e)
{
        while (*at < now->n && strcmp(now->entries[*at].id, e->id) < 0)
                (*at)++;
        return *at < now->n && streq(now->entries[*at].id, e->id) && now->entries[*at].version == e->version;
}

static void shard_done(struct shard *s)
{
        for (size_t i = 0; i < s->n; i++)
                free(s->entries[i].text);
        free(s->entries);
}

static int hand_out(struct read_arg *a, const char *folder, size_t n)
{
        _cleanup_(shard_done) struct shard now = {};
        size_t at = 0;
        int r = files_of(a->store)->fs->ops->list(files_of(a->store)->fs, folder, shard_name, &now, a->err);

        if (r < 0)
                return r;
        shard_newest(&now);
        for (size_t i = 0; i < n && r == 0; i++) {
                const struct entry *e = a->wanted[i];

                if (!e->text || !is_newest(&now, &at, e)) {
                        r = read_again(a, e->id);
                        continue;
                }
                record_cache_put(a->store->cache, a->kind, e->id, e->version, e->text);
                if (!e->deleted)
                        r = a->cb(a->arg, e->id, e->version, e->text);
        }
        return r;
}

/* Hands out what the cache has and collects the rest in ret_wanted. */
static int from_cache(struct read_arg *a, struct shard *s, size_t *ret_n)
{
        size_t n = 0;

        for (size_t i = 0; i < s->n; i++) {
                struct entry *e = &s->entries[i];
                _cleanup_(freep) char *text = record_cache_get(a->store->cache, a->kind, e->id, e->version);
                int r;

                if (!text) {
                        a->wanted[n++] = e;
                        continue;
                }
                if (!*text) /* deleted */
                        continue;
                r = a->cb(a->arg, e->id, e->version, text);
                if (r != 0)
                        return r;
        }
        *ret_n = n;
        return 0;
}

static int list_shard(struct read_arg *a, const char *folder)
{
        _cleanup_(shard_done) struct shard shard = {};
        _cleanup_(freep) struct entry **wanted = NULL;
        _cleanup_(freep) char *text = NULL;
        _cleanup_(freep) const char **names = NULL;
        struct fs *fs = files_of(a->store)->fs;
        size_t n;
        int r = fs->ops->list(fs, folder, shard_name, &shard, a->err);

        if (r < 0)
                return r;
        shard_newest(&shard);
        wanted = calloc(shard.n + 1, sizeof(*wanted));
        names = calloc(shard.n + 1, sizeof(*names));
        text = malloc(shard.n * (STORE_ID_MAX + 24) + 1);
        if (!wanted || !names || !text)
                return err_set(a->err, -ENOMEM, "%s: out of memory", folder);
        a->wanted = wanted;
        r = from_cache(a, &shard, &n);
        if (r != 0 || n == 0)
                return r;
        for (size_t i = 0; i < n; i++) {
                char *name = text + i * (STORE_ID_MAX + 24);

                snprintf(name, STORE_ID_MAX + 24, "%s.v%" PRIu64, wanted[i]->id, wanted[i]->version);
                names[i] = name;
        }
        r = fs->ops->read(fs, folder, names, n, FILES_RECORD_MAX, read_text, a, a->err);
        return r < 0 ? r : hand_out(a, folder, n);
}

struct shard_names {
        char (*name)[4];
        size_t n, room;
};

static int shard_folder(void *arg, const char *name)
{
        struct shard_names *l = arg;

        if (strlen(name) > 2)
                return 0;
        if (l->n == l->room) {
                size_t room = l->room ? l->room * 2 : 256;
                void *bigger = realloc(l->name, room * sizeof(*l->name));

                if (!bigger)
                        return -ENOMEM;
                l->name = bigger;
                l->room = room;
        }
        snprintf(l->name[l->n++], sizeof(l->name[0]), "%s", name);
        return 0;
}

int files_each_shard(struct files *f, const char *base, int (*each)(void *arg, const char *folder),
                     void *arg, struct err *err)
{
        struct shard_names l = {};
        int r = f->fs->ops->list(f->fs, base, shard_folder, &l, err);

        for (size_t i = 0; r == 0 && i < l.n; i++) {
                char folder[FILES_PATH_MAX];

                snprintf(folder, sizeof(folder), "%s/%s", base, l.name[i]);
                r = each(arg, folder);
        }
        free(l.name);
        return r;
}

static int each_shard(void *arg, const char *folder)
{
        return list_shard(arg, folder);
}

int files_record_list(struct store *s, enum record_kind kind, record_cb cb, void *arg, struct err *err)
{
        struct read_arg a = {.store = s, .kind = kind, .cb = cb, .arg = arg, .err = err};
        char base[64];

        snprintf(base, sizeof(base), "records/%s", record_kind_name(kind));
        return files_each_shard(files_of(s), base, each_shard, &a, err);
}
