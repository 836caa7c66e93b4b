/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/auth.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct caller the_operator = {.id = "admin", .name = "admin", .admin = true};

const struct caller *caller_of(struct http_request *req)
{
        const struct caller *c = http_caller(req);

        return c ? c : &the_operator;
}

int auth_token(struct imaged *im, const char *text, struct token *ret, struct err *err)
{
        struct account now;
        struct token t;
        int r = token_read(accounts_key(im->accounts), text, time(NULL), &t, err);

        if (r == 0)
                r = account_get(im->accounts, t.account.name, &now, err);
        if (r == -ENOENT || (r == 0 && (now.serial != t.account.serial || !streq(now.id, t.account.id))))
                return err_set(err, -EPERM, "the token is void: its account has a new password, or is gone");
        if (r < 0)
                return r;
        t.account = now;
        *ret = t;
        return 0;
}

/* What a member may call at all. */
static bool member_path(const char *path)
{
        static const char *const open[] = {"/v2/", "/v3/", "/v1/images/"};

        for (size_t i = 0; i < ARRAY_SIZE(open); i++) {
                if (strncmp(path, open[i], strlen(open[i])) == 0)
                        return true;
        }
        return streq(path, "/v1/images"); /* ?name=NAME */
}

int auth_check(void *userdata, struct http_request *req, const char *sent, void **ret_caller,
               struct err *err)
{
        struct caller *c;
        struct token t;
        int r = auth_token(userdata, sent, &t, err);

        if (r < 0)
                return r;
        if (!t.account.admin && !member_path(http_path(req)))
                return err_set(err, -EACCES, "account %s has the role member; this is for administrators",
                               t.account.name);
        c = calloc(1, sizeof(*c));
        if (!c)
                return err_set(err, -ENOMEM, "out of memory");
        c->token = t;
        c->admin = t.account.admin;
        c->name = c->token.account.name;
        snprintf(c->id, sizeof(c->id), "%s", t.account.id);
        *ret_caller = c;
        return 0;
}
