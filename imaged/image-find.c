/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "imaged/image.h"

struct find {
        const struct caller *caller;
        const char *text; /* the name; an alias's version */
        bool any;
        const char *os;

        unsigned n, near; /* near: of those that have the name, one's own and the public ones */
        char ids[256];    /* of those that have the name */
        char id[UUID_LEN + 1];
        char version[64], created[25]; /* of the best so far */
};

static bool near(const struct caller *c, const struct cataloged *e)
{
        return e->visibility == VISIBILITY_PUBLIC || streq(e->owner, c->id);
}

static int named_one(void *arg, const struct cataloged *e)
{
        struct find *f = arg;
        size_t used = strlen(f->ids);

        if (!streq(e->name, f->text) || e->deleted || (!f->any && !e->active) ||
            !image_cataloged_visible(f->caller, e))
                return 0;
        f->n++;
        f->near += near(f->caller, e);
        snprintf(f->ids + used, sizeof(f->ids) - used, " %s", e->id);
        memcpy(f->id, e->id, sizeof(f->id));
        return 0;
}

/* "12" is 12, and 12.5 too. */
static bool version_fits(const char *version, const char *wanted)
{
        size_t n = strlen(wanted);

        return streq(wanted, "latest") ||
               (strncmp(version, wanted, n) == 0 && (version[n] == '\0' || version[n] == '.'));
}

static int alias_one(void *arg, const struct cataloged *e)
{
        struct find *f = arg;
        int order;

        if (!e->active || e->hidden || !streq(e->os, f->os) || !version_fits(e->os_version, f->text) ||
            !near(f->caller, e))
                return 0;
        order = f->n == 0 ? 1 : strverscmp(e->os_version, f->version);
        if (order == 0)
                order = strcmp(e->created, f->created);
        if (order > 0) {
                memcpy(f->id, e->id, sizeof(f->id));
                snprintf(f->version, sizeof(f->version), "%s", e->os_version);
                snprintf(f->created, sizeof(f->created), "%s", e->created);
        }
        f->n++;
        return 0;
}

static int find_alias(struct imaged *im, struct find *f, struct err *err)
{
        const char *colon = strrchr(f->text, ':');
        _cleanup_(freep) char *os = colon ? strndup(f->text, (size_t)(colon - f->text)) : NULL;

        if (!os || !os[0] || !colon[1])
                return 0;
        f->os = os;
        f->text = colon + 1;
        return catalog_each(im->catalog, 1000, alias_one, f, err);
}

/* What others have named like an alias does not hide it: who runs debian:12 is not to get a stranger's. */
static int find_text(struct imaged *im, struct find *f, struct err *err)
{
        struct find alias = {.caller = f->caller, .text = f->text};
        int r = catalog_each(im->catalog, 1000, named_one, f, err);

        if (r == 0 && f->near == 0)
                r = find_alias(im, &alias, err);
        if (r == 0 && alias.n > 0)
                *f = alias;
        else if (r == 0 && f->n > 1)
                return err_set(err, -EINVAL, "%u images have the name \"%s\"; give the id of one:%s", f->n,
                               f->text, f->ids);
        return r;
}

int image_find(struct imaged *im, const struct caller *c, const char *text, bool any, json_t **ret,
               struct err *err)
{
        struct find f = {.caller = c, .text = text, .any = any};
        _cleanup_(json_decrefpp) json_t *record = NULL;
        const char *status;
        int r = 0;

        if (uuid_valid(text))
                memcpy(f.id, text, sizeof(f.id));
        else
                r = find_text(im, &f, err);
        if (r == 0)
                r = f.id[0] ? records_load(im->store, RECORD_IMAGE, f.id, &record, NULL, err) : -ENOENT;
        if (r < 0 && r != -ENOENT)
                return r;
        status = json_get_str(record, "status", "");
        if (r == -ENOENT || !image_visible(c, record) || streq(status, "pending_delete") ||
            streq(status, "deleted"))
                return err_set(err, -ENOENT, "no %simage has the id, the name or the alias %s",
                               any ? "" : "active ", text);
        *ret = take(record);
        return 0;
}

int image_on_find(struct http_request *req, void *userdata, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *record = NULL, *view = NULL;
        const char *name = http_param(req, "name");
        int r;

        if (!name)
                name = http_query(req, "name");
        if (!name)
                return err_set(err, -EINVAL, "name is missing: /v1/images/NAME or /v1/images?name=NAME");
        r = image_find(userdata, caller_of(req), name, true, &record, err);
        if (r < 0)
                return r;
        view = image_view(record);
        return http_reply_json(req, 200, view);
}
