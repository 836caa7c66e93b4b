/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "common/json.h"
#include "formats/formats.h"
#include "imaged/image.h"

static bool one_of(const char *word, const char *const *words, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                if (streq(word, words[i]))
                        return true;
        }
        return false;
}
#define ONE_OF(word, words) one_of(word, words, ARRAY_SIZE(words))

/* What the API itself, or this service, keeps in a record; callers never write it. */
static const char *const read_only[] = {
    "status",     "size",         "virtual_size",  "checksum",      "created_at", "updated_at",
    "deleted_at", "os_hash_algo", "os_hash_value", "self",          "file",       "schema",
    "import",     "direct_url",   "import_error",  "source_format", "locations",  "members",
    "staged",     "stores",       "status_before", "manifest",      "detected"};
static const char *const writable[] = {"id",         "name",      "disk_format", "container_format",
                                       "visibility", "protected", "os_hidden",   "min_disk",
                                       "min_ram",    "owner",     "tags"};
static const char *const nullable[] = {"name", "disk_format", "container_format", "owner"};

bool image_is_base(const char *key)
{
        return ONE_OF(key, read_only) || ONE_OF(key, writable);
}

static int check_tags(const json_t *tags, struct err *err)
{
        const json_t *tag;
        size_t i;

        if (!json_is_array(tags))
                return err_set(err, -EINVAL, "tags is not a list");
        if (json_array_size(tags) > IMAGE_TAGS_MAX)
                return err_set(err, -EFBIG, "there are %zu tags, the limit is %d", json_array_size(tags),
                               IMAGE_TAGS_MAX);
        json_array_foreach ((json_t *)tags, i, tag) {
                if (!json_is_string(tag))
                        return err_set(err, -EINVAL, "tag %zu is not a string", i);
                if (json_string_length(tag) == 0 || json_string_length(tag) > 255)
                        return err_set(err, -EINVAL, "tag %zu has %zu bytes; 1 to 255 are possible", i,
                                       json_string_length(tag));
        }
        return 0;
}

json_t *image_tags(const json_t *tags)
{
        json_t *once = json_array(), *tag, *other;
        size_t i, k;

        json_array_foreach ((json_t *)tags, i, tag) {
                bool new = true;

                json_array_foreach (once, k, other)
                        new = new && !json_equal(tag, other);
                if (new)
                        json_array_append(once, tag);
        }
        return once;
}

int image_check_member(const char *key, const json_t *value, struct err *err)
{
        size_t n = strlen(key), limit;

        if (ONE_OF(key, read_only))
                return err_set(err, -EACCES, "%s is read-only", key);
        if (strncmp(key, "os_glance_", 10) == 0)
                return err_set(err, -EACCES, "%s: names that begin with os_glance_ are reserved", key);
        if (n == 0 || n > 255)
                return err_set(err, -EINVAL, "a property's name has %zu bytes; 1 to 255 are possible", n);
        if (streq(key, "tags"))
                return check_tags(value, err);
        if (streq(key, "protected") || streq(key, "os_hidden"))
                return json_is_boolean(value) ? 0
                                              : err_set(err, -EINVAL, "%s is neither true nor false", key);
        if (streq(key, "min_disk") || streq(key, "min_ram"))
                return json_is_integer(value) && json_integer_value(value) >= 0 &&
                               json_integer_value(value) <= INT32_MAX
                           ? 0
                           : err_set(err, -EINVAL, "%s is not a whole number from 0 to %d", key, INT32_MAX);
        if (json_is_null(value) && ONE_OF(key, nullable))
                return 0;
        if (!json_is_string(value))
                return err_set(err, -EINVAL, "%s is not a string%s", key,
                               ONE_OF(key, writable) ? "" : "; properties are");
        limit = streq(key, "name") ? 255 : IMAGE_PROPERTY_MAX;
        if (json_string_length(value) > limit)
                return err_set(err, -EINVAL, "%s has %zu bytes, the limit is %zu", key,
                               json_string_length(value), limit);
        return 0;
}

static int check_words(const json_t *record, struct err *err)
{
        static const char *const visibilities[] = {"public", "private", "shared", "community"};
        const char *word = json_get_str(record, "disk_format", NULL);

        if (word && image_format_parse(word) < 0)
                return err_set(
                    err, -EINVAL,
                    "disk_format \"%s\": raw, qcow2, iso, vmdk, vdi, vhd, vhdx and ova are possible", word);
        word = json_get_str(record, "container_format", NULL);
        if (word && !streq(word, "bare"))
                return err_set(err, -EINVAL, "container_format \"%s\": bare is possible", word);
        word = json_get_str(record, "visibility", "shared");
        if (!ONE_OF(word, visibilities))
                return err_set(err, -EINVAL,
                               "visibility \"%s\": public, private, shared and community are possible",
                               word);
        if (json_object_get(record, "id") && !uuid_valid(json_get_str(record, "id", "")))
                return err_set(err, -EINVAL, "id \"%s\" is not a UUID in lower case",
                               json_get_str(record, "id", "(not a string)"));
        return 0;
}

int image_check_record(const struct caller *c, const json_t *before, const json_t *record, struct err *err)
{
        const char *owner = json_get_str(record, "owner", NULL), *key;
        _cleanup_(freep) char *text = NULL;
        unsigned properties = 0;
        json_t *value;
        int r = check_words(record, err);

        if (r < 0)
                return r;
        json_object_foreach ((json_t *)record, key, value)
                properties += !image_is_base(key);
        if (properties > IMAGE_PROPERTIES_MAX)
                return err_set(err, -EFBIG, "there are %u properties, the limit is %d", properties,
                               IMAGE_PROPERTIES_MAX);
        text = json_text(record);
        if (!text)
                return err_set(err, -ENOMEM, "out of memory");
        if (strlen(text) > IMAGE_TEXT_MAX)
                return err_set(err, -EFBIG,
                               "name, tags and properties have %zu bytes in all, the limit is %d",
                               strlen(text), IMAGE_TEXT_MAX);
        if (owner && strlen(owner) > UUID_LEN)
                return err_set(err, -EINVAL, "owner has %zu bytes, the limit is %d", strlen(owner),
                               UUID_LEN);
        if (c->admin)
                return 0;
        if (json_object_get(record, "owner") && !streq(owner, c->id) &&
            !streq(owner, json_get_str(before, "owner", NULL)))
                return err_set(err, -EACCES, "owner: only administrators make images of others");
        if (streq(json_get_str(record, "visibility", NULL), "public") &&
            !streq(json_get_str(before, "visibility", NULL), "public"))
                return err_set(err, -EACCES, "visibility: only administrators make images public");
        return 0;
}
