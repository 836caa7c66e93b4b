/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/image-filter.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "common/json.h"
#include "imaged/image.h"

#define TERMS_MAX 32
#define TIME_LEN 19 /* to the second: what is written behind it differs between clients */

enum term_kind {
        TERM_STRING, /* a member is that string, or one of "in:A,B" */
        TERM_TAG,
        TERM_NUMBER, /* a member is that number */
        TERM_BOOL,
        TERM_TIME, /* "gt:TIME" and so on */
        TERM_SIZE_MIN,
        TERM_SIZE_MAX,
};

struct term {
        enum term_kind kind;
        const char *key, *value;
        char compare[4], time[TIME_LEN + 1]; /* TERM_TIME */
        int64_t number;
        struct catalog_needle needle; /* TERM_STRING of one value, TERM_TAG; else empty */
};

struct image_filter {
        const struct caller *caller;
        const char *visibility, *member_status, *status;
        bool hidden;
        struct term terms[TERMS_MAX];
        size_t n;
        struct err *err; /* while it is made */
};

static int boolean(const char *key, const char *value, bool *ret, struct err *err)
{
        if (strcasecmp(value, "true") == 0 || streq(value, "1"))
                *ret = true;
        else if (strcasecmp(value, "false") == 0 || streq(value, "0"))
                *ret = false;
        else
                return err_set(err, -EINVAL, "%s: \"%s\" is neither true nor false", key, value);
        return 0;
}

/* The next value of "A,B,\"C,D\"": [*ret, *ret + *ret_n). False where there is none, or its quote is not
 * closed: then *list is not NULL. */
static bool in_next(const char **list, const char **ret, size_t *ret_n)
{
        const char *p = *list, *end;
        bool quoted = p && *p == '"';

        if (!p)
                return false;
        end = quoted ? strchr(p + 1, '"') : p + strcspn(p, ",");
        if (!end || (quoted && end[1] && end[1] != ','))
                return false;
        *ret = p + quoted;
        *ret_n = (size_t)(end - *ret);
        end += quoted;
        *list = *end ? end + 1 : NULL;
        return true;
}

static int term_string(struct term *t, struct err *err)
{
        if (strncmp(t->value, "in:", 3) == 0) {
                const char *list = t->value + 3, *value;
                size_t n;

                while (in_next(&list, &value, &n))
                        ;
                return list ? err_set(err, -EINVAL,
                                      "%s: \"%s\": a quote is not closed, or no comma follows it", t->key,
                                      t->value)
                            : 0;
        }
        return catalog_needle(t->key, t->value, &t->needle) < 0
                   ? err_set(err, -EINVAL, "%s: the value is not UTF-8", t->key)
                   : 0;
}

static int term_tag(struct term *t, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *tag = json_string(t->value);

        t->needle.text = tag ? json_text(tag) : NULL;
        return t->needle.text ? 0 : err_set(err, -EINVAL, "tag: the value is not UTF-8");
}

static int term_number(struct term *t, struct err *err)
{
        char *end;

        errno = 0;
        t->number = strtoll(t->value, &end, 10);
        return errno || *end || end == t->value || t->number < 0
                   ? err_set(err, -EINVAL, "%s: \"%s\" is not a whole number of at least 0", t->key,
                             t->value)
                   : 0;
}

/* ISO 8601 with or without a time, a fraction of a second and an offset, as records have it: in UTC. */
static bool time_utc(const char *text, char ret[TIME_LEN + 1])
{
        struct tm tm = {0};
        const char *p = strptime(text, "%Y-%m-%d", &tm);
        int hours = 0, minutes = 0, n = 0, sign;
        time_t at;

        if (p && *p == 'T')
                p = strptime(p + 1, "%H:%M:%S", &tm);
        if (!p)
                return false;
        if (*p == '.')
                p += 1 + strspn(p + 1, "0123456789");
        sign = *p == '-' ? -1 : *p == '+' || *p == ' ' ? 1 : 0; /* a + that was not escaped is a space */
        if (sign && (sscanf(p + 1, "%2d%n", &hours, &n) != 1 ||
                     (p[1 + n] == ':' ? sscanf(p + 1, "%2d:%2d%n", &hours, &minutes, &n) != 2
                                      : p[1 + n] && sscanf(p + 1, "%2d%2d%n", &hours, &minutes, &n) != 2)))
                return false;
        p += sign ? 1 + n : *p == 'Z';
        at = timegm(&tm) - sign * (hours * 3600 + minutes * 60);
        return !*p && gmtime_r(&at, &tm) &&
               strftime(ret, TIME_LEN + 1, "%Y-%m-%dT%H:%M:%S", &tm) == TIME_LEN;
}

static int term_time(struct term *t, struct err *err)
{
        static const char *const compares[] = {"gt", "gte", "lt", "lte", "eq", "neq"};
        size_t n = strcspn(t->value, ":");

        snprintf(t->compare, sizeof(t->compare), "eq");
        for (size_t i = 0; i < ARRAY_SIZE(compares); i++) {
                if (strlen(compares[i]) == n && memcmp(t->value, compares[i], n) == 0) {
                        snprintf(t->compare, sizeof(t->compare), "%s", compares[i]);
                        t->value += n + 1;
                }
        }
        if (!time_utc(t->value, t->time))
                return err_set(err, -EINVAL, "%s: \"%s\" is no time like gt:2026-01-31T12:00:00Z", t->key,
                               t->value);
        return 0;
}

static enum term_kind kind_of(const char *key)
{
        return streq(key, "tag")                                      ? TERM_TAG
               : streq(key, "min_disk") || streq(key, "min_ram")      ? TERM_NUMBER
               : streq(key, "size") || streq(key, "virtual_size")     ? TERM_NUMBER
               : streq(key, "protected")                              ? TERM_BOOL
               : streq(key, "created_at") || streq(key, "updated_at") ? TERM_TIME
               : streq(key, "size_min")                               ? TERM_SIZE_MIN
               : streq(key, "size_max")                               ? TERM_SIZE_MAX
                                                                      : TERM_STRING;
}

static int term_add(struct image_filter *f, const char *key, const char *value)
{
        struct term *t = &f->terms[f->n];
        bool is = false;
        int r;

        if (f->n == TERMS_MAX)
                return err_set(f->err, -EINVAL, "more than %d filters", TERMS_MAX);
        *t = (struct term){.kind = kind_of(key), .key = key, .value = value};
        switch (t->kind) {
        case TERM_BOOL:
                r = boolean(key, value, &is, f->err);
                t->number = is;
                break;
        case TERM_TIME:
                r = term_time(t, f->err);
                break;
        case TERM_STRING:
                r = term_string(t, f->err);
                break;
        case TERM_TAG:
                r = term_tag(t, f->err);
                break;
        default:
                r = term_number(t, f->err);
        }
        if (r == 0)
                f->n++;
        return r;
}

static int visibility_read(struct image_filter *f, const char *value)
{
        static const char *const words[] = {"public", "private", "shared", "community", "all"};

        for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
                if (streq(value, words[i])) {
                        f->visibility = value;
                        return 0;
                }
        }
        return err_set(f->err, -EINVAL,
                       "visibility \"%s\": public, private, shared, community and all are possible", value);
}

static int query_one(void *arg, const char *key, const char *value)
{
        static const char *const not_filters[] = {"", "limit", "marker", "sort", "sort_key", "sort_dir"};
        struct image_filter *f = arg;

        for (size_t i = 0; i < ARRAY_SIZE(not_filters); i++) {
                if (streq(key, not_filters[i]))
                        return 0;
        }
        if (streq(key, "visibility"))
                return visibility_read(f, value);
        if (streq(key, "os_hidden"))
                return boolean(key, value, &f->hidden, f->err);
        if (streq(key, "member_status")) {
                if (!streq(value, "accepted") && !streq(value, "pending") && !streq(value, "rejected") &&
                    !streq(value, "all"))
                        return err_set(f->err, -EINVAL,
                                       "member_status \"%s\": accepted, pending, rejected and all are "
                                       "possible",
                                       value);
                f->member_status = value;
                return 0;
        }
        if (streq(key, "status"))
                f->status = value;
        return term_add(f, key, value);
}

int image_filter_new(struct http_request *req, struct image_filter **ret, struct err *err)
{
        struct image_filter *f = calloc(1, sizeof(*f));
        int r;

        if (!f)
                return err_set(err, -ENOMEM, "out of memory");
        f->caller = caller_of(req);
        f->member_status = "accepted";
        f->err = err;
        r = http_query_each(req, query_one, f);
        f->err = NULL;
        if (r < 0) {
                image_filter_free(f);
                return r;
        }
        *ret = f;
        return 0;
}

struct image_filter *image_filter_free(struct image_filter *f)
{
        if (!f)
                return NULL;
        for (size_t i = 0; i < f->n; i++)
                free(f->terms[i].needle.text);
        free(f);
        return NULL;
}

/* --- does it fit? --- */

static bool in_list(const char *list, const char *have)
{
        const char *value;
        size_t n;

        while (in_next(&list, &value, &n)) {
                if (n == strlen(have) && memcmp(value, have, n) == 0)
                        return true;
        }
        return false;
}

static bool time_fits(const struct term *t, const char *have)
{
        int order = strncmp(have, t->time, TIME_LEN);

        return streq(t->compare, "gt")    ? order > 0
               : streq(t->compare, "gte") ? order >= 0
               : streq(t->compare, "lt")  ? order < 0
               : streq(t->compare, "lte") ? order <= 0
               : streq(t->compare, "neq") ? order != 0
                                          : order == 0;
}

static bool term_fits(const struct term *t, const json_t *record)
{
        const char *have = json_get_str(record, t->key, NULL);
        const json_t *size = json_object_get(record, "size"); /* null as long as there are no bytes */
        json_t *tag;
        size_t i;

        switch (t->kind) {
        case TERM_TAG:
                json_array_foreach (json_object_get(record, "tags"), i, tag) {
                        if (streq(json_string_value(tag), t->value))
                                return true;
                }
                return false;
        case TERM_NUMBER:
                return json_get_int(record, t->key, -1) == t->number;
        case TERM_BOOL:
                return json_get_bool(record, t->key, false) == (t->number != 0);
        case TERM_TIME:
                return have && time_fits(t, have);
        case TERM_SIZE_MIN:
                return json_is_integer(size) && json_integer_value(size) >= t->number;
        case TERM_SIZE_MAX:
                return json_is_integer(size) && json_integer_value(size) <= t->number;
        case TERM_STRING:
                break;
        }
        return have &&
               (strncmp(t->value, "in:", 3) == 0 ? in_list(t->value + 3, have) : streq(have, t->value));
}

/* What of the images of others that one could see does one want in a list? */
static bool shown(const struct image_filter *f, const struct cataloged *e)
{
        static const char *const words[] = {[VISIBILITY_PRIVATE] = "private",
                                            [VISIBILITY_SHARED] = "shared",
                                            [VISIBILITY_COMMUNITY] = "community",
                                            [VISIBILITY_PUBLIC] = "public"};
        _cleanup_(json_decrefpp) json_t *record = NULL;
        bool all = streq(f->visibility, "all"), mine = streq(e->owner, f->caller->id);
        const json_t *member;

        if (f->visibility && !all && !streq(f->visibility, words[e->visibility]))
                return false;
        if (e->visibility == VISIBILITY_COMMUNITY)
                return mine || f->visibility;
        if (mine || f->caller->admin || e->visibility == VISIBILITY_PUBLIC)
                return true;
        if (!image_cataloged_visible(f->caller, e))
                return false;
        record = json_loads(e->text, 0, NULL);
        member = json_object_get(json_object_get(record, "members"), f->caller->id);
        return member && (streq(f->member_status, "all") ||
                          streq(json_get_str(member, "status", NULL), f->member_status));
}

static bool term_may_fit(const struct term *t, const struct cataloged *e)
{
        if (!t->needle.text)
                return true;
        return t->kind == TERM_STRING && streq(t->key, "name") ? streq(e->name, t->value)
                                                               : catalog_may_have(e, &t->needle);
}

bool image_filter_fits(const struct image_filter *f, const struct cataloged *e)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;

        if (e->hidden != f->hidden || !shown(f, e))
                return false;
        if (e->deleted &&
            (!streq(f->status, "pending_delete") || (!f->caller->admin && !streq(e->owner, f->caller->id))))
                return false;
        if (f->n == 0)
                return true;
        for (size_t i = 0; i < f->n; i++) { /* without a look into the JSON, as far as that goes */
                if (!term_may_fit(&f->terms[i], e))
                        return false;
        }
        record = json_loads(e->text, 0, NULL);
        for (size_t i = 0; record && i < f->n; i++) {
                if (!term_fits(&f->terms[i], record))
                        return false;
        }
        return record != NULL;
}
