/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "imaged/account.h"

/*
 * Tokens without a state: who, since when, until when, under a keyed MAC whose key lies in the store, so
 * that every imaged of a store takes them. A new password, or the account's removal, voids them.
 */
#define TOKEN_SECONDS 3600
#define TOKEN_TEXT_MAX 255

struct token {
        struct account account;  /* what it says: id, name and serial; admin is not in it */
        int64_t issued, expires; /* seconds since 1970, by the wall clock: they hold on every machine */
};

void token_make(const uint8_t key[ACCOUNT_KEY_LEN], const struct token *token, char ret[TOKEN_TEXT_MAX + 1]);
/* -EPERM: not made with this key, or expired by `now`. Does not ask whether the account is still so. */
int token_read(const uint8_t key[ACCOUNT_KEY_LEN], const char *text, int64_t now, struct token *ret,
               struct err *err);
