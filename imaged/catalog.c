/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/catalog.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "imaged/records.h"

/*
 *   1 s     a list may lag behind; or, where a look at the store takes long, as long as two of them and the
 *           pause between: nobody waits for what the thread does anyhow
 *   0.4 s   the thread looks again, while somebody asked within the last 10 s
 */
#define LOOK_MS 400
#define SLACK_MS 100
#define DEMAND_MS 10000
#define BUCKETS 65536
#define INSERT_MAX 64 /* so many new ones are put in their places; for more, all are sorted */

struct catalog {
        struct store *store;
        pthread_t thread;
        bool thread_runs;

        pthread_mutex_t refreshing; /* one at a time; over what follows */
        unsigned round;
        struct cataloged *fresh; /* what the list that runs found new */

        pthread_rwlock_t lock; /* over what follows; `round` of an entry is the refresher's alone */
        struct cataloged *buckets[BUCKETS];
        struct cataloged **items; /* the living, oldest first */
        size_t n, room;

        pthread_mutex_t state; /* over what follows */
        pthread_cond_t wake;
        int64_t listed_ms, asked_ms, look_ms; /* 0: never; look_ms: what the last look took */
        bool stopping;
};

static struct cataloged **bucket(struct catalog *c, const char *id)
{
        uint32_t hash = 2166136261u; /* FNV-1a */

        for (; *id; id++)
                hash = (hash ^ (unsigned char)*id) * 16777619u;
        return &c->buckets[hash % BUCKETS];
}

static struct cataloged **find(struct catalog *c, const char *id)
{
        struct cataloged **p = bucket(c, id);

        while (*p && !streq((*p)->id, id))
                p = &(*p)->next;
        return p;
}

static enum visibility visibility_of(const char *word)
{
        return streq(word, "public")      ? VISIBILITY_PUBLIC
               : streq(word, "community") ? VISIBILITY_COMMUNITY
               : streq(word, "shared")    ? VISIBILITY_SHARED
                                          : VISIBILITY_PRIVATE;
}

/* Its strings stand behind it: a search through 100,000 finds them in the CPU's cache. */
static struct cataloged *entry_new(const char *id, const char *text, const json_t *record)
{
        const char *status = json_get_str(record, "status", ""), *name = json_get_str(record, "name", ""),
                   *os = json_get_str(record, "os", json_get_str(record, "os_distro", "")),
                   *version = json_get_str(record, "version", json_get_str(record, "os_version", ""));
        struct cataloged *e =
            calloc(1, sizeof(*e) + strlen(name) + strlen(os) + strlen(version) + strlen(text) + 4);
        char *at;

        if (!e)
                return NULL;
        snprintf(e->id, sizeof(e->id), "%s", id);
        snprintf(e->owner, sizeof(e->owner), "%s", json_get_str(record, "owner", ""));
        snprintf(e->created, sizeof(e->created), "%s", json_get_str(record, "created_at", ""));
        snprintf(e->updated, sizeof(e->updated), "%s", json_get_str(record, "updated_at", ""));
        e->visibility = visibility_of(json_get_str(record, "visibility", NULL));
        e->hidden = json_get_bool(record, "os_hidden", false);
        e->members = json_object_size(json_object_get(record, "members")) > 0;
        e->active = streq(status, "active");
        e->deleted = streq(status, "pending_delete") || streq(status, "deleted");
        e->attention = e->deleted || json_is_object(json_object_get(record, "import"));
        e->size = json_get_int(record, "size", -1);
        at = (char *)(e + 1);
        e->name = at;
        at = stpcpy(at, name) + 1;
        e->os = at;
        at = stpcpy(at, os) + 1;
        e->os_version = at;
        at = stpcpy(at, version) + 1;
        e->text = at;
        strcpy(at, text);
        return e;
}

static int compare(const void *a, const void *b)
{
        const struct cataloged *x = *(struct cataloged *const *)a, *y = *(struct cataloged *const *)b;
        int r = strcmp(x->created, y->created);

        return r ? r : strcmp(x->id, y->id);
}

/* Where it stands, or would stand. */
static size_t place(const struct catalog *c, const struct cataloged *e)
{
        size_t low = 0, high = c->n;

        while (low < high) {
                size_t mid = low + (high - low) / 2;

                if (compare(&c->items[mid], &e) < 0)
                        low = mid + 1;
                else
                        high = mid;
        }
        return low;
}

static void item_remove(struct catalog *c, const struct cataloged *e)
{
        size_t at = place(c, e);

        if (at == c->n || c->items[at] != e)
                return;
        memmove(c->items + at, c->items + at + 1, (c->n - at - 1) * sizeof(*c->items));
        c->n--;
}

static int items_room(struct catalog *c, size_t more)
{
        if (c->n + more > c->room) {
                size_t room = MAX_OF(c->room * 2, c->n + more + 64);
                void *bigger = realloc(c->items, room * sizeof(*c->items));

                if (!bigger)
                        return -ENOMEM;
                c->items = bigger;
                c->room = room;
        }
        return 0;
}

static int item_insert(struct catalog *c, struct cataloged *e)
{
        size_t at;

        if (items_room(c, 1) < 0)
                return -ENOMEM;
        at = place(c, e);
        memmove(c->items + at + 1, c->items + at, (c->n - at) * sizeof(*c->items));
        c->items[at] = e;
        c->n++;
        return 0;
}

/* Takes the entry of this id out of everything. */
static void entry_drop(struct catalog *c, const char *id)
{
        struct cataloged **p = find(c, id), *old = *p;

        if (!old)
                return;
        item_remove(c, old);
        *p = old->next;
        free(old);
}

static void entry_link(struct catalog *c, struct cataloged *e)
{
        struct cataloged **b = bucket(c, e->id);

        e->next = *b;
        *b = e;
}

void catalog_put(struct catalog *c, const char *id, const json_t *record)
{
        _cleanup_(freep) char *text = record ? json_text(record) : strdup("");
        struct cataloged *e = text ? entry_new(id, text, record) : NULL;

        if (!e) /* the next look at the store shows it */
                return;
        pthread_rwlock_wrlock(&c->lock);
        e->touched_ms = clock_ms();
        entry_drop(c, id);
        /* One that has gone stays as a stone that a list which is under way cannot lift. */
        if (!record || item_insert(c, e) == 0)
                entry_link(c, e);
        else
                free(e);
        pthread_rwlock_unlock(&c->lock);
}

/* --- following the store --- */

static int list_one(void *arg, const char *id, uint64_t version, const char *text)
{
        struct catalog *c = arg;
        _cleanup_(json_decrefpp) json_t *record = NULL;
        struct cataloged *e;
        struct err err = {0};
        bool known;

        if (strlen(id) > UUID_LEN)
                return 0;
        pthread_rwlock_rdlock(&c->lock);
        e = *find(c, id);
        known = e && e->version == version;
        if (e)
                e->round = c->round;
        pthread_rwlock_unlock(&c->lock);
        if (known)
                return 0;
        if (json_parse(text, id, &record, &err) < 0) {
                log_warn("image record: %s", err_text(&err));
                return 0;
        }
        e = entry_new(id, text, record);
        if (!e)
                return -ENOMEM;
        e->version = version;
        e->round = c->round;
        e->next = c->fresh;
        c->fresh = e;
        return 0;
}

static void all_sort(struct catalog *c)
{
        c->n = 0;
        for (size_t i = 0; i < BUCKETS; i++) {
                for (struct cataloged *e = c->buckets[i]; e; e = e->next) {
                        if (*e->text)
                                c->items[c->n++] = e;
                }
        }
        qsort(c->items, c->n, sizeof(*c->items), compare);
}

/* With the lock. What was changed here after the list began is newer than the list. */
static int fresh_apply(struct catalog *c, int64_t begin)
{
        struct cataloged *replaced = NULL;
        size_t n = 0;
        bool sort;

        for (struct cataloged *e = c->fresh; e; e = e->next)
                n++;
        sort = n > INSERT_MAX;
        if (items_room(c, n) < 0)
                return -ENOMEM;
        for (struct cataloged *e; (e = c->fresh);) {
                struct cataloged *old = *find(c, e->id);

                c->fresh = e->next;
                if (old && old->touched_ms >= begin) {
                        free(e);
                        continue;
                }
                if (sort) { /* no place can be searched for until all are sorted again */
                        if (old) {
                                *find(c, old->id) = old->next;
                                old->next = replaced;
                                replaced = old;
                        }
                        entry_link(c, e);
                        continue;
                }
                entry_drop(c, e->id);
                entry_link(c, e);
                item_insert(c, e);
        }
        if (sort)
                all_sort(c);
        while (replaced) {
                struct cataloged *e = replaced;

                replaced = e->next;
                free(e);
        }
        return 0;
}

/* With the lock. */
static void gone_drop(struct catalog *c, int64_t begin)
{
        size_t n = 0;

        for (size_t i = 0; i < c->n; i++) {
                if (c->items[i]->round == c->round || c->items[i]->touched_ms >= begin)
                        c->items[n++] = c->items[i];
        }
        c->n = n;
        for (size_t i = 0; i < BUCKETS; i++) {
                for (struct cataloged **p = &c->buckets[i]; *p;) {
                        struct cataloged *e = *p;

                        if ((e->round == c->round && *e->text) || e->touched_ms >= begin) {
                                p = &e->next;
                        } else {
                                *p = e->next;
                                free(e);
                        }
                }
        }
}

static int64_t listed(struct catalog *c)
{
        int64_t ms;

        pthread_mutex_lock(&c->state);
        ms = c->listed_ms;
        pthread_mutex_unlock(&c->state);
        return ms;
}

static int refresh(struct catalog *c, int64_t max_age_ms, struct err *err)
{
        int64_t begin, asked = clock_ms(), last;
        int r = 0;

        pthread_mutex_lock(&c->refreshing);
        last = listed(c);
        begin = clock_ms();
        /* For who wants it as it is now, a list counts that began after he asked. */
        if (!last || (max_age_ms > 0 ? begin - last >= max_age_ms : last <= asked)) {
                c->round++;
                r = record_list(c->store, RECORD_IMAGE, list_one, c, err);
                pthread_rwlock_wrlock(&c->lock);
                if (r == 0)
                        r = fresh_apply(c, begin);
                if (r == 0)
                        gone_drop(c, begin);
                pthread_rwlock_unlock(&c->lock);
                while (c->fresh) {
                        struct cataloged *e = c->fresh;

                        c->fresh = e->next;
                        free(e);
                }
                if (r == 0) {
                        pthread_mutex_lock(&c->state);
                        c->listed_ms = begin;
                        c->look_ms = clock_ms() - begin;
                        pthread_mutex_unlock(&c->state);
                }
        }
        pthread_mutex_unlock(&c->refreshing);
        return r < 0 ? err_wrap(err, records_code(r), "list of images") : 0;
}

static void *follow(void *arg)
{
        struct catalog *c = arg;
        struct err err = {0};

        pthread_mutex_lock(&c->state);
        while (!c->stopping) {
                int64_t at = clock_ms() + LOOK_MS;
                struct timespec ts = {.tv_sec = at / 1000, .tv_nsec = at % 1000 * 1000000};

                pthread_cond_timedwait(&c->wake, &c->state, &ts);
                if (c->stopping || !c->asked_ms || clock_ms() - c->asked_ms > DEMAND_MS)
                        continue;
                pthread_mutex_unlock(&c->state);
                if (refresh(c, LOOK_MS, &err) < 0)
                        log_debug("%s", err_text(&err)); /* who asks is told */
                pthread_mutex_lock(&c->state);
        }
        pthread_mutex_unlock(&c->state);
        return NULL;
}

int catalog_open(struct catalog *c, int64_t max_age_ms, const struct cataloged *const **ret, size_t *ret_n,
                 struct err *err)
{
        int64_t now = clock_ms();
        bool fresh;
        int r;

        pthread_mutex_lock(&c->state);
        c->asked_ms = now;
        if (max_age_ms > 0)
                max_age_ms = MAX_OF(max_age_ms, 2 * c->look_ms + LOOK_MS + SLACK_MS);
        fresh = c->listed_ms && now - c->listed_ms < max_age_ms;
        pthread_mutex_unlock(&c->state);
        r = fresh ? 0 : refresh(c, max_age_ms, err);
        if (r < 0)
                return r;
        pthread_rwlock_rdlock(&c->lock);
        *ret = (const struct cataloged *const *)c->items;
        *ret_n = c->n;
        return 0;
}

void catalog_close(struct catalog *c)
{
        pthread_rwlock_unlock(&c->lock);
}

int catalog_each(struct catalog *c, int64_t max_age_ms, int (*cb)(void *arg, const struct cataloged *e),
                 void *arg, struct err *err)
{
        const struct cataloged *const *items;
        size_t n;
        int r = catalog_open(c, max_age_ms, &items, &n, err);

        if (r < 0)
                return r;
        for (size_t i = 0; r == 0 && i < n; i++)
                r = cb(arg, items[i]);
        catalog_close(c);
        return r;
}

int catalog_new(struct store *store, struct catalog **ret, struct err *err)
{
        struct catalog *c = calloc(1, sizeof(*c));
        pthread_condattr_t attr;
        int r;

        if (!c)
                return err_set(err, -ENOMEM, "out of memory");
        c->store = store;
        pthread_mutex_init(&c->refreshing, NULL);
        pthread_rwlock_init(&c->lock, NULL);
        pthread_mutex_init(&c->state, NULL);
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&c->wake, &attr);
        pthread_condattr_destroy(&attr);
        r = -pthread_create(&c->thread, NULL, follow, c);
        if (r < 0) {
                catalog_free(c);
                return err_set(err, r, "thread: %s", strerror(-r));
        }
        c->thread_runs = true;
        *ret = c;
        return 0;
}

struct catalog *catalog_free(struct catalog *c)
{
        if (!c)
                return NULL;
        pthread_mutex_lock(&c->state);
        c->stopping = true;
        pthread_cond_broadcast(&c->wake);
        pthread_mutex_unlock(&c->state);
        if (c->thread_runs)
                pthread_join(c->thread, NULL);
        for (size_t i = 0; i < BUCKETS; i++) {
                while (c->buckets[i]) {
                        struct cataloged *e = c->buckets[i];

                        c->buckets[i] = e->next;
                        free(e);
                }
        }
        free(c->items);
        pthread_cond_destroy(&c->wake);
        pthread_mutex_destroy(&c->state);
        pthread_rwlock_destroy(&c->lock);
        pthread_mutex_destroy(&c->refreshing);
        free(c);
        return NULL;
}

/* Records are written by jansson without spaces, so one spelling of a member is enough. */
int catalog_needle(const char *key, const char *value, struct catalog_needle *ret)
{
        _cleanup_(json_decrefpp) json_t *pair = json_pack("{s:s}", key, value);
        char *text = pair ? json_text(pair) : NULL;
        size_t n;

        if (!text)
                return -ENOMEM;
        n = strlen(text) - 2;
        memmove(text, text + 1, n); /* without the braces */
        text[n] = '\0';
        ret->text = text;
        return 0;
}

bool catalog_may_have(const struct cataloged *e, const struct catalog_needle *n)
{
        return strstr(e->text, n->text) != NULL;
}
