/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/json.h"
#include "imaged/image.h"
#include "imaged/quota.h"

/*
 * PATCH /v2/images/{id}: a JSON patch (RFC 6902) with the operations add, replace and remove over a record's
 * members, one step deep. All or nothing.
 */
#define TYPE "application/openstack-images-v2.1-json-patch"
#define OPERATIONS_MAX 512

struct patch {
        const struct caller *caller;
        const json_t *operations;
        const char *owner; /* to whom it goes, whose quota has `bytes` of it already; NULL: it stays */
        uint64_t bytes;
};

/* "/a~1b" to "a/b" (RFC 6901); -EINVAL where it is not one step. */
static int pointer_read(const char *path, char **ret, struct err *err)
{
        _cleanup_(freep) char *key = path && path[0] == '/' ? strdup(path + 1) : NULL;
        char *to = key;

        if (!key || strchr(key, '/'))
                return err_set(err, path && strncmp(path, "/locations/", 11) == 0 ? -EACCES : -EINVAL,
                               "path \"%s\": /MEMBER is possible", path ? path : "");
        for (const char *p = key; *p; p++) {
                if (p[0] == '~' && (p[1] == '0' || p[1] == '1')) {
                        *to++ = p[1] == '1' ? '/' : '~';
                        p++;
                } else if (p[0] == '~') {
                        return err_set(err, -EINVAL, "path \"%s\": behind ~ stands 0 or 1", path);
                } else {
                        *to++ = *p;
                }
        }
        *to = '\0';
        *ret = take(key);
        return 0;
}

static int apply_remove(json_t *record, const char *key, struct err *err)
{
        if (image_is_base(key))
                return err_set(err, -EACCES, "%s cannot be removed", key);
        if (json_object_del(record, key) < 0)
                return err_set(err, -EBUSY, "there is no property %s", key);
        return 0;
}

static int apply_value(json_t *record, const char *op, const char *key, json_t *value, struct err *err)
{
        const char *status = json_get_str(record, "status", "");
        int r;

        if (streq(key, "id"))
                return err_set(err, -EACCES, "id is read-only");
        if (!value)
                return err_set(err, -EINVAL, "%s %s: value is missing", op, key);
        r = image_check_member(key, value, err);
        if (r < 0)
                return r;
        if (streq(op, "replace") && !json_object_get(record, key))
                return err_set(err, -EBUSY, "there is no property %s to replace", key);
        if ((streq(key, "disk_format") || streq(key, "container_format")) && !streq(status, "queued"))
                return err_set(err, -EACCES, "%s can be changed only while the image is queued; it is %s",
                               key, status);
        if (streq(key, "tags") ? json_object_set_new(record, key, image_tags(value)) < 0
                               : json_object_set(record, key, value) < 0)
                return err_set(err, -ENOMEM, "out of memory");
        return 0;
}

static int apply_one(json_t *record, const json_t *operation, struct err *err)
{
        const char *op = json_get_str(operation, "op", NULL);
        _cleanup_(freep) char *key = NULL;
        int r;

        if (!op)
                return err_set(err, -EINVAL, "an operation has no op");
        r = pointer_read(json_get_str(operation, "path", NULL), &key, err);
        if (r < 0)
                return r;
        if (streq(op, "remove"))
                return apply_remove(record, key, err);
        if (streq(op, "add") || streq(op, "replace"))
                return apply_value(record, op, key, json_object_get(operation, "value"), err);
        return err_set(err, -EINVAL, "op \"%s\": add, replace and remove are possible", op);
}

/* 1: nothing changes by it. */
static int apply_all(const struct patch *p, json_t *record, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *before = json_copy(record);
        const json_t *operation;
        const char *status = json_get_str(record, "status", "");
        size_t i;
        int r;

        if (streq(status, "pending_delete") || streq(status, "deleted"))
                return err_set(err, -ENOENT, "no image %s", json_get_str(record, "id", ""));
        json_array_foreach ((json_t *)p->operations, i, operation) {
                r = apply_one(record, operation, err);
                if (r < 0)
                        return r;
        }
        return json_equal(before, record) ? 1 : image_check_record(p->caller, before, record, err);
}

/* Bytes that are on their way are reserved for who was the owner at their begin. */
static int owner_check(const struct patch *p, const json_t *before, const json_t *record, struct err *err)
{
        const char *id = json_get_str(before, "id", ""), *to = json_get_str(record, "owner", "");

        if (streq(to, json_get_str(before, "owner", "")))
                return 0;
        if (json_is_object(json_object_get(before, "import")))
                return err_set(err, -EBUSY, "image %s is %s; it gets another owner once its bytes are there",
                               id, json_get_str(before, "status", ""));
        return p->owner && streq(to, p->owner) && quota_bytes(before) == p->bytes
                   ? 0
                   : err_set(err, -EBUSY, "image %s has changed at the same time; try again", id);
}

static int change_patch(json_t *record, void *arg, struct err *err)
{
        const struct patch *p = arg;
        _cleanup_(json_decrefpp) json_t *before = json_copy(record);
        int r = apply_all(p, record, err);

        if (r == 0)
                r = owner_check(p, before, record, err);
        if (r != 0)
                return r;
        image_set(record, "id", json_incref(json_object_get(record, "id"))); /* updated_at */
        return 0;
}

/* A quota counts what its account owns: an image that gets another owner is reserved for that one first. */
static int patch(struct imaged *im, struct patch *p, const json_t *record, json_t **ret, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *then = json_deep_copy(record);
        const char *id = json_get_str(record, "id", ""), *from = json_get_str(record, "owner", ""), *to;
        int r = then ? apply_all(p, then, err) : err_set(err, -ENOMEM, "out of memory");

        if (r < 0)
                return r;
        to = json_get_str(then, "owner", "");
        if (!streq(from, to)) {
                p->owner = to;
                p->bytes = quota_bytes(record);
        }
        r = p->bytes > 0 ? quota_reserve(im, to, id, p->bytes, err) : 0;
        if (r == 0)
                r = image_change(im, id, change_patch, p, ret, err);
        if (p->bytes > 0 && r != -ETIMEDOUT) /* unknown; of what is left over the collector knows */
                quota_release(im, r < 0 ? to : from, id, NULL);
        return r;
}

int image_on_patch(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        const char *type = http_header(req, "Content-Type");
        _cleanup_(json_decrefpp) json_t *record = NULL, *body = NULL, *now = NULL, *view = NULL;
        struct patch p = {.caller = caller_of(req)};
        int r = image_of(req, im, IMAGE_CHANGE, &record, err);

        if (r < 0)
                return r;
        if (!type ||
            (strncasecmp(type, TYPE, strlen(TYPE)) != 0 && strcasecmp(type, "application/json") != 0))
                return err_set(err, -EMEDIUMTYPE, "Content-Type \"%s\": " TYPE " is possible",
                               type ? type : "");
        r = http_body_json(req, &body, err);
        if (r < 0)
                return r;
        if (!json_is_array(body) || json_array_size(body) > OPERATIONS_MAX)
                return err_set(err, -EINVAL, "the body is not a list of at most %d operations",
                               OPERATIONS_MAX);
        p.operations = body;
        r = patch(im, &p, record, &now, err);
        if (r < 0)
                return r;
        view = image_view(now);
        return http_reply_json(req, 200, view);
}
