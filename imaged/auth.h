/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

#include "common/http-server.h"
#include "imaged/token.h"

/* Who sent a request. */
struct caller {
        struct token token; /* of an account; zeros for the operator */
        char
            id[UUID_LEN + 1]; /* the owner of what it makes: the account's id, or "admin" for the operator */
        const char *name;
        bool admin;
};

/* The holder of the server's own token (`wherry`, hostds) is the operator, an administrator without an
 * account. */
const struct caller *caller_of(struct http_request *req);

/*
 * For http_server_options: whose token is it? Members may call the image and the identity API, where each
 * handler looks at the owner; everything else is for administrators.
 */
int auth_check(void *userdata, struct http_request *req, const char *sent, void **ret_caller,
               struct err *err);

/* A token of one of the store's accounts, and the account as it is now. -EPERM: it opens nothing. */
int auth_token(struct imaged *im, const char *text, struct token *ret, struct err *err);
