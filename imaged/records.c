/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/records.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "common/json.h"
#include "common/log.h"

/* Many writers may want one record (the network's): each round one of them wins. */
#define CHANGE_TRIES 200

int records_code(int r)
{
        return r == -EPERM || r == -EACCES ? -EIO : r;
}

int records_wrap(struct err *err, int r, const char *what, const char *id)
{
        size_t n = strlen(what), n_id = strlen(id);
        const char *text = err_text(err);

        if (strncmp(text, what, n) == 0 && text[n] == ' ' && strncmp(text + n + 1, id, n_id) == 0)
                return records_code(r);
        return err_wrap(err, records_code(r), "%s %s", what, id);
}

int records_load(struct store *s, enum record_kind kind, const char *id, json_t **ret, uint64_t *ret_version,
                 struct err *err)
{
        _cleanup_(freep) char *text = NULL;
        uint64_t version = 0;
        int r;

        r = record_get(s, kind, id, &text, &version, err);
        if (r < 0)
                return records_wrap(err, r, record_kind_name(kind), id);
        r = json_parse(text, id, ret, err);
        if (r < 0) /* what lies in the store is not the caller's fault */
                return err_wrap(err, -EIO, "%s record", record_kind_name(kind));
        if (ret_version)
                *ret_version = version;
        return 0;
}

int records_save(struct store *s, enum record_kind kind, const char *id, uint64_t expected,
                 const json_t *record, uint64_t *ret_version, struct err *err)
{
        _cleanup_(freep) char *text = record ? json_text(record) : NULL;
        uint64_t version = 0;
        int r;

        if (record && !text)
                return err_set(err, -ENOMEM, "%s %s: out of memory", record_kind_name(kind), id);
        r = record_put(s, kind, id, expected, text, &version, err);
        if (r < 0)
                return records_wrap(err, r, record_kind_name(kind), id);
        if (ret_version)
                *ret_version = version;
        return 0;
}

int records_change(struct store *s, enum record_kind kind, const char *id, records_change_cb change,
                   void *arg, json_t **ret, struct err *err)
{
        for (int i = 0; i < CHANGE_TRIES; i++) {
                _cleanup_(json_decrefpp) json_t *record = NULL;
                struct err lost = {0};
                uint64_t version;
                int r;

                r = records_load(s, kind, id, &record, &version, err);
                if (r < 0)
                        return r;
                r = change(record, arg, err);
                if (r < 0)
                        return r;
                if (r == 0)
                        r = records_save(s, kind, id, version, record, NULL, &lost);
                if (r >= 0) {
                        if (ret)
                                *ret = take(record);
                        return 0;
                }
                if (r != -ESTALE) {
                        if (err)
                                *err = lost;
                        return r;
                }
                poll(NULL, 0,
                     (int)(random_u64() % 10)); /* so that the losers of one round do not meet again */
        }
        return err_set(err, -EBUSY, "%s %s: %d other writers were first; try again", record_kind_name(kind),
                       id, CHANGE_TRIES);
}

struct each {
        enum record_kind kind;
        records_cb cb;
        void *arg;
};

static int each_one(void *arg, const char *id, uint64_t version, const char *text)
{
        struct each *e = arg;
        _cleanup_(json_decrefpp) json_t *record = NULL;
        struct err err = {0};

        if (json_parse(text, id, &record, &err) < 0) {
                log_warn("%s record: %s", record_kind_name(e->kind), err_text(&err));
                return 0;
        }
        return e->cb(e->arg, id, version, record);
}

int records_each(struct store *s, enum record_kind kind, records_cb cb, void *arg, struct err *err)
{
        struct each e = {.kind = kind, .cb = cb, .arg = arg};
        int r = record_list(s, kind, each_one, &e, err);

        return r < 0 ? err_wrap(err, records_code(r), "list of %ss", record_kind_name(kind)) : r;
}
