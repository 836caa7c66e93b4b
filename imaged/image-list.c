/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/http-client.h"
#include "common/json.h"
#include "imaged/image-filter.h"
#include "imaged/image.h"

/*
 * GET /v2/images: filters, an order, and pages behind a marker. The catalog stands in the order of age,
 * which is the default, so that a page costs what the page costs; another order costs a look at every image
 * that fits.
 */
#define LIMIT_MAX 1000
#define LIST_AGE_MS 1000
#define SORTS_MAX 4

struct item {
        const struct cataloged *e;
        json_t *record; /* where the order needs it */
};

struct list {
        struct http_request *req;
        struct image_filter *filter;
        size_t limit;
        const char *marker;
        struct {
                const char *key;
                bool ascending;
        } sorts[SORTS_MAX];
        size_t n_sorts;
        bool rest_ascending; /* of those that are equal by these keys: age, then id */
        bool by_age;         /* the catalog's own order, or its reverse */
        bool records;        /* the order asks for what only records have */

        struct item *items; /* that fit, where they have to be sorted */
        size_t n, room;
        char **texts; /* the page: copies of records */
        size_t n_texts;
        bool more;
        char last[UUID_LEN + 1]; /* of the page */
};

/* --- the order --- */

static int sort_add(struct list *l, const char *key, size_t n_key, const char *dir, struct err *err)
{
        static const char *const keys[] = {"created_at",       "updated_at",  "name", "status",
                                           "container_format", "disk_format", "size", "id"};

        if (dir && *dir && !streq(dir, "asc") && !streq(dir, "desc"))
                return err_set(err, -EINVAL, "sort direction \"%s\": asc and desc are possible", dir);
        if (l->n_sorts == SORTS_MAX)
                return err_set(err, -EINVAL, "more than %d sort keys", SORTS_MAX);
        for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
                if (strlen(keys[i]) == n_key && memcmp(key, keys[i], n_key) == 0) {
                        l->sorts[l->n_sorts].key = keys[i];
                        l->sorts[l->n_sorts++].ascending = streq(dir, "asc");
                        l->records |= i >= 3 && i <= 5;
                        return 0;
                }
        }
        return err_set(
            err, -EINVAL,
            "sort key \"%.*s\": name, status, container_format, disk_format, size, id, created_at "
            "and updated_at are possible",
            (int)n_key, key);
}

/* The i-th value of a parameter that may stand several times. */
struct nth {
        const char *name, *value;
        size_t i;
};

static int nth_one(void *arg, const char *name, const char *value)
{
        struct nth *n = arg;

        if (!streq(name, n->name) || n->i-- > 0)
                return 0;
        n->value = value;
        return 1;
}

static const char *query_nth(struct http_request *req, const char *name, size_t i)
{
        struct nth n = {.name = name, .i = i};

        http_query_each(req, nth_one, &n);
        return n.value;
}

/* "sort=KEY:DIR,KEY", or "sort_key=KEY&sort_dir=DIR" several times */
static int order_read(struct list *l, struct err *err)
{
        const char *sort = http_query(l->req, "sort"), *key;
        int r = 0;

        if (sort && http_query(l->req, "sort_key"))
                return err_set(err, -EINVAL, "sort and sort_key exclude each other");
        while (r == 0 && sort && *sort) {
                size_t n = strcspn(sort, ","), n_key = MIN_OF(strcspn(sort, ":"), n);
                _cleanup_(freep) char *dir = n_key < n ? strndup(sort + n_key + 1, n - n_key - 1) : NULL;

                r = sort_add(l, sort, n_key, dir, err);
                sort += n + (sort[n] == ',');
        }
        for (size_t i = 0; r == 0 && (key = query_nth(l->req, "sort_key", i)); i++) {
                const char *dir = query_nth(l->req, "sort_dir", i);

                r = sort_add(l, key, strlen(key), dir ? dir : query_nth(l->req, "sort_dir", 0), err);
        }
        if (r == 0 && l->n_sorts == 0)
                r = sort_add(l, "created_at", strlen("created_at"), query_nth(l->req, "sort_dir", 0), err);
        l->by_age = streq(l->sorts[0].key, "created_at");
        /* one direction for all, or the default */
        l->rest_ascending =
            l->sorts[0].ascending && (sort ? l->n_sorts == 1 : query_nth(l->req, "sort_dir", 1) == NULL);
        return r;
}

static int compare_key(const struct item *x, const struct item *y, const char *key)
{
        if (streq(key, "size"))
                return (x->e->size > y->e->size) - (x->e->size < y->e->size);
        if (streq(key, "created_at"))
                return strcmp(x->e->created, y->e->created);
        if (streq(key, "updated_at"))
                return strcmp(x->e->updated, y->e->updated);
        if (streq(key, "name"))
                return strcmp(x->e->name, y->e->name);
        if (streq(key, "id"))
                return strcmp(x->e->id, y->e->id);
        return strcmp(json_get_str(x->record, key, ""), json_get_str(y->record, key, ""));
}

static int compare(const void *a, const void *b, void *arg)
{
        const struct list *l = arg;
        int r;

        for (size_t i = 0; i < l->n_sorts; i++) {
                r = compare_key(a, b, l->sorts[i].key);
                if (r)
                        return l->sorts[i].ascending ? r : -r;
        }
        r = compare_key(a, b, "created_at");
        if (r == 0)
                r = compare_key(a, b, "id"); /* a total order, or pages would overlap */
        return l->rest_ascending ? r : -r;
}

/* --- the page; all with the catalog open --- */

/* Returns 1 once the page is full. */
static int page_add(struct list *l, const struct cataloged *e)
{
        char *text;

        if (l->n_texts == l->limit) {
                l->more = true;
                return 1;
        }
        text = strdup(e->text);
        if (!text)
                return -ENOMEM;
        l->texts[l->n_texts++] = text;
        memcpy(l->last, e->id, sizeof(l->last));
        return 0;
}

static int marker_missing(const struct list *l, struct err *err)
{
        return err_set(err, -EINVAL, "marker %s: no such image in this list", l->marker);
}

static int page_by_age(struct list *l, const struct cataloged *const *all, size_t n, struct err *err)
{
        bool ascending = l->sorts[0].ascending, behind = !l->marker;
        int r = 0;

        for (size_t i = 0; r == 0 && i < n; i++) {
                const struct cataloged *e = all[ascending ? i : n - 1 - i];

                if (behind && image_filter_fits(l->filter, e))
                        r = page_add(l, e);
                else if (!behind && streq(e->id, l->marker))
                        behind = image_cataloged_visible(caller_of(l->req), e);
        }
        if (!behind)
                return marker_missing(l, err);
        return r < 0 ? r : 0;
}

static int item_add(struct list *l, const struct cataloged *e)
{
        if (l->n == l->room) {
                struct item *bigger = realloc(l->items, (l->room * 2 + 64) * sizeof(*bigger));

                if (!bigger)
                        return -ENOMEM;
                l->items = bigger;
                l->room = l->room * 2 + 64;
        }
        l->items[l->n++] = (struct item){.e = e, .record = l->records ? json_loads(e->text, 0, NULL) : NULL};
        return 0;
}

/* By the marker's place in the order, which it has also when it does not fit any more: it may have been
 * changed or deleted since it was the last of a page. */
static int behind_marker(struct list *l, const struct cataloged *const *all, size_t n, size_t *ret,
                         struct err *err)
{
        struct item marker = {0};
        size_t i = 0;

        for (size_t k = 0; k < n && !marker.e; k++) {
                if (streq(all[k]->id, l->marker) && image_cataloged_visible(caller_of(l->req), all[k]))
                        marker.e = all[k];
        }
        if (!marker.e)
                return marker_missing(l, err);
        marker.record = l->records ? json_loads(marker.e->text, 0, NULL) : NULL;
        while (i < l->n && compare(&l->items[i], &marker, l) <= 0)
                i++;
        json_decref(marker.record);
        *ret = i;
        return 0;
}

static int page_sorted(struct list *l, const struct cataloged *const *all, size_t n, struct err *err)
{
        size_t i = 0;
        int r = 0;

        for (size_t k = 0; r == 0 && k < n; k++) {
                if (image_filter_fits(l->filter, all[k]))
                        r = item_add(l, all[k]);
        }
        if (r < 0)
                return r;
        if (l->n)
                qsort_r(l->items, l->n, sizeof(*l->items), compare, l);
        if (l->marker)
                r = behind_marker(l, all, n, &i, err);
        while (r == 0 && i < l->n)
                r = page_add(l, l->items[i++].e);
        return r < 0 ? r : 0;
}

static int page_make(struct list *l, struct imaged *im, struct err *err)
{
        const struct cataloged *const *all;
        size_t n;
        int r = catalog_open(im->catalog, LIST_AGE_MS, &all, &n, err);

        if (r < 0)
                return r;
        r = l->by_age ? page_by_age(l, all, n, err) : page_sorted(l, all, n, err);
        catalog_close(im->catalog);
        return r == -ENOMEM ? err_set(err, r, "out of memory") : r;
}

/* --- the reply --- */

/* Every parameter but the marker; `arg` is a char *, NULL when out of memory. */
static int link_one(void *arg, const char *name, const char *value)
{
        char **link = arg, *longer = NULL;
        _cleanup_(freep) char *n = http_escape(name), *v = http_escape(value);

        if (streq(name, "marker"))
                return 0;
        if (n && v)
                longer = str_printf("%s%s%s=%s", *link, strchr(*link, '?') ? "&" : "?", n, v);
        free(*link);
        *link = longer;
        return longer ? 0 : -ENOMEM;
}

static int link_set(struct list *l, json_t *reply, const char *key, const char *marker)
{
        _cleanup_(freep) char *link = strdup("/v2/images");

        if (!link || http_query_each(l->req, link_one, &link) < 0)
                return -ENOMEM;
        json_object_set_new(reply, key,
                            marker
                                ? json_sprintf("%s%smarker=%s", link, strchr(link, '?') ? "&" : "?", marker)
                                : json_string(link));
        return 0;
}

static int list_reply(struct list *l, struct err *err)
{
        json_t *images = json_array();
        _cleanup_(json_decrefpp) json_t *reply =
            json_pack("{s:o,s:s}", "images", images, "schema", "/v2/schemas/images");
        int r;

        if (!reply)
                return err_set(err, -ENOMEM, "out of memory");
        for (size_t i = 0; i < l->n_texts; i++) {
                _cleanup_(json_decrefpp) json_t *record = json_loads(l->texts[i], 0, NULL);

                json_array_append_new(images, image_view(record));
        }
        r = link_set(l, reply, "first", NULL);
        if (r == 0 && l->more && l->n_texts > 0)
                r = link_set(l, reply, "next", l->last);
        return r < 0 ? err_set(err, r, "out of memory") : http_reply_json(l->req, 200, reply);
}

int image_on_list(struct http_request *req, void *userdata, struct err *err)
{
        struct list l = {.req = req, .marker = http_query(req, "marker"), .limit = LIMIT_MAX};
        const char *limit = http_query(req, "limit");
        int r;

        if (limit && (!*limit || strspn(limit, "0123456789") != strlen(limit)))
                return err_set(err, -EINVAL, "limit: \"%s\" is not a number", limit);
        if (limit)
                l.limit = (size_t)MIN_OF(strtoull(limit, NULL, 10), LIMIT_MAX);
        r = order_read(&l, err);
        if (r == 0)
                r = image_filter_new(req, &l.filter, err);
        if (r == 0) {
                l.texts = calloc(l.limit + 1, sizeof(*l.texts));
                r = l.texts ? page_make(&l, userdata, err) : err_set(err, -ENOMEM, "out of memory");
        }
        if (r == 0)
                r = list_reply(&l, err);
        for (size_t i = 0; i < l.n; i++)
                json_decref(l.items[i].record);
        for (size_t i = 0; i < l.n_texts; i++)
                free(l.texts[i]);
        free(l.texts);
        free(l.items);
        image_filter_free(l.filter);
        return r;
}
