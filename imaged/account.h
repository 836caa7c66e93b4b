/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>

#include "imaged/daemon.h"

/*
 * Accounts: who may use the image API, under a name and a password. One record an account, its key the name
 * (so two cannot share one); owners of images are ids, which do not come back with a name. An account is
 * OpenStack's user, and its own and only project. Any thread.
 *
 *   {"id": UUID, "name", "password": Argon2id in libsodium's text form, "role": "admin"|"member",
 *    "serial": of the password, which tokens carry, "created",
 *    "quota": {"image_bytes": N or null}, "images": {IMAGE: bytes reserved}, where there is a quota}
 */
struct accounts;

#define ACCOUNT_NAME_MAX 63
#define ACCOUNT_PASSWORD_MIN 8
#define ACCOUNT_PASSWORD_MAX 1024

int accounts_new(struct store *store, struct accounts **ret, struct err *err);
struct accounts *accounts_free(struct accounts *a);

/* What every request asks of an account; at most a second old. -ENOENT: there is none of that name. */
struct account {
        char id[UUID_LEN + 1], name[ACCOUNT_NAME_MAX + 1];
        bool admin;
        uint64_t serial;
};
int account_get(struct accounts *a, const char *name, struct account *ret, struct err *err);

/* Checks a password, in the time of one hash whether there is such an account or not. -EPERM: wrong. */
int account_login(struct accounts *a, const char *name, const char *password, struct account *ret,
                  struct err *err);

/* By id or name; the caller owns *ret. -ENOENT */
int account_load(struct accounts *a, const char *id_or_name, json_t **ret, struct err *err);
int account_each(struct accounts *a, int (*cb)(void *arg, json_t *record), void *arg, struct err *err);

struct account_new {
        const char *name, *password, *role;
        const json_t *image_bytes; /* or NULL */
};
/* -EEXIST: the name is taken. */
int account_add(struct accounts *a, const struct account_new *n, json_t **ret, struct err *err);
/* What is NULL stays as it is. image_bytes: an integer, or null for no limit; quota_count() then counts. */
struct account_change {
        const char *role;
        const json_t *image_bytes;
};
int account_change(struct accounts *a, const char *name, const struct account_change *c, json_t **ret,
                   struct err *err);
/* Voids the account's tokens. */
int account_password(struct accounts *a, const char *name, const char *password, struct err *err);
int account_remove(struct accounts *a, const char *name, struct err *err);

/* The record without what nobody is to see. */
json_t *account_view(const json_t *record);
bool account_name_valid(const char *name);

/* The secret of the store's tokens, the same for every imaged. */
#define ACCOUNT_KEY_LEN 32
const uint8_t *accounts_key(const struct accounts *a);

/* Handlers of /v1/accounts, for administrators. */
int account_on_list(struct http_request *req, void *userdata, struct err *err);
int account_on_create(struct http_request *req, void *userdata, struct err *err);
int account_on_show(struct http_request *req, void *userdata, struct err *err);
int account_on_change(struct http_request *req, void *userdata, struct err *err);
int account_on_delete(struct http_request *req, void *userdata, struct err *err);
int account_on_password(struct http_request *req, void *userdata, struct err *err);
