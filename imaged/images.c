/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"

/*
 * The catalog: paths and schemas of the OpenStack Image API v2.
 * Source: https://docs.openstack.org/api-ref/image/v2/
 */

void image_set(json_t *record, const char *key, json_t *value)
{
        char at[CLOCK_STAMP_LEN + 1];

        json_object_set_new(record, key, value);
        json_object_set_new(record, "updated_at", json_string(clock_stamp(at)));
}

int image_change(struct imaged *im, const char *id, records_change_cb change, void *arg, json_t **ret,
                 struct err *err)
{
        _cleanup_(json_decrefpp) json_t *now = NULL;
        int r = records_change(im->store, RECORD_IMAGE, id, change, arg, &now, err);

        if (r < 0)
                return r;
        catalog_put(im->catalog, id, now);
        if (ret)
                *ret = take(now);
        return 0;
}

int image_save(struct imaged *im, const char *id, uint64_t expected, const json_t *record, struct err *err)
{
        int r = records_save(im->store, RECORD_IMAGE, id, expected, record, NULL, err);

        if (r == 0)
                catalog_put(im->catalog, id, record);
        return r;
}

json_t *image_view(const json_t *record)
{
        static const char *const internal[] = {"members", "staged", "status_before", "purge", "manifest"};
        json_t *view = json_copy((json_t *)record);
        const char *id = json_get_str(record, "id", ""), *url = json_get_str(record, "direct_url", NULL);
        const json_t *import = json_object_get(record, "import");

        for (size_t i = 0; i < ARRAY_SIZE(internal); i++)
                json_object_del(view, internal[i]);
        if (json_is_object(import))
                json_object_set_new(view, "import",
                                    json_pack("{s:O?,s:O?}", "done", json_object_get(import, "done"),
                                              "total", json_object_get(import, "total")));
        if (url)
                json_object_set_new(view, "locations", json_pack("[{s:s,s:{}}]", "url", url, "metadata"));
        json_object_set_new(view, "self", json_sprintf("/v2/images/%s", id));
        json_object_set_new(view, "file", json_sprintf("/v2/images/%s/file", id));
        json_object_set_new(view, "schema", json_string("/v2/schemas/image"));
        return view;
}

static int create_check(const struct caller *c, const json_t *body, struct err *err)
{
        const char *key;
        json_t *value;

        if (!json_is_object(body))
                return err_set(err, -EINVAL, "the body is not a JSON object");
        json_object_foreach ((json_t *)body, key, value) {
                int r = image_check_member(key, value, err);

                if (r < 0)
                        return r;
        }
        return image_check_record(c, NULL, body, err);
}

static json_t *create_record(const struct caller *c, const json_t *body, const char *id)
{
        char at[CLOCK_STAMP_LEN + 1];
        json_t *record;

        clock_stamp(at);
        record =
            json_pack("{s:s,s:n,s:s,s:n,s:s,s:n,s:n,s:i,s:i,s:s,s:b,s:b,s:s,s:[],s:s,s:s,s:n,s:n,s:n,s:n}",
                      "id", id, "name", "status", "queued", "disk_format", "container_format", "bare",
                      "size", "virtual_size", "min_disk", 0, "min_ram", 0, "visibility", "shared",
                      "protected", 0, "os_hidden", 0, "owner", c->id, "tags", "created_at", at, "updated_at",
                      at, "checksum", "os_hash_algo", "os_hash_value", "import");
        json_object_update(record, (json_t *)body);
        json_object_set_new(record, "tags", image_tags(json_object_get(record, "tags")));
        json_object_set_new(record, "id", json_string(id));
        return record;
}

int image_on_create(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        const struct caller *c = caller_of(req);
        _cleanup_(json_decrefpp) json_t *body = NULL, *record = NULL, *view = NULL;
        _cleanup_(freep) char *location = NULL;
        char id[UUID_LEN + 1];
        size_t n_body;
        int r;

        http_body_text(req, &n_body);
        if (n_body == 0)
                return err_set(err, -EINVAL, "the body is missing: a JSON object, {} at least");
        r = http_body_json(req, &body, err);
        if (r == 0)
                r = create_check(c, body, err);
        if (r < 0)
                return r;
        uuid_random(id);
        if (json_object_get(body, "id")) /* the caller's own choice, checked */
                snprintf(id, sizeof(id), "%s", json_get_str(body, "id", ""));
        record = create_record(c, body, id);
        if (!record)
                return err_set(err, -ENOMEM, "out of memory");
        r = image_save(im, id, 0, record, err);
        if (r == -ESTALE)
                return err_set(err, -EEXIST, "the image id %s is taken", id);
        if (r < 0)
                return r;
        view = image_view(record);
        location = str_printf("/v2/images/%s", id);
        if (location)
                http_reply_header(req, "Location", location);
        http_reply_header(req, "OpenStack-image-import-methods", "glance-direct,web-download");
        return http_reply_json(req, 201, view);
}

int image_on_show(struct http_request *req, void *userdata, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL, *view = NULL;
        int r = image_of(req, userdata, IMAGE_SEE, &record, err);

        if (r < 0)
                return r;
        view = image_view(record);
        return http_reply_json(req, 200, view);
}
