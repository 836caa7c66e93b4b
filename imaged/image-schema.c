/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "formats/formats.h"
#include "imaged/auth.h"
#include "imaged/identity.h"
#include "imaged/image.h"
#include "imaged/quota.h"

/* What the Image API says of itself: versions, schemas, import methods, usage. */

/* GET / and GET /versions */
static int versions_reply(struct http_request *req, struct imaged *im, int status, struct err *err)
{
        _cleanup_(freep) char *base = identity_base(im, req);
        json_t *versions = json_array();
        _cleanup_(json_decrefpp) json_t *reply = json_pack("{s:o}", "versions", versions);

        if (!base || !reply)
                return err_set(err, -ENOMEM, "out of memory");
        for (int minor = 9; minor >= 0; minor--) {
                if (minor == 8) /* there was none */
                        continue;
                json_array_append_new(
                    versions, json_pack("{s:o,s:s,s:[{s:s,s:o}]}", "id", json_sprintf("v2.%d", minor),
                                        "status", minor == 9 ? "CURRENT" : "SUPPORTED", "links", "rel",
                                        "self", "href", json_sprintf("%s/v2/", base)));
        }
        return http_reply_json(req, status, reply);
}

int image_on_root(struct http_request *req, void *userdata, struct err *err)
{
        return versions_reply(req, userdata, 300, err);
}

int image_on_versions(struct http_request *req, void *userdata, struct err *err)
{
        return versions_reply(req, userdata, 200, err);
}

/* One line a member: name, JSON type, may it be null, may callers write it, what the help says. */
static const struct member {
        const char *name, *type, *help;
        bool null, read_only;
} members[] = {
    {"id", "string", "An identifier for the image", false, false},
    {"name", "string", "Descriptive name for the image", true, false},
    {"status", "string", "Status of the image", false, true},
    {"visibility", "string", "Scope of image accessibility", false, false},
    {"protected", "boolean", "If true, image will not be deletable.", false, false},
    {"os_hidden", "boolean", "If true, image will not appear in default image list response.", false, false},
    {"checksum", "string", "Not computed here; see os_hash_value", true, true},
    {"os_hash_algo", "string", "Algorithm to calculate the os_hash_value", true, true},
    {"os_hash_value", "string", "Hexdigest of the image contents", true, true},
    {"owner", "string", "Owner of the image", true, false},
    {"size", "integer", "Size of image file in bytes", true, true},
    {"virtual_size", "integer", "Virtual size of image in bytes", true, true},
    {"container_format", "string", "Format of the container", true, false},
    {"disk_format", "string", "Format of the disk", true, false},
    {"created_at", "string", "Date and time of image registration", false, true},
    {"updated_at", "string", "Date and time of the last image modification", false, true},
    {"tags", "array", "List of strings related to the image", false, false},
    {"direct_url", "string", "URL to access the image file kept in external store", false, true},
    {"min_ram", "integer", "Amount of ram (in MB) required to boot image.", false, false},
    {"min_disk", "integer", "Amount of disk space (in GB) required to boot image.", false, false},
    {"self", "string", "An image self url", false, true},
    {"file", "string", "An image file url", false, true},
    {"schema", "string", "An image schema url", false, true},
    {"locations", "array", "A set of URLs to access the image file kept in external store", false, true},
    {"import", "object", "The bytes that are arriving: done and total", true, true},
    {"import_error", "string", "Why the last import failed", true, true},
    {"detected", "object", "The system that was found on it, whatever its properties say", true, true},
    {"source_format", "string", "The format that the image came in", false, true},
    {"deleted_at", "string", "Since when the image is deleted and can still be undeleted", false, true},
};

static void enum_set(json_t *properties, const char *name, json_t *words)
{
        json_object_set_new(json_object_get(properties, name), "enum", words);
}

static json_t *image_schema(void)
{
        json_t *properties = json_object(), *formats = json_pack("[n]");

        for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
                const struct member *m = &members[i];
                json_t *p = json_pack("{s:o,s:s}", "type",
                                      m->null ? json_pack("[s,s]", "null", m->type) : json_string(m->type),
                                      "description", m->help);

                if (m->read_only)
                        json_object_set_new(p, "readOnly", json_true());
                json_object_set_new(properties, m->name, p);
        }
        enum_set(properties, "visibility",
                 json_pack("[s,s,s,s]", "community", "public", "private", "shared"));
        enum_set(properties, "status",
                 json_pack("[s,s,s,s,s,s,s,s,s]", "queued", "saving", "active", "killed", "deleted",
                           "uploading", "importing", "pending_delete", "deactivated"));
        for (int f = 0; f < IMAGE_FORMAT_MAX; f++)
                json_array_append_new(formats, json_string(image_format_name((enum image_format)f)));
        enum_set(properties, "disk_format", formats);
        enum_set(properties, "container_format", json_pack("[n,s]", "bare"));
        json_object_set_new(json_object_get(properties, "tags"), "items",
                            json_pack("{s:s,s:i}", "type", "string", "maxLength", 255));
        json_object_set_new(json_object_get(properties, "locations"), "items",
                            json_pack("{s:s}", "type", "object"));
        return json_pack("{s:s,s:o,s:{s:s},s:[{s:s,s:s},{s:s,s:s},{s:s,s:s}]}", "name", "image",
                         "properties", properties, "additionalProperties", "type", "string", "links", "rel",
                         "self", "href", "{self}", "rel", "enclosure", "href", "{file}", "rel",
                         "describedby", "href", "{schema}");
}

static json_t *member_schema(void)
{
        return json_pack("{s:s,s:{s:{s:s},s:{s:s},s:{s:s},s:{s:s},s:{s:s,s:[s,s,s]},s:{s:s}}}", "name",
                         "member", "properties", "member_id", "type", "string", "image_id", "type", "string",
                         "created_at", "type", "string", "updated_at", "type", "string", "status", "type",
                         "string", "enum", "pending", "accepted", "rejected", "schema", "type", "string");
}

static json_t *list_schema(const char *name, json_t *item)
{
        return json_pack("{s:s,s:{s:{s:s,s:o},s:{s:s},s:{s:s},s:{s:s}}}", "name", name, "properties", name,
                         "type", "array", "items", item, "first", "type", "string", "next", "type", "string",
                         "schema", "type", "string");
}

int image_on_schema(struct http_request *req, void *userdata, struct err *err)
{
        const char *name = http_param(req, "name");
        _cleanup_(json_decrefpp) json_t *schema = NULL;

        if (streq(name, "image"))
                schema = image_schema();
        else if (streq(name, "images"))
                schema = list_schema("images", image_schema());
        else if (streq(name, "member"))
                schema = member_schema();
        else if (streq(name, "members"))
                schema = list_schema("members", member_schema());
        else
                return err_set(err, -ENOENT, "schema %s: image, images, member and members are there", name);
        return schema ? http_reply_json(req, 200, schema) : err_set(err, -ENOMEM, "out of memory");
}

int image_on_info_import(struct http_request *req, void *userdata, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *reply =
            json_pack("{s:{s:s,s:s,s:[s,s]}}", "import-methods", "description", "Import methods available.",
                      "type", "array", "value", "glance-direct", "web-download");

        return http_reply_json(req, 200, reply);
}

/* GET /v2/info/usage, in MiB as the API has it; -1: no limit */
int image_on_info_usage(struct http_request *req, void *userdata, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *reply = NULL;
        struct quota q;
        int r = quota_get(userdata, caller_of(req)->id, &q, err);

        if (r < 0)
                return r;
        reply = json_pack("{s:{s:{s:I,s:I}}}", "usage", "image_size_total", "limit",
                          q.limit == UINT64_MAX ? (json_int_t)-1 : (json_int_t)(q.limit >> 20), "usage",
                          (json_int_t)(q.used >> 20));
        return http_reply_json(req, 200, reply);
}
