/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/spec.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "common/json.h"
#include "common/util.h"

#define ULL(v) ((unsigned long long)(v))
#define KEY_MAX (16 * 1024)

int spec_name_check(const char *what, const char *name, struct err *err)
{
        size_t n = strlen(name);

        if (n == 0 || n > 63)
                return err_set(err, -EINVAL, "%s \"%.80s\" has %zu characters; 1 to 63 are possible", what,
                               name, n);
        for (size_t i = 0; i < n; i++) {
                bool letter = (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9');

                if (!letter && (name[i] != '-' || i == 0))
                        return err_set(err, -EINVAL,
                                       "%s \"%s\": character %zu; a to z, 0 to 9 and, not at the begin, - "
                                       "are possible",
                                       what, name, i + 1);
        }
        if (uuid_valid(name))
                return err_set(err, -EINVAL, "%s \"%s\" looks like an id", what, name);
        return 0;
}

/* Decodes just the begin of base64: the key's own type, which has to be the one that stands before it. */
static size_t base64_begin(const char *text, size_t len, uint8_t *ret, size_t room)
{
        static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        uint32_t bits = 0;
        size_t n = 0;
        int have = 0;

        for (size_t i = 0; i < len && n < room; i++) {
                const char *d = strchr(digits, text[i]);

                bits = bits << 6 | (uint32_t)(d - digits);
                have += 6;
                if (have >= 8) {
                        have -= 8;
                        ret[n++] = (uint8_t)(bits >> have);
                }
        }
        return n;
}

int spec_key_check(const char *key, struct err *err)
{
        static const char *const types[] = {"ssh-ed25519",
                                            "ssh-rsa",
                                            "ecdsa-sha2-nistp256",
                                            "ecdsa-sha2-nistp384",
                                            "ecdsa-sha2-nistp521",
                                            "sk-ssh-ed25519@openssh.com",
                                            "sk-ecdsa-sha2-nistp256@openssh.com"};
        size_t n_type = strcspn(key, " "), n_blob, blob_type;
        const char *blob = key + n_type + (key[n_type] == ' '), *type = NULL;
        uint8_t begin[64];

        if (strlen(key) > KEY_MAX)
                return err_set(err, -EINVAL, "an SSH key has %zu characters, the limit is %d", strlen(key),
                               KEY_MAX);
        for (const char *p = key; *p; p++) {
                if (iscntrl((unsigned char)*p))
                        return err_set(err, -EINVAL,
                                       "SSH key \"%.30s...\": control character at position %zu", key,
                                       (size_t)(p - key) + 1);
        }
        for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
                if (strlen(types[i]) == n_type && memcmp(types[i], key, n_type) == 0)
                        type = types[i];
        }
        if (!type)
                return err_set(err, -EINVAL,
                               "SSH key \"%.40s\": its first word is no key type; give one line of a .pub "
                               "file, such as "
                               "\"ssh-ed25519 AAAA...\"",
                               key);
        n_blob = strspn(blob, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
        blob_type = base64_begin(blob, n_blob, begin, sizeof(begin));
        blob += n_blob;
        blob += strspn(blob, "=");
        if (n_blob < 64 || (*blob && *blob != ' ') || blob_type < 4 + n_type || begin[3] != n_type ||
            memcmp(begin + 4, type, n_type) != 0)
                return err_set(err, -EINVAL, "SSH key \"%.40s...\": its second word is not a whole %s key",
                               key, type);
        return 0;
}

static int keys_check(const json_t *keys, struct err *err)
{
        const json_t *key;
        size_t i;

        if (!keys)
                return 0;
        if (!json_is_array(keys))
                return err_set(err, -EINVAL, "ssh_keys is not a list");
        if (json_array_size(keys) > SPEC_KEYS_MAX)
                return err_set(err, -EINVAL, "ssh_keys has %zu keys, the limit is %d", json_array_size(keys),
                               SPEC_KEYS_MAX);
        json_array_foreach ((json_t *)keys, i, key) {
                int r = json_is_string(key)
                            ? spec_key_check(json_string_value(key), err)
                            : err_set(err, -EINVAL, "ssh_keys: entry %zu is not a string", i + 1);

                if (r < 0)
                        return r;
        }
        return 0;
}

static int number(const json_t *body, const char *key, int64_t missing, int64_t min, int64_t max,
                  int64_t *ret, struct err *err)
{
        const json_t *v = json_object_get(body, key);

        *ret = json_is_integer(v) ? json_integer_value(v) : missing;
        if (v && !json_is_null(v) && !json_is_integer(v))
                return err_set(err, -EINVAL, "%s is not a whole number", key);
        if (*ret < min || *ret > max)
                return err_set(err, -EINVAL, "%s is %lld; %lld to %lld are possible", key, (long long)*ret,
                               (long long)min, (long long)max);
        return 0;
}

static int text(const json_t *body, const char *key, const char **ret, struct err *err)
{
        const json_t *v = json_object_get(body, key);

        *ret = json_string_value(v);
        if (v && !json_is_null(v) && !json_is_string(v))
                return err_set(err, -EINVAL, "%s is not a string", key);
        return 0;
}

static int members_check(const json_t *body, struct err *err)
{
        static const char *const members[] = {"name",     "image",     "iso",      "cpus", "memory", "disk",
                                              "ssh_keys", "user_data", "priority", "host", "group"};
        const char *key;
        json_t *value;

        if (!json_is_object(body))
                return err_set(err, -EINVAL, "the body is not a JSON object");
        json_object_foreach ((json_t *)body, key, value) {
                bool known = false;

                for (size_t i = 0; i < ARRAY_SIZE(members); i++)
                        known = known || streq(members[i], key);
                if (!known)
                        return err_set(
                            err, -EINVAL,
                            "\"%.80s\" is not known; name, image, iso, cpus, memory, disk, ssh_keys, "
                            "user_data, priority, group and host are",
                            key);
        }
        return 0;
}

static int texts_parse(const json_t *body, struct spec *ret, struct err *err)
{
        int r;

        r = text(body, "name", &ret->name, err);
        if (r == 0)
                r = text(body, "image", &ret->image, err);
        if (r == 0)
                r = text(body, "iso", &ret->iso, err);
        if (r == 0)
                r = text(body, "user_data", &ret->user_data, err);
        if (r == 0)
                r = text(body, "group", &ret->group, err);
        if (r < 0)
                return r;
        if (!ret->name)
                return err_set(err, -EINVAL, "name is missing");
        r = spec_name_check("name", ret->name, err);
        if (r == 0 && ret->group)
                r = spec_name_check("group", ret->group, err);
        if (r == 0 && !ret->image == !ret->iso)
                r = err_set(err, -EINVAL,
                            ret->image ? "image and iso are both given; one of them is needed"
                                       : "image or iso is missing");
        if (r == 0 && ret->user_data && strlen(ret->user_data) > SPEC_USER_DATA_MAX)
                r = err_set(err, -EINVAL, "user_data has %zu bytes, the limit is %d", strlen(ret->user_data),
                            SPEC_USER_DATA_MAX);
        return r;
}

int spec_parse(const json_t *body, struct spec *ret, struct err *err)
{
        int64_t cpus = 1, memory = 0, disk = 0, priority = 0;
        int r;

        *ret = (struct spec){0};
        r = members_check(body, err);
        if (r == 0)
                r = texts_parse(body, ret, err);
        if (r == 0)
                r = number(body, "cpus", 1, 1, SPEC_CPUS_MAX, &cpus, err);
        if (r == 0)
                r = number(body, "memory", 512LL << 20, SPEC_MEMORY_MIN, SPEC_MEMORY_MAX, &memory, err);
        if (r == 0)
                r = number(body, "disk", 0, 0, SPEC_DISK_MAX, &disk, err);
        if (r == 0)
                r = number(body, "priority", 0, -1000, 1000, &priority, err);
        if (r == 0)
                r = keys_check(json_object_get(body, "ssh_keys"), err);
        if (r < 0)
                return r;
        if (disk == 0 && ret->iso)
                return err_set(
                    err, -EINVAL,
                    "disk is missing; an instance that starts from an ISO needs its size in bytes");
        if (disk != 0 && (uint64_t)disk < SPEC_DISK_MIN)
                return err_set(err, -EINVAL, "disk is %lld; %llu to %llu bytes are possible",
                               (long long)disk, SPEC_DISK_MIN, SPEC_DISK_MAX);
        ret->host = json_object_get(body, "host");
        if (json_is_null(ret->host))
                ret->host = NULL;
        if (ret->host && !json_is_integer(ret->host) && !json_is_string(ret->host))
                return err_set(err, -EINVAL, "host is neither a number nor a name");
        ret->cpus = (unsigned)cpus;
        ret->memory = (uint64_t)memory;
        ret->disk = ((uint64_t)disk + 511) / 512 * 512;
        ret->priority = (int)priority;
        ret->ssh_keys = json_object_get(body, "ssh_keys");
        return 0;
}
