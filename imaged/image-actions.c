/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "common/json.h"
#include "imaged/image.h"

/* Tags, deactivate and reactivate. */

static size_t tag_find(const json_t *tags, const char *tag)
{
        size_t n = json_array_size(tags);

        for (size_t i = 0; i < n; i++) {
                if (streq(json_string_value(json_array_get(tags, i)), tag))
                        return i;
        }
        return n;
}

static int change_tag_add(json_t *record, void *arg, struct err *err)
{
        json_t *tags = json_object_get(record, "tags");

        if (tag_find(tags, arg) < json_array_size(tags))
                return 1;
        if (json_array_size(tags) >= IMAGE_TAGS_MAX)
                return err_set(err, -EFBIG, "there are %zu tags, the limit is %d", json_array_size(tags),
                               IMAGE_TAGS_MAX);
        if (json_array_append_new(tags, json_string(arg)) < 0)
                return err_set(err, -EINVAL, "the tag is not UTF-8");
        image_set(record, "tags", json_incref(tags));
        return 0;
}

static int change_tag_remove(json_t *record, void *arg, struct err *err)
{
        json_t *tags = json_object_get(record, "tags");
        size_t at = tag_find(tags, arg);

        if (at == json_array_size(tags))
                return err_set(err, -ENOENT, "image %s has no tag %s", json_get_str(record, "id", ""),
                               (const char *)arg);
        json_array_remove(tags, at);
        image_set(record, "tags", json_incref(tags));
        return 0;
}

static int change_deactivate(json_t *record, void *arg, struct err *err)
{
        const char *status = json_get_str(record, "status", "");

        if (streq(status, "deactivated"))
                return 1;
        if (!streq(status, "active"))
                return err_set(err, -EACCES, "image %s is %s; only an active one is deactivated",
                               (const char *)arg, status);
        image_set(record, "status", json_string("deactivated"));
        return 0;
}

static int change_reactivate(json_t *record, void *arg, struct err *err)
{
        const char *status = json_get_str(record, "status", "");

        if (streq(status, "active"))
                return 1;
        if (!streq(status, "deactivated"))
                return err_set(err, -EACCES, "image %s is %s; only a deactivated one is reactivated",
                               (const char *)arg, status);
        image_set(record, "status", json_string("active"));
        return 0;
}

static int apply(struct http_request *req, struct imaged *im, records_change_cb change, const char *arg,
                 struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        int r = image_of(req, im, IMAGE_CHANGE, &record, err);

        if (r == 0)
                r = image_change(im, http_param(req, "id"), change, (void *)arg, NULL, err);
        return r < 0 ? r : http_reply_json(req, 204, NULL);
}

int image_on_tag_add(struct http_request *req, void *userdata, struct err *err)
{
        const char *tag = http_param(req, "tag");

        if (strlen(tag) > 255)
                return err_set(err, -EINVAL, "the tag has %zu bytes, the limit is 255", strlen(tag));
        return apply(req, userdata, change_tag_add, tag, err);
}

int image_on_tag_remove(struct http_request *req, void *userdata, struct err *err)
{
        return apply(req, userdata, change_tag_remove, http_param(req, "tag"), err);
}

int image_on_deactivate(struct http_request *req, void *userdata, struct err *err)
{
        return apply(req, userdata, change_deactivate, http_param(req, "id"), err);
}

int image_on_reactivate(struct http_request *req, void *userdata, struct err *err)
{
        return apply(req, userdata, change_reactivate, http_param(req, "id"), err);
}
