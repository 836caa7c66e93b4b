/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "hostd/manager.h"
#include "hostd/record.h"

struct verdict {
        bool ok;
        const char *text;
};

static int edit_fence(json_t *doc, void *arg, struct err *err)
{
        const struct verdict *v = arg;
        char stamp[CLOCK_STAMP_LEN + 1];
        json_t *fence = json_pack("{s:b,s:s,s:s}", "ok", v->ok, "text", v->text, "at", clock_stamp(stamp));

        if (!fence)
                return err_set(err, -ENOMEM, "out of memory");
        json_object_set_new(doc, "fence", fence);
        return 1;
}

static void fence_record(struct manager *m, bool ok, const char *text)
{
        struct verdict v = {.ok = ok, .text = text};
        struct err e = {0};
        char id[12];

        snprintf(id, sizeof(id), "%u", m->number);
        if (record_change(m->store, RECORD_HOST, id, edit_fence, &v, &e) < 0)
                log_warn("host %s: the verdict on the fence is not recorded: %s", m->config->name,
                         err_text(&e));
}

static int finding_add(void *arg, const struct store_finding *f)
{
        json_t *j = json_pack("{s:s,s:s,s:s}", "code", f->code, "text", f->text, "advice", f->advice);

        return json_array_append_new(arg, j) < 0 ? -ENOMEM : 0;
}

int fence_findings(struct manager *m, json_t *list, struct err *err)
{
        return store_diagnose_host(m->store, finding_add, list, err);
}

static int finding_log(void *arg, const struct store_finding *f)
{
        const struct manager *m = arg;

        log_warn("host %s: %s; what to do: %s", m->config->name, f->text, f->advice);
        return 0;
}

int fence_test(struct manager *m, char ret_text[FENCE_TEXT])
{
        struct err e = {0};
        int before, r;

        pthread_mutex_lock(&m->fence_lock);
        before = m->fence;
        r = store_selftest(m->store, &e);
        if (r > 0)
                snprintf(ret_text, FENCE_TEXT, "the store's fence holds");
        else
                snprintf(ret_text, FENCE_TEXT, "%s%.440s", r < 0 ? "it could not be tried: " : "",
                         err_text(&e));
        if (r >= 0)
                m->fence = r;
        if (r > 0)
                log_info("host %s: the store's fence holds", m->config->name);
        else if (r == 0 && before != 0)
                event_add(m, "fence-failed", NULL, NULL,
                          "the store's fence does not hold, so this host fails nobody over: %s", ret_text);
        else if (r < 0)
                log_warn("host %s: the store's fence: %s", m->config->name, ret_text);
        if (r > 0 && before == 0)
                event_add(m, "fence-holds", NULL, NULL, "the store's fence holds again: failover is on");
        if (r >= 0 && before < 0) /* once */
                store_diagnose_host(m->store, finding_log, m, NULL);
        if (r >= 0 || before < 0)
                fence_record(m, r > 0, ret_text);
        pthread_mutex_unlock(&m->fence_lock);
        return r;
}
