/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "imaged/account.h"
#include "imaged/catalog.h"
#include "imaged/events.h"
#include "imaged/quota.h"

/* /v1/accounts, for administrators: `wherry account ...`. */

static int list_one(void *arg, json_t *record)
{
        return json_array_append_new(arg, account_view(record)) < 0 ? -ENOMEM : 0;
}

int account_on_list(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        json_t *list = json_array();
        _cleanup_(json_decrefpp) json_t *reply = json_pack("{s:o}", "accounts", list);
        int r = reply ? account_each(im->accounts, list_one, list, err) : -ENOMEM;

        return r < 0 ? r : http_reply_json(req, 200, reply);
}

static int body_check(const json_t *body, struct err *err)
{
        static const char *const known[] = {"name", "password", "role"};
        const json_t *bytes = json_path(body, "quota.image_bytes");
        const char *key;
        json_t *value;

        if (!json_is_object(body))
                return err_set(err, -EINVAL, "the body is not a JSON object");
        json_object_foreach ((json_t *)body, key, value) {
                bool is_string = false;

                for (size_t i = 0; i < ARRAY_SIZE(known); i++)
                        is_string |= streq(key, known[i]);
                if (!is_string && !streq(key, "quota"))
                        return err_set(err, -EINVAL, "%s: name, password, role and quota are possible", key);
                if (is_string && !json_is_string(value))
                        return err_set(err, -EINVAL, "%s is not a string", key);
        }
        if (bytes && !json_is_null(bytes) && !(json_is_integer(bytes) && json_integer_value(bytes) >= 0))
                return err_set(err, -EINVAL, "quota.image_bytes is not a whole number of at least 0");
        return 0;
}

int account_on_create(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        _cleanup_(json_decrefpp) json_t *body = NULL, *record = NULL, *view = NULL;
        const json_t *bytes;
        struct account_new n;
        int r;

        r = http_body_json(req, &body, err);
        if (r == 0)
                r = body_check(body, err);
        if (r < 0)
                return r;
        bytes = json_path(body, "quota.image_bytes");
        n = (struct account_new){.name = json_get_str(body, "name", ""),
                                 .password = json_get_str(body, "password", ""),
                                 .role = json_get_str(body, "role", "member"),
                                 .image_bytes = json_is_integer(bytes) ? bytes : NULL};
        r = account_add(im->accounts, &n, &record, err);
        if (r < 0)
                return r;
        event_post(im->events, &(struct event){.kind = "account-added", .name = n.name, .text = n.role});
        view = account_view(record);
        return http_reply_json(req, 201, view);
}

int account_on_show(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        _cleanup_(json_decrefpp) json_t *record = NULL, *view = NULL;
        int r = account_load(im->accounts, http_param(req, "id"), &record, err);

        if (r < 0)
                return r;
        view = account_view(record);
        return http_reply_json(req, 200, view);
}

int account_on_change(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        _cleanup_(json_decrefpp) json_t *body = NULL, *record = NULL, *now = NULL, *view = NULL;
        struct account_change c = {0};
        int r = http_body_json(req, &body, err);

        if (r == 0)
                r = body_check(body, err);
        if (r < 0)
                return r;
        c.role = json_get_str(body, "role", NULL);
        c.image_bytes = json_path(body, "quota.image_bytes");
        if (json_object_get(body, "name") || json_object_get(body, "password") ||
            (!c.role && !c.image_bytes))
                return err_set(err, -EINVAL, "role and quota.image_bytes can be changed, one at least");
        r = account_load(im->accounts, http_param(req, "id"), &record, err);
        if (r == 0)
                r = account_change(im->accounts, json_get_str(record, "name", ""), &c, &now, err);
        if (r == 0 && json_is_integer(c.image_bytes)) {
                json_decrefpp(&now);
                r = quota_count(im, json_get_str(record, "id", ""), &now, err);
        }
        if (r < 0)
                return r;
        event_post(im->events, &(struct event){.kind = "account-changed",
                                               .name = json_get_str(now, "name", ""),
                                               .text = json_get_str(now, "role", "")});
        view = account_view(now);
        return http_reply_json(req, 200, view);
}

struct owned {
        const char *owner;
        unsigned n, deleted;
        char ids[256]; /* of those that are deleted, as many as fit */
};

static int owned_one(void *arg, const struct cataloged *e)
{
        struct owned *o = arg;

        size_t used = strlen(o->ids);

        if (!streq(e->owner, o->owner))
                return 0;
        o->n++;
        if (e->deleted) {
                o->deleted++;
                snprintf(o->ids + used, sizeof(o->ids) - used, " %s", e->id);
        }
        return 0;
}

int account_on_delete(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        _cleanup_(json_decrefpp) json_t *record = NULL;
        const char *name;
        struct owned o = {0};
        int r = account_load(im->accounts, http_param(req, "id"), &record, err);

        if (r < 0)
                return r;
        name = json_get_str(record, "name", "");
        o.owner = json_get_str(record, "id", "");
        r = catalog_each(im->catalog, 0, owned_one, &o, err);
        if (r == 0 && o.n > 0 && o.n == o.deleted)
                return err_set(
                    err, -EBUSY,
                    "account %s owns %u deleted image%s that can still be undeleted; \"wherry image rm "
                    "--now ID\" removes for good:%s",
                    name, o.n, o.n == 1 ? "" : "s", o.ids);
        if (r == 0 && o.n > 0)
                return err_set(err, -EBUSY, "account %s owns %u image%s; remove %s first", name, o.n,
                               o.n == 1 ? "" : "s", o.n == 1 ? "it" : "them");
        if (r == 0)
                r = account_remove(im->accounts, name, err);
        if (r < 0)
                return r;
        event_post(im->events, &(struct event){.kind = "account-removed", .name = name, .text = o.owner});
        return http_reply_json(req, 204, NULL);
}

int account_on_password(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        _cleanup_(json_decrefpp) json_t *body = NULL, *record = NULL;
        int r = http_body_json(req, &body, err);

        if (r == 0)
                r = body_check(body, err);
        if (r == 0)
                r = account_load(im->accounts, http_param(req, "id"), &record, err);
        if (r == 0)
                r = account_password(im->accounts, json_get_str(record, "name", ""),
                                     json_get_str(body, "password", ""), err);
        return r < 0 ? r : http_reply_json(req, 204, NULL);
}
