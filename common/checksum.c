/* SPDX-License-Identifier: Apache-2.0 */
#include "common/checksum.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/util.h"

#define DIGEST_MAX 64

static const struct algorithm {
        const char *name;
        gnutls_digest_algorithm_t id;
        size_t len; /* bytes of a digest */
} algorithms[] = {{"sha256", GNUTLS_DIG_SHA256, 32}, {"sha512", GNUTLS_DIG_SHA512, 64}};

struct checksum {
        const struct algorithm *algorithm;
        gnutls_hash_hd_t hash;
        char wanted[2 * DIGEST_MAX + 1];
};

static const struct algorithm *algorithm_of(const char *text)
{
        for (size_t i = 0; i < ARRAY_SIZE(algorithms); i++) {
                const struct algorithm *a = &algorithms[i];
                size_t n = strlen(a->name);

                if (strncasecmp(text, a->name, n) == 0 && text[n] == ':' &&
                    strlen(text + n + 1) == 2 * a->len &&
                    strspn(text + n + 1, "0123456789abcdefABCDEF") == 2 * a->len)
                        return a;
        }
        return NULL;
}

int checksum_new(const char *text, struct checksum **ret, struct err *err)
{
        const struct algorithm *a = algorithm_of(text);
        struct checksum *c;

        if (!a)
                return err_set(err, -EINVAL,
                               "checksum \"%.140s\": it is \"sha256:\" and 64, or \"sha512:\" and 128 "
                               "hexadecimal digits",
                               text);
        c = calloc(1, sizeof(*c));
        if (!c || gnutls_hash_init(&c->hash, a->id) < 0) {
                free(c);
                return err_set(err, -ENOMEM, "out of memory");
        }
        c->algorithm = a;
        snprintf(c->wanted, sizeof(c->wanted), "%s", strchr(text, ':') + 1);
        *ret = c;
        return 0;
}

int checksum_feed(struct checksum *c, const void *buf, size_t len, struct err *err)
{
        if (gnutls_hash(c->hash, buf, len) < 0)
                return err_set(err, -EIO, "%s failed", c->algorithm->name);
        return 0;
}

int checksum_check(struct checksum *c, struct err *err)
{
        char found[2 * DIGEST_MAX + 1];
        uint8_t digest[DIGEST_MAX];

        gnutls_hash_output(c->hash, digest);
        for (size_t i = 0; i < c->algorithm->len; i++)
                snprintf(found + 2 * i, 3, "%02x", digest[i]);
        if (strcasecmp(found, c->wanted) == 0)
                return 0;
        return err_set(err, -EBADMSG, "its %s is %s, the checksum given is %s", c->algorithm->name, found,
                       c->wanted);
}

struct checksum *checksum_free(struct checksum *c)
{
        if (!c)
                return NULL;
        gnutls_hash_deinit(c->hash, NULL);
        free(c);
        return NULL;
}

void checksum_freep(struct checksum **c)
{
        *c = checksum_free(*c);
}
