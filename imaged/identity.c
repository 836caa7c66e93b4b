/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/identity.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "common/json.h"
#include "imaged/auth.h"

/*
 * Source: https://docs.openstack.org/api-ref/identity/v3/ . An account is a user, and a project of the same
 * id and name, whose only user it is; there is one domain. Every token is scoped to that project.
 */
#define DOMAIN "{s:s,s:s}", "id", "default", "name", "Default"
#define REGION "RegionOne"

char *identity_base(struct imaged *im, struct http_request *req)
{
        static const char host_bytes[] =
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_:[]";
        const char *host = http_header(req, "Host");

        if (im->public_url)
                return strdup(im->public_url);
        if (!host || !host[0] || strspn(host, host_bytes) != strlen(host))
                return str_printf("http://127.0.0.1:%u", http_server_port(im->server));
        return str_printf("http://%s", host);
}

int identity_on_version(struct http_request *req, void *userdata, struct err *err)
{
        _cleanup_(freep) char *base = identity_base(userdata, req);
        _cleanup_(json_decrefpp) json_t *reply = NULL;

        if (!base)
                return err_set(err, -ENOMEM, "out of memory");
        reply = json_pack("{s:{s:s,s:s,s:s,s:[{s:s,s:o}],s:[{s:s,s:s}]}}", "version", "id", "v3.14",
                          "status", "stable", "updated", "2020-04-07T00:00:00Z", "links", "rel", "self",
                          "href", json_sprintf("%s/v3/", base), "media-types", "base", "application/json",
                          "type", "application/vnd.openstack.identity-v3+json");
        return http_reply_json(req, 200, reply);
}

static json_t *service_json(const char *type, const char *name, const char *url)
{
        static const char *const interfaces[] = {"public", "internal", "admin"};
        json_t *endpoints = json_array();

        for (size_t i = 0; i < ARRAY_SIZE(interfaces); i++)
                json_array_append_new(endpoints, json_pack("{s:o,s:s,s:s,s:s,s:s}", "id",
                                                           json_sprintf("%s-%s", type, interfaces[i]),
                                                           "interface", interfaces[i], "region", REGION,
                                                           "region_id", REGION, "url", url));
        return json_pack("{s:s,s:s,s:s,s:o}", "id", type, "type", type, "name", name, "endpoints",
                         endpoints);
}

static json_t *catalog_json(struct imaged *im, struct http_request *req)
{
        _cleanup_(freep) char *base = identity_base(im, req);
        _cleanup_(freep) char *v3 = base ? str_printf("%s/v3", base) : NULL;

        if (!v3)
                return NULL;
        return json_pack("[o,o]", service_json("image", "wherry", base),
                         service_json("identity", "wherry", v3));
}

static json_t *when_json(int64_t seconds)
{
        time_t t = (time_t)seconds;
        char text[40];
        struct tm tm;

        gmtime_r(&t, &tm);
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S.000000Z", &tm);
        return json_string(text);
}

static json_t *roles_json(bool admin)
{
        json_t *roles = json_pack("[{s:s,s:s}]", "id", "member", "name", "member");

        if (admin)
                json_array_append_new(roles, json_pack("{s:s,s:s}", "id", "admin", "name", "admin"));
        return roles;
}

static json_t *token_json(struct imaged *im, struct http_request *req, const struct token *t,
                          const char *method)
{
        const struct account *a = &t->account;
        json_t *user = json_pack("{s:s,s:s,s:o,s:n}", "id", a->id, "name", a->name, "domain",
                                 json_pack(DOMAIN), "password_expires_at");
        json_t *project =
            json_pack("{s:s,s:s,s:o}", "id", a->id, "name", a->name, "domain", json_pack(DOMAIN));
        char audit[32];
        uint8_t random[16];

        randombytes_buf(random, sizeof(random));
        sodium_bin2base64(audit, sizeof(audit), random, sizeof(random),
                          sodium_base64_VARIANT_URLSAFE_NO_PADDING);
        return json_pack("{s:{s:[s],s:o,s:o,s:b,s:o,s:o,s:o,s:o,s:[s]}}", "token", "methods", method, "user",
                         user, "project", project, "is_domain", 0, "roles", roles_json(a->admin), "catalog",
                         catalog_json(im, req), "issued_at", when_json(t->issued), "expires_at",
                         when_json(t->expires), "audit_ids", audit);
}

static bool domain_is_ours(const json_t *domain)
{
        const char *id = json_get_str(domain, "id", NULL), *name = json_get_str(domain, "name", NULL);

        return (!id || streq(id, "default")) && (!name || strcasecmp(name, "Default") == 0);
}

/* One answer for everything that is wrong with a name or password: it tells nobody what there is. */
static int refused(struct err *err)
{
        return err_set(err, -EPERM, "wrong name or password");
}

static int login_password(struct imaged *im, const json_t *user, struct token *ret, struct err *err)
{
        const char *name = json_get_str(user, "name", NULL), *id = json_get_str(user, "id", NULL),
                   *password = json_get_str(user, "password", NULL);
        _cleanup_(json_decrefpp) json_t *record = NULL;
        int r;

        if (!password || (!name && !id))
                return err_set(err, -EINVAL,
                               "auth.identity.password.user: password, and name or id, are needed");
        if (!domain_is_ours(json_object_get(user, "domain")))
                return refused(err);
        if (!name) {
                r = account_load(im->accounts, id, &record, err);
                if (r < 0 && r != -ENOENT)
                        return r;
                name = json_get_str(record, "name", "");
        }
        r = account_login(im->accounts, name, password, &ret->account, err);
        ret->issued = time(NULL);
        ret->expires = ret->issued + TOKEN_SECONDS;
        return r == -EPERM ? refused(err) : r;
}

/* Only the account's own project can be asked for. */
static int scope_check(const json_t *scope, const struct account *a, struct err *err)
{
        const json_t *project = json_object_get(scope, "project");
        const char *id = json_get_str(project, "id", NULL), *name = json_get_str(project, "name", NULL);

        if (!json_is_object(scope) || json_object_get(scope, "unscoped"))
                return 0;
        if (!project)
                return err_set(err, -EPERM, "scope: only the account's own project is possible");
        if ((id && !streq(id, a->id)) || (name && !streq(name, a->name)) || (!id && !name) ||
            !domain_is_ours(json_object_get(project, "domain")))
                return err_set(err, -EPERM, "scope: the project of account %s is %s (%s)", a->name, a->name,
                               a->id);
        return 0;
}

int identity_on_login(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        _cleanup_(json_decrefpp) json_t *body = NULL, *reply = NULL;
        const json_t *identity;
        char text[TOKEN_TEXT_MAX + 1];
        const char *method;
        struct token t;
        int r;

        r = http_body_json(req, &body, err);
        if (r < 0)
                return r;
        identity = json_path(body, "auth.identity");
        method = json_string_value(json_array_get(json_object_get(identity, "methods"), 0));
        if (streq(method, "password") && json_array_size(json_object_get(identity, "methods")) == 1) {
                r = login_password(im, json_path(identity, "password.user"), &t, err);
        } else if (streq(method, "token")) { /* for another scope; it lives no longer than the first */
                const char *old = json_string_value(json_path(identity, "token.id"));

                r = auth_token(im, old ? old : "", &t, err);
        } else {
                r = err_set(err, -EPERM, "auth.identity.methods: password and token are possible");
        }
        if (r == 0)
                r = scope_check(json_path(body, "auth.scope"), &t.account, err);
        if (r < 0)
                return r;
        token_make(accounts_key(im->accounts), &t, text);
        reply = token_json(im, req, &t, method);
        if (!reply)
                return err_set(err, -ENOMEM, "out of memory");
        http_reply_header(req, "X-Subject-Token", text);
        http_reply_header(req, "Cache-Control", "no-store");
        http_reply_header(req, "Vary", "X-Auth-Token");
        return http_reply_json(req, 201, reply);
}

int identity_on_validate(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        const char *subject = http_header(req, "X-Subject-Token");
        const struct caller *c = caller_of(req);
        _cleanup_(json_decrefpp) json_t *reply = NULL;
        struct token t;
        int r;

        if (!subject)
                return err_set(err, -EINVAL, "X-Subject-Token is missing");
        r = auth_token(im, subject, &t, err);
        if (r == -EPERM || (r == 0 && !c->admin && !streq(t.account.id, c->id)))
                return err_set(err, -ENOENT, "no such token");
        if (r < 0)
                return r;
        reply = token_json(im, req, &t, "password");
        if (!reply)
                return err_set(err, -ENOMEM, "out of memory");
        http_reply_header(req, "X-Subject-Token", subject);
        return http_reply_json(req, 200, reply);
}

int identity_on_catalog(struct http_request *req, void *userdata, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *reply =
            json_pack("{s:o,s:{}}", "catalog", catalog_json(userdata, req), "links");

        return reply ? http_reply_json(req, 200, reply) : err_set(err, -ENOMEM, "out of memory");
}

/* --- projects: what `openstack image set --project` and `image add project` look names up with --- */

static json_t *project_json(const json_t *account)
{
        return json_pack("{s:O,s:O,s:s,s:b,s:b,s:s,s:s}", "id", json_object_get(account, "id"), "name",
                         json_object_get(account, "name"), "domain_id", "default", "enabled", 1, "is_domain",
                         0, "description", "", "parent_id", "default");
}

struct projects {
        const struct caller *caller;
        const char *name;
        json_t *list;
};

static int project_one(void *arg, json_t *record)
{
        struct projects *p = arg;

        if (!p->caller->admin && !streq(json_get_str(record, "id", NULL), p->caller->id))
                return 0;
        if (p->name && !streq(json_get_str(record, "name", NULL), p->name))
                return 0;
        return json_array_append_new(p->list, project_json(record)) < 0 ? -ENOMEM : 0;
}

/* Members see their own project only, administrators all. */
int identity_on_projects(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        struct projects p = {
            .caller = caller_of(req), .name = http_query(req, "name"), .list = json_array()};
        _cleanup_(json_decrefpp) json_t *reply = json_pack("{s:o,s:{}}", "projects", p.list, "links");
        int r = reply ? 0 : err_set(err, -ENOMEM, "out of memory");

        /* As the Identity API answers, so that clients go on with what may be an id. */
        if (r == 0 && !p.caller->admin && p.name && !streq(p.name, p.caller->name))
                r = err_set(err, -EACCES, "project %s: members may look at their own only", p.name);
        if (r == 0)
                r = account_each(im->accounts, project_one, &p, err);
        return r < 0 ? r : http_reply_json(req, 200, reply);
}

int identity_on_project(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        const char *id = http_param(req, "id");
        const struct caller *c = caller_of(req);
        _cleanup_(json_decrefpp) json_t *record = NULL, *reply = NULL;
        int r;

        if (!c->admin && !streq(id, c->id)) /* whether there is such a one is not theirs to know */
                return err_set(err, -EACCES, "project %s: members may look at their own only", id);
        r = uuid_valid(id) ? account_load(im->accounts, id, &record, err)
                           : err_set(err, -ENOENT, "no project %s", id);
        if (r < 0)
                return r;
        reply = json_pack("{s:o}", "project", project_json(record));
        return http_reply_json(req, 200, reply);
}

/* --- POST /v3/users/{id}/password: one's own --- */

int identity_on_password(struct http_request *req, void *userdata, struct err *err)
{
        struct imaged *im = userdata;
        const struct caller *c = caller_of(req);
        _cleanup_(json_decrefpp) json_t *body = NULL;
        const char *old, *new;
        struct account a;
        int r;

        if (!streq(http_param(req, "id"), c->token.account.id))
                return err_set(err, -EACCES, "only one's own password");
        r = http_body_json(req, &body, err);
        if (r < 0)
                return r;
        old = json_string_value(json_path(body, "user.original_password"));
        new = json_string_value(json_path(body, "user.password"));
        if (!old || !new)
                return err_set(err, -EINVAL, "user.original_password and user.password are needed");
        r = account_login(im->accounts, c->name, old, &a, err);
        if (r == 0)
                r = account_password(im->accounts, c->name, new, err);
        return r < 0 ? r : http_reply_json(req, 204, NULL);
}
