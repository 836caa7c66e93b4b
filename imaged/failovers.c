/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/failovers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/log.h"
#include "imaged/hosts.h"
#include "imaged/records.h"

struct search {
        const char *since; /* or NULL */
        unsigned host;     /* 0: any */
        json_t **found;
        size_t n, room;
};

static int add(struct search *s, const json_t *record, const json_t *receipt)
{
        json_t *copy;

        if (s->since && strcmp(json_get_str(receipt, "at", ""), s->since) < 0)
                return 0;
        if (s->host && json_get_int(receipt, "from", 0) != s->host &&
            json_get_int(receipt, "to", 0) != s->host)
                return 0;
        if (s->n == s->room) {
                void *more = reallocarray(s->found, s->room * 2 + 64, sizeof(*s->found));

                if (!more)
                        return -ENOMEM;
                s->found = more;
                s->room = s->room * 2 + 64;
        }
        copy = json_deep_copy(receipt);
        if (!copy)
                return -ENOMEM;
        json_object_set(copy, "id", json_object_get(record, "id"));
        json_object_set(copy, "name", json_object_get(record, "name"));
        s->found[s->n++] = copy;
        return 0;
}

/* Most instances never failed over: their records are not parsed. Every receipt tells its phases. */
static int look_one(void *arg, const char *id, uint64_t version, const char *text)
{
        _cleanup_(json_decrefpp) json_t *record = NULL;
        const json_t *receipt;
        size_t i;
        int r = 0;

        if (!strstr(text, "\"phases\"") || json_parse(text, id, &record, NULL) < 0)
                return 0;
        json_array_foreach (json_object_get(record, "receipts"), i, receipt) {
                if (r == 0)
                        r = add(arg, record, receipt);
        }
        return r;
}

static int by_time(const void *a, const void *b)
{
        const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
        int r = strcmp(json_get_str(x, "at", ""), json_get_str(y, "at", ""));

        return r ? r : strcmp(json_get_str(x, "id", ""), json_get_str(y, "id", ""));
}

int failovers_on_list(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        struct search s = {.since = http_query(req, "since")};
        const char *host = http_query(req, "host");
        _cleanup_(json_decrefpp) json_t *reply = json_pack("{s:[]}", "failovers");
        int r = host ? hosts_number(im->hosts, host, &s.host, err) : 0;

        if (r == 0) {
                r = record_list(im->store, RECORD_INSTANCE, look_one, &s, err);
                if (r < 0)
                        r = err_wrap(err, records_code(r), "list of instances");
        }
        if (r == 0 && s.n)
                qsort(s.found, s.n, sizeof(*s.found), by_time);
        for (size_t i = 0; i < s.n; i++)
                json_array_append_new(json_object_get(reply, "failovers"), s.found[i]);
        free(s.found);
        return r < 0 ? r : http_reply_json(req, 200, reply);
}
