/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/token.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

/*
 * The bytes below the text (base64 for URLs, without padding), numbers big-endian:
 *
 *   offset  size
 *        0     1  version, 1
 *        1     8  issued, seconds
 *        9     8  expires, seconds
 *       17     8  the password's serial
 *       25    36  the account's id
 *       61     n  its name, 1 to 63
 *   61 + n    32  MAC of all before it (crypto_auth: HMAC-SHA-512-256)
 */
#define VERSION 1
#define HEAD 61
#define MAC crypto_auth_BYTES
#define RAW_MAX (HEAD + ACCOUNT_NAME_MAX + MAC)
#define VARIANT sodium_base64_VARIANT_URLSAFE_NO_PADDING

_Static_assert(sodium_base64_ENCODED_LEN(RAW_MAX, VARIANT) <= TOKEN_TEXT_MAX + 1, "a token fits");

static void put_u64(uint8_t *p, uint64_t v)
{
        for (int i = 7; i >= 0; i--, v >>= 8)
                p[i] = (uint8_t)v;
}

static uint64_t get_u64(const uint8_t *p)
{
        uint64_t v = 0;

        for (int i = 0; i < 8; i++)
                v = v << 8 | p[i];
        return v;
}

void token_make(const uint8_t key[ACCOUNT_KEY_LEN], const struct token *token, char ret[TOKEN_TEXT_MAX + 1])
{
        uint8_t raw[RAW_MAX];
        size_t n = strlen(token->account.name);

        raw[0] = VERSION;
        put_u64(raw + 1, (uint64_t)token->issued);
        put_u64(raw + 9, (uint64_t)token->expires);
        put_u64(raw + 17, token->account.serial);
        memcpy(raw + 25, token->account.id, UUID_LEN);
        memcpy(raw + HEAD, token->account.name, n);
        crypto_auth(raw + HEAD + n, raw, HEAD + n, key);
        sodium_bin2base64(ret, TOKEN_TEXT_MAX + 1, raw, HEAD + n + MAC, VARIANT);
}

int token_read(const uint8_t key[ACCOUNT_KEY_LEN], const char *text, int64_t now, struct token *ret,
               struct err *err)
{
        struct token t = {0};
        uint8_t raw[RAW_MAX];
        size_t len, n;

        if (sodium_base642bin(raw, sizeof(raw), text, strlen(text), NULL, &len, NULL, VARIANT) < 0 ||
            len < HEAD + 1 + MAC || raw[0] != VERSION)
                return err_set(err, -EPERM, "wrong token");
        n = len - HEAD - MAC;
        if (crypto_auth_verify(raw + HEAD + n, raw, HEAD + n, key) < 0)
                return err_set(err, -EPERM, "wrong token");
        t.issued = (int64_t)get_u64(raw + 1);
        t.expires = (int64_t)get_u64(raw + 9);
        t.account.serial = get_u64(raw + 17);
        memcpy(t.account.id, raw + 25, UUID_LEN);
        memcpy(t.account.name, raw + HEAD, n);
        if (now >= t.expires)
                return err_set(err, -EPERM, "the token has expired");
        *ret = t;
        return 0;
}
