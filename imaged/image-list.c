/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "imaged/image.h"
#include "imaged/records.h"

/* GET /v2/images: filters, an order, and pages behind a marker. */
#define LIMIT_MAX 1000

struct list {
        struct http_request *req;
        json_t **images;
        size_t n, room;
        const char *key; /* to sort by */
        bool ascending;
};

static bool filter_match(struct list *l, const json_t *record)
{
        static const char *const filters[] = {
            "name", "status", "visibility", "owner", "disk_format", "container_format",
            "id",   "os",     "version",    "arch"};
        const char *tag = http_query(l->req, "tag");

        for (size_t i = 0; i < ARRAY_SIZE(filters); i++) {
                const char *wanted = http_query(l->req, filters[i]);

                if (wanted && !streq(json_get_str(record, filters[i], NULL), wanted))
                        return false;
        }
        if (tag) {
                json_t *t;
                size_t i;

                json_array_foreach (json_object_get(record, "tags"), i, t) {
                        if (streq(json_string_value(t), tag))
                                return true;
                }
                return false;
        }
        return true;
}

static int list_one(void *arg, const char *id, uint64_t version, json_t *record)
{
        struct list *l = arg;

        if (!filter_match(l, record))
                return 0;
        if (l->n == l->room) {
                json_t **bigger = realloc(l->images, (l->room * 2 + 64) * sizeof(*bigger));

                if (!bigger)
                        return -ENOMEM;
                l->images = bigger;
                l->room = l->room * 2 + 64;
        }
        l->images[l->n++] = json_incref(record);
        return 0;
}

static int list_compare(const void *a, const void *b, void *arg)
{
        const struct list *l = arg;
        const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
        const json_t *v = json_object_get(x, l->key), *w = json_object_get(y, l->key);
        int r;

        if (json_is_integer(v) || json_is_integer(w))
                r = (json_integer_value(v) > json_integer_value(w)) -
                    (json_integer_value(v) < json_integer_value(w));
        else
                r = strcmp(json_get_str(x, l->key, ""), json_get_str(y, l->key, ""));
        if (r == 0) /* a total order, or pages would overlap */
                r = strcmp(json_get_str(x, "id", ""), json_get_str(y, "id", ""));
        return l->ascending ? r : -r;
}

/* "sort=KEY:DIR", or "sort_key=KEY&sort_dir=DIR" */
static int list_order(struct list *l, char key[32], struct err *err)
{
        static const char *const keys[] = {"name", "status", "container_format", "disk_format",
                                           "size", "id",     "created_at",       "updated_at"};
        const char *sort = http_query(l->req, "sort"), *dir = http_query(l->req, "sort_dir"),
                   *sort_key = http_query(l->req, "sort_key");

        if (sort) {
                size_t n = strcspn(sort, ":");

                snprintf(key, 32, "%.*s", (int)MIN_OF(n, 31U), sort);
                dir = sort[n] ? sort + n + 1 : dir;
        } else {
                snprintf(key, 32, "%s", sort_key ? sort_key : "created_at");
        }
        if (dir && !streq(dir, "asc") && !streq(dir, "desc"))
                return err_set(err, -EINVAL, "sort direction \"%s\": asc and desc are possible", dir);
        l->ascending = streq(dir, "asc");
        for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
                if (streq(key, keys[i])) {
                        l->key = keys[i];
                        return 0;
                }
        }
        return err_set(err, -EINVAL,
                       "sort key \"%s\": name, status, container_format, disk_format, size, id, created_at "
                       "and updated_at "
                       "are possible",
                       key);
}

/* The page behind the marker. */
static int list_page(struct list *l, size_t limit, json_t **ret, struct err *err)
{
        const char *marker = http_query(l->req, "marker");
        json_t *page = json_array(), *reply;
        size_t i = 0;

        if (marker) {
                while (i < l->n && !streq(json_get_str(l->images[i], "id", NULL), marker))
                        i++;
                if (i++ == l->n) {
                        json_decref(page);
                        return err_set(err, -EINVAL, "marker %s: no such image in this list", marker);
                }
        }
        for (; i < l->n && json_array_size(page) < limit; i++)
                json_array_append_new(page, image_view(l->images[i]));
        reply = json_pack("{s:O,s:s,s:s}", "images", page, "first", "/v2/images", "schema",
                          "/v2/schemas/images");
        if (i < l->n && json_array_size(page) > 0)
                json_object_set_new(reply, "next",
                                    json_sprintf("/v2/images?limit=%zu&sort=%s:%s&marker=%s", limit, l->key,
                                                 l->ascending ? "asc" : "desc",
                                                 json_get_str(l->images[i - 1], "id", "")));
        json_decref(page);
        *ret = reply;
        return 0;
}

int image_on_list(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        struct list l = {.req = req};
        _cleanup_(json_decrefpp) json_t *reply = NULL;
        const char *limit = http_query(req, "limit");
        char key[32];
        int r;

        if (limit && (!*limit || strspn(limit, "0123456789") != strlen(limit)))
                return err_set(err, -EINVAL, "limit: \"%s\" is not a number", limit);
        r = list_order(&l, key, err);
        if (r == 0)
                r = records_each(im->store, RECORD_IMAGE, list_one, &l, err);
        if (r == 0) {
                qsort_r(l.images, l.n, sizeof(*l.images), list_compare, &l);
                r = list_page(&l, limit ? MIN_OF(strtoull(limit, NULL, 10), LIMIT_MAX) : LIMIT_MAX, &reply,
                              err);
        }
        for (size_t i = 0; i < l.n; i++)
                json_decref(l.images[i]);
        free(l.images);
        return r < 0 ? r : http_reply_json(req, 200, reply);
}
