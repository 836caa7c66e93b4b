/* SPDX-License-Identifier: Apache-2.0 */
#include "common/json.h"

#include <errno.h>
#include <string.h>

void json_decrefpp(json_t **j)
{
        json_decref(*j);
}

const char *json_get_str(const json_t *obj, const char *key, const char *missing)
{
        const char *s = json_string_value(json_object_get(obj, key));

        return s ? s : missing;
}

int64_t json_get_int(const json_t *obj, const char *key, int64_t missing)
{
        const json_t *v = json_object_get(obj, key);

        return json_is_integer(v) ? json_integer_value(v) : missing;
}

bool json_get_bool(const json_t *obj, const char *key, bool missing)
{
        const json_t *v = json_object_get(obj, key);

        return json_is_boolean(v) ? json_is_true(v) : missing;
}

json_t *json_path(const json_t *obj, const char *path)
{
        const json_t *at = obj;

        for (;;) {
                size_t n = strcspn(path, ".");
                char key[64];

                if (n >= sizeof(key))
                        return NULL;
                memcpy(key, path, n);
                key[n] = '\0';
                at = json_object_get(at, key);
                if (!at || path[n] == '\0')
                        return (json_t *)at;
                path += n + 1;
        }
}

int json_parse(const char *text, const char *what, json_t **ret, struct err *err)
{
        json_error_t e;
        json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, &e);

        if (!j)
                return err_set(err, -EBADMSG, "%s: not valid JSON, line %d: %s", what, e.line, e.text);
        *ret = j;
        return 0;
}

char *json_text(const json_t *j)
{
        return json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
}
