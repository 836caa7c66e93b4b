/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/engine.h"

#include <errno.h>
#include <string.h>

#include "imaged/store/store-call.h"

static const char *const kind_names[RECORD_KIND_MAX] = {
    [RECORD_IMAGE] = "image",       [RECORD_INSTANCE] = "instance", [RECORD_HOST] = "host",
    [RECORD_NETWORK] = "network",   [RECORD_ACCOUNT] = "account",   [RECORD_EVENT] = "event",
    [RECORD_MANIFEST] = "manifest",
};

const char *record_kind_name(enum record_kind k)
{
        return (unsigned)k < RECORD_KIND_MAX ? kind_names[k] : NULL;
}

static int check_record(struct store *s, enum record_kind kind, const char *id, struct err *err)
{
        if (!record_kind_name(kind))
                return err_set(err, -EINVAL, "record kind %u: there is none", (unsigned)kind);
        if (!store_id_valid(id))
                return err_set(err, -EINVAL, "%s id \"%.80s\": not 1 to %d characters of A-Z a-z 0-9 _ -",
                               record_kind_name(kind), id ? id : "", STORE_ID_MAX);
        if (!s->engine->records)
                return err_set(err, -EOPNOTSUPP, "%s: the engine keeps no records", s->url);
        return 0;
}

int record_get(struct store *s, enum record_kind kind, const char *id, char **ret_text,
               uint64_t *ret_version, struct err *err)
{
        uint64_t version;
        int r = check_record(s, kind, id, err);

        if (r < 0)
                return r;
        return ENGINE_CALL(
            err, s->engine->records->get(s, kind, id, ret_text, ret_version ? ret_version : &version, &own));
}

int record_put(struct store *s, enum record_kind kind, const char *id, uint64_t expected, const char *text,
               uint64_t *ret_version, struct err *err)
{
        uint64_t version;
        int r = check_record(s, kind, id, err);

        if (r < 0)
                return r;
        if (text && strlen(text) > RECORD_MAX)
                return err_set(err, -EINVAL, "%s %s: %zu bytes, limit %d", record_kind_name(kind), id,
                               strlen(text), RECORD_MAX);
        if (text && !*text)
                return err_set(err, -EINVAL, "%s %s: an empty text is no document", record_kind_name(kind),
                               id);
        return ENGINE_CALL(err, s->engine->records->put(s, kind, id, expected, text,
                                                        ret_version ? ret_version : &version, &own));
}

int record_list(struct store *s, enum record_kind kind, record_cb cb, void *arg, struct err *err)
{
        int r = check_record(s, kind, "list", err);

        return r < 0 ? r : ENGINE_CALL(err, s->engine->records->list(s, kind, cb, arg, &own));
}

int beat_write(struct store *s, unsigned host, uint64_t counter, struct err *err)
{
        if (!s->engine->records || !s->engine->records->beat_write)
                return err_set(err, -EOPNOTSUPP, "%s: the engine keeps no heartbeats", s->url);
        return ENGINE_CALL(err, s->engine->records->beat_write(s, host, counter, &own));
}

int beat_read(struct store *s, unsigned host, uint64_t *ret_counter, struct err *err)
{
        if (!s->engine->records || !s->engine->records->beat_read)
                return err_set(err, -EOPNOTSUPP, "%s: the engine keeps no heartbeats", s->url);
        return ENGINE_CALL(err, s->engine->records->beat_read(s, host, ret_counter, &own));
}
