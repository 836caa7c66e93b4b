/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/image.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "formats/formats.h"
#include "imaged/events.h"
#include "imaged/index.h"
#include "imaged/records.h"
#include "imaged/upload.h"

/*
 * The catalog: paths and schemas of the OpenStack Image API v2.
 * Source: https://docs.openstack.org/api-ref/image/v2/
 */
/* A list may lag behind by a second; so long after the record stopped new users, it shows all there are. */
#define LIST_LAG_MS 1200

void image_set(json_t *record, const char *key, json_t *value)
{
        char at[CLOCK_STAMP_LEN + 1];

        json_object_set_new(record, key, value);
        json_object_set_new(record, "updated_at", json_string(clock_stamp(at)));
}

json_t *image_view(const json_t *record)
{
        json_t *view = json_copy((json_t *)record);
        const char *id = json_get_str(record, "id", "");

        json_object_set_new(view, "self", json_sprintf("/v2/images/%s", id));
        json_object_set_new(view, "file", json_sprintf("/v2/images/%s/file", id));
        json_object_set_new(view, "schema", json_string("/v2/schemas/image"));
        return view;
}

static int image_load(struct imaged *im, const char *id, json_t **ret, struct err *err)
{
        int r = uuid_valid(id) ? records_load(im->store, RECORD_IMAGE, id, ret, NULL, err) : -ENOENT;

        return r == -ENOENT ? err_set(err, -ENOENT, "no image %s", id) : r;
}

struct find {
        const char *name;
        json_t *found;
        unsigned n;
        char ids[256];
};

static int find_one(void *arg, const char *id, uint64_t version, json_t *record)
{
        struct find *f = arg;

        if (!streq(json_get_str(record, "name", NULL), f->name) ||
            !streq(json_get_str(record, "status", NULL), "active"))
                return 0;
        f->n++;
        snprintf(f->ids + strlen(f->ids), sizeof(f->ids) - strlen(f->ids), " %s", id);
        json_decref(f->found);
        f->found = json_incref(record);
        return 0;
}

int image_find(struct imaged *im, const char *id_or_name, json_t **ret, struct err *err)
{
        struct find f = {.name = id_or_name};
        int r;

        if (uuid_valid(id_or_name)) {
                r = image_load(im, id_or_name, ret, err);
                if (r != -ENOENT)
                        return r;
        }
        r = records_each(im->store, RECORD_IMAGE, find_one, &f, err);
        if (r == 0 && f.n == 0)
                r = err_set(err, -ENOENT, "no active image has the id or the name %s", id_or_name);
        else if (r == 0 && f.n > 1)
                r = err_set(err, -EINVAL, "%u images have the name %s; give the id of one:%s", f.n,
                            id_or_name, f.ids);
        if (r < 0)
                json_decref(f.found);
        else
                *ret = f.found;
        return r;
}

/* --- create, show, delete --- */

static int create_check_member(const char *key, const json_t *value, struct err *err)
{
        static const char *const read_only[] = {
            "status",       "size",          "virtual_size",  "checksum", "created_at", "updated_at",
            "os_hash_algo", "os_hash_value", "self",          "file",     "schema",     "import",
            "direct_url",   "import_error",  "source_format", "locations"};
        static const char *const words[] = {"disk_format", "container_format", "visibility"};

        for (size_t i = 0; i < ARRAY_SIZE(read_only); i++) {
                if (streq(key, read_only[i]))
                        return err_set(err, -EACCES, "%s is read-only", key);
        }
        for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
                if (streq(key, words[i]) && !json_is_string(value) && !json_is_null(value))
                        return err_set(err, -EINVAL, "%s is not a string", key);
        }
        if (streq(key, "tags"))
                return json_is_array(value) ? 0 : err_set(err, -EINVAL, "tags is not a list");
        if (streq(key, "protected") || streq(key, "os_hidden"))
                return json_is_boolean(value) ? 0
                                              : err_set(err, -EINVAL, "%s is neither true nor false", key);
        if (streq(key, "min_disk") || streq(key, "min_ram"))
                return json_is_integer(value) && json_integer_value(value) >= 0
                           ? 0
                           : err_set(err, -EINVAL, "%s is not a whole number of at least 0", key);
        if (strlen(key) > 255)
                return err_set(err, -EINVAL, "a property's name has %zu characters, the limit is 255",
                               strlen(key));
        if (json_is_null(value))
                return 0;
        if (!json_is_string(value))
                return err_set(err, -EINVAL, "%s is not a string; properties are", key);
        if (json_string_length(value) > 4096)
                return err_set(err, -EINVAL, "%s has %zu characters, the limit is 4096", key,
                               json_string_length(value));
        return 0;
}

static int create_check(const json_t *body, struct err *err)
{
        const char *key, *word;
        json_t *value;
        int r = 0;

        if (!json_is_object(body))
                return err_set(err, -EINVAL, "the body is not a JSON object");
        json_object_foreach ((json_t *)body, key, value) {
                r = create_check_member(key, value, err);
                if (r < 0)
                        return r;
        }
        word = json_get_str(body, "disk_format", NULL);
        if (word && image_format_parse(word) < 0)
                return err_set(err, -EINVAL, "disk_format \"%s\": raw, iso and qcow2 are possible", word);
        word = json_get_str(body, "container_format", NULL);
        if (word && !streq(word, "bare"))
                return err_set(err, -EINVAL, "container_format \"%s\": bare is possible", word);
        word = json_get_str(body, "visibility", "shared");
        if (!streq(word, "public") && !streq(word, "private") && !streq(word, "shared") &&
            !streq(word, "community"))
                return err_set(err, -EINVAL,
                               "visibility \"%s\": public, private, shared and community are possible",
                               word);
        word = json_get_str(body, "id", NULL);
        if (json_object_get(body, "id") && !uuid_valid(word))
                return err_set(err, -EINVAL, "id \"%s\" is not a UUID in lower case",
                               word ? word : "(not a string)");
        word = json_get_str(body, "name", "");
        if (strlen(word) > 255)
                return err_set(err, -EINVAL, "name has %zu characters, the limit is 255", strlen(word));
        return 0;
}

static json_t *create_record(const json_t *body, const char *id)
{
        char at[CLOCK_STAMP_LEN + 1];
        json_t *record;

        clock_stamp(at);
        record =
            json_pack("{s:s,s:n,s:s,s:n,s:s,s:n,s:n,s:i,s:i,s:s,s:b,s:b,s:s,s:[],s:s,s:s,s:n,s:n,s:n,s:n}",
                      "id", id, "name", "status", "queued", "disk_format", "container_format", "bare",
                      "size", "virtual_size", "min_disk", 0, "min_ram", 0, "visibility", "private",
                      "protected", 0, "os_hidden", 0, "owner", "admin", "tags", "created_at", at,
                      "updated_at", at, "checksum", "os_hash_algo", "os_hash_value", "import");
        json_object_update(record, (json_t *)body);
        json_object_set_new(record, "id", json_string(id));
        return record;
}

int image_on_create(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        _cleanup_(json_decrefpp) json_t *body = NULL, *record = NULL, *view = NULL;
        _cleanup_(freep) char *location = NULL;
        char id[UUID_LEN + 1];
        int r;

        r = http_body_json(req, &body, err);
        if (r == 0)
                r = create_check(body, err);
        if (r < 0)
                return r;
        uuid_random(id);
        if (json_object_get(body, "id")) /* the caller's own choice, checked */
                snprintf(id, sizeof(id), "%s", json_get_str(body, "id", ""));
        record = create_record(body, id);
        if (!record)
                return err_set(err, -ENOMEM, "out of memory");
        r = records_save(im->store, RECORD_IMAGE, id, 0, record, NULL, err);
        if (r == -ESTALE)
                return err_set(err, -EEXIST, "the image id %s is taken", id);
        if (r < 0)
                return r;
        view = image_view(record);
        location = str_printf("/v2/images/%s", id);
        if (location)
                http_reply_header(req, "Location", location);
        http_reply_header(req, "OpenStack-image-import-methods", "web-download");
        return http_reply_json(req, 201, view);
}

int image_on_show(struct http_request *req, void *userdata, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL, *view = NULL;
        int r = image_load(userdata, http_param(req, "id"), &record, err);

        if (r < 0)
                return r;
        view = image_view(record);
        return http_reply_json(req, 200, view);
}

#define USERS_NAMED 5

struct users {
        const char *image;
        unsigned n;
        char ids[USERS_NAMED][UUID_LEN + 1];
};

static int users_one(void *arg, const struct indexed *e)
{
        struct users *u = arg;

        if (!streq(e->image, u->image))
                return 0;
        if (u->n < USERS_NAMED)
                memcpy(u->ids[u->n], e->id, sizeof(e->id));
        u->n++;
        return 0;
}

static int users_check(struct imaged *im, const char *image, struct err *err)
{
        struct users u = {.image = image};
        char names[USERS_NAMED * 66] = "";
        int r = index_each(im->index, 0, users_one, &u, err);

        if (r < 0 || u.n == 0)
                return r;
        for (unsigned i = 0; i < MIN_OF(u.n, USERS_NAMED); i++) {
                _cleanup_(json_decrefpp) json_t *record = NULL;
                size_t at = strlen(names);

                records_load(im->store, RECORD_INSTANCE, u.ids[i], &record, NULL, NULL);
                snprintf(names + at, sizeof(names) - at, "%s%s", at ? ", " : "",
                         json_get_str(record, "name", u.ids[i]));
        }
        return err_set(err, -EBUSY, "image %s is used by %u instance%s: %s%s", image, u.n,
                       u.n == 1 ? "" : "s", names, u.n > USERS_NAMED ? ", ..." : "");
}

/* From here on no instance takes it (the creation looks at the status after it wrote its record). */
static int change_deleting(json_t *record, void *arg, struct err *err)
{
        if (json_get_bool(record, "protected", false))
                return err_set(err, -EACCES, "image %s is protected", (const char *)arg);
        if (streq(json_get_str(record, "status", NULL), "pending_delete"))
                return 1;
        json_object_set_new(record, "status_before", json_string(json_get_str(record, "status", "queued")));
        json_object_set_new(record, "import", json_null());
        image_set(record, "status", json_string("pending_delete"));
        return 0;
}

static int change_kept(json_t *record, void *arg, struct err *err)
{
        if (!streq(json_get_str(record, "status", NULL), "pending_delete"))
                return 1;
        image_set(record, "status", json_string(json_get_str(record, "status_before", "active")));
        json_object_del(record, "status_before");
        return 0;
}

int image_delete_finish(struct imaged *im, const char *id, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        struct err ignored = {0};
        uint64_t version;
        int r;

        r = users_check(im, id, err);
        if (r == 0)
                r = records_load(im->store, RECORD_IMAGE, id, &record, &version, err);
        if (r == 0 && !streq(json_get_str(record, "status", NULL), "pending_delete"))
                return err_set(err, -EBUSY, "image %s is %s again", id,
                               json_get_str(record, "status", "unknown"));
        if (r == 0) {
                r = volume_remove(im->store, id, err);
                r = r == -ENOENT ? 0 : records_code(r);
        }
        if (r == -EBUSY) /* some instance has it: it stays */
                records_change(im->store, RECORD_IMAGE, id, change_kept, NULL, NULL, &ignored);
        if (r < 0)
                return r;
        r = records_save(im->store, RECORD_IMAGE, id, version, NULL, NULL, err);
        if (r == 0)
                event_post(im->events, &(struct event){.kind = "image-deleted",
                                                       .name = json_get_str(record, "name", id),
                                                       .text = id});
        return r;
}

int image_on_delete(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        const char *id = http_param(req, "id");
        _cleanup_(json_decrefpp) json_t *record = NULL;
        int r;

        r = image_load(im, id, &record, err);
        if (r == 0)
                r = users_check(im, id, err); /* most refusals, at once and without a change */
        if (r == 0)
                r = records_change(im->store, RECORD_IMAGE, id, change_deleting, (void *)id, NULL, err);
        if (r < 0)
                return r;
        upload_cancel(im, id);
        if (!streq(json_get_str(record, "status", NULL), "queued"))
                poll(NULL, 0, LIST_LAG_MS);
        r = image_delete_finish(im, id, err);
        return r < 0 ? r : http_reply_json(req, 204, NULL);
}
