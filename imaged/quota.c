/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/quota.h"

#include <errno.h>
#include <string.h>

#include "common/json.h"
#include "common/log.h"
#include "imaged/account.h"
#include "imaged/catalog.h"
#include "imaged/records.h"

#define ULL(v) ((unsigned long long)(v))
#define IMAGES_MAX 4000 /* whose reservations fit into a record */

static uint64_t limit_of(const json_t *record)
{
        const json_t *bytes = json_path(record, "quota.image_bytes");

        return json_is_integer(bytes) ? (uint64_t)json_integer_value(bytes) : UINT64_MAX;
}

static uint64_t used_of(const json_t *record, const char *but)
{
        const char *image;
        uint64_t used = 0;
        json_t *bytes;

        json_object_foreach (json_object_get(record, "images"), image, bytes) {
                if (!but || !streq(image, but))
                        used += (uint64_t)json_integer_value(bytes);
        }
        return used;
}

/* -ENOENT: the owner has no account. */
static int account_of(struct imaged *im, const char *owner, json_t **ret, struct err *err)
{
        return uuid_valid(owner) ? account_load(im->accounts, owner, ret, err) : -ENOENT;
}

int quota_get(struct imaged *im, const char *owner, struct quota *ret, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        int r = account_of(im, owner, &record, err);

        if (r < 0 && r != -ENOENT)
                return r;
        *ret = (struct quota){.limit = limit_of(record), .used = used_of(record, NULL)};
        return 0;
}

uint64_t quota_bytes(const json_t *image)
{
        const json_t *staged = json_object_get(image, "staged");

        return (uint64_t)json_get_int(json_is_object(staged) ? staged : image, "size", 0);
}

struct reserve {
        const char *image;
        uint64_t bytes; /* 0: none */
};

static int change_reserve(json_t *record, void *arg, struct err *err)
{
        const struct reserve *want = arg;
        json_t *images = json_object_get(record, "images");
        uint64_t limit = limit_of(record), others = used_of(record, want->image);

        if (want->bytes == 0)
                return json_object_del(images, want->image) < 0 ? 1 : 0;
        if (limit == UINT64_MAX || json_get_int(images, want->image, -1) == (json_int_t)want->bytes)
                return 1;
        if (others > limit || want->bytes > limit - others)
                return err_set(
                    err, -EDQUOT,
                    "account %s: %llu bytes for image %s are over its quota of %llu, of which %llu "
                    "are taken",
                    json_get_str(record, "name", ""), ULL(want->bytes), want->image, ULL(limit),
                    ULL(others));
        if (json_object_size(images) >= IMAGES_MAX && !json_object_get(images, want->image))
                return err_set(err, -EDQUOT, "account %s has %d images; more cannot be counted",
                               json_get_str(record, "name", ""), IMAGES_MAX);
        return json_object_set_new(images, want->image, json_integer((json_int_t)want->bytes)) < 0 ? -ENOMEM
                                                                                                   : 0;
}

int quota_reserve(struct imaged *im, const char *owner, const char *image, uint64_t bytes, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        struct reserve want = {.image = image, .bytes = bytes};
        int r;

        if (!uuid_valid(owner))
                return 0;
        r = account_of(im, owner, &record, err);
        if (r == -ENOENT)
                return err_set(err, -EDQUOT, "image %s: its owner %s has no account", image, owner);
        if (r < 0 || limit_of(record) == UINT64_MAX)
                return r;
        r = records_change(im->store, RECORD_ACCOUNT, json_get_str(record, "name", ""), change_reserve,
                           &want, NULL, err);
        /* unknown: the change is made so that it may be asked for again */
        return r == -ETIMEDOUT ? records_change(im->store, RECORD_ACCOUNT, json_get_str(record, "name", ""),
                                                change_reserve, &want, NULL, err)
                               : r;
}

int quota_release(struct imaged *im, const char *owner, const char *image, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        struct reserve none = {.image = image};
        int r = account_of(im, owner, &record, err);

        if (r == 0 && json_object_get(json_object_get(record, "images"), image))
                r = records_change(im->store, RECORD_ACCOUNT, json_get_str(record, "name", ""),
                                   change_reserve, &none, NULL, err);
        return r == -ENOENT ? 0 : r;
}

struct count {
        const char *owner;
        json_t *images;
};

static int count_one(void *arg, const struct cataloged *e)
{
        struct count *c = arg;
        _cleanup_(json_decrefpp) json_t *image =
            streq(e->owner, c->owner) ? json_loads(e->text, 0, NULL) : NULL;
        uint64_t bytes = quota_bytes(image);

        return bytes > 0 && json_object_set_new(c->images, e->id, json_integer((json_int_t)bytes)) < 0
                   ? -ENOMEM
                   : 0;
}

static int change_count(json_t *record, void *arg, struct err *err)
{
        const struct count *c = arg;

        if (json_object_update_missing(json_object_get(record, "images"), c->images) < 0)
                return -ENOMEM;
        return json_object_size(json_object_get(record, "images")) > IMAGES_MAX
                   ? err_set(err, -EDQUOT, "account %s has %zu images; of %d at most a quota can be counted",
                             json_get_str(record, "name", ""),
                             json_object_size(json_object_get(record, "images")), IMAGES_MAX)
                   : 0;
}

int quota_count(struct imaged *im, const char *owner, json_t **ret, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *images = json_object(), *record = NULL;
        struct count c = {.owner = owner, .images = images};
        int r = images ? catalog_each(im->catalog, 0, count_one, &c, err) : -ENOMEM;

        if (r == 0)
                r = account_of(im, owner, &record, err);
        return r < 0 ? r
                     : records_change(im->store, RECORD_ACCOUNT, json_get_str(record, "name", ""),
                                      change_count, &c, ret, err);
}

struct sweep {
        struct imaged *im;
        bool (*stale)(void *arg, const char *image);
        void *arg;
};

static bool has_bytes(struct imaged *im, const char *owner, const char *image)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        int r = records_load(im->store, RECORD_IMAGE, image, &record, NULL, NULL);

        if (r == -ENOENT)
                return false;
        return r < 0 || (streq(json_get_str(record, "owner", NULL), owner) &&
                         (!streq(json_get_str(record, "status", NULL), "queued") ||
                          json_is_object(json_object_get(record, "import"))));
}

static int sweep_one(void *arg, json_t *record)
{
        struct sweep *s = arg;
        const char *image;
        json_t *bytes;
        void *next;

        json_object_foreach_safe (json_object_get(record, "images"), next, image, bytes) {
                struct err err = {0};

                if (has_bytes(s->im, json_get_str(record, "id", ""), image) || !s->stale(s->arg, image))
                        continue;
                if (quota_release(s->im, json_get_str(record, "id", ""), image, &err) < 0)
                        log_warn("quota of %s: %s", json_get_str(record, "name", ""), err_text(&err));
                else
                        log_info("quota of %s: image %s has gone, its bytes are free",
                                 json_get_str(record, "name", ""), image);
        }
        return 0;
}

int quota_sweep(struct imaged *im, bool (*stale)(void *arg, const char *image), void *arg, struct err *err)
{
        struct sweep s = {.im = im, .stale = stale, .arg = arg};

        return account_each(im->accounts, sweep_one, &s, err);
}
