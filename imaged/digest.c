/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/digest.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/util.h"
#include "imaged/manifest.h"

static const uint8_t zeros[64 * 1024];

struct digest {
        gnutls_hash_hd_t sha256;
        struct manifest *manifest;
        uint64_t done; /* bytes of the disk */
};

int digest_new(struct store *s, const char *image, struct digest **ret, struct err *err)
{
        struct digest *d = calloc(1, sizeof(*d));
        int r = d && gnutls_hash_init(&d->sha256, GNUTLS_DIG_SHA256) == 0
                    ? manifest_new(s, image, &d->manifest, err)
                    : err_set(err, -ENOMEM, "out of memory");

        if (r < 0)
                digest_free(d);
        else
                *ret = d;
        return r;
}

struct digest *digest_free(struct digest *d)
{
        if (!d)
                return NULL;
        if (d->sha256)
                gnutls_hash_deinit(d->sha256, NULL);
        manifest_free(d->manifest);
        free(d);
        return NULL;
}

static int sha256_failed(struct err *err)
{
        return err_set(err, -EIO, "SHA-256 failed");
}

static int zeros_until(struct digest *d, uint64_t end, struct err *err)
{
        uint64_t len = end - d->done;

        while (d->done < end) {
                size_t n = (size_t)MIN_OF(end - d->done, sizeof(zeros));

                if (gnutls_hash(d->sha256, zeros, n) < 0)
                        return sha256_failed(err);
                d->done += n;
        }
        return manifest_zeros(d->manifest, len, err);
}

int digest_data(struct digest *d, const void *buf, size_t len, uint64_t offset, struct err *err)
{
        int r;

        if (offset < d->done)
                return 0;
        r = zeros_until(d, offset, err);
        if (r < 0)
                return r;
        if (gnutls_hash(d->sha256, buf, len) < 0)
                return sha256_failed(err);
        d->done += len;
        r = manifest_data(d->manifest, buf, len, err);
        return r < 0 ? r : 1;
}

int digest_restart(struct digest *d, struct err *err)
{
        uint8_t dropped[DIGEST_DIGITS / 2];

        gnutls_hash_output(d->sha256, dropped); /* resets it */
        d->done = 0;
        return manifest_restart(d->manifest, err);
}

int digest_finish(struct digest *d, uint64_t size, char ret_sha256[DIGEST_DIGITS + 1], unsigned *ret_parts,
                  struct err *err)
{
        uint8_t bytes[DIGEST_DIGITS / 2];
        int r = zeros_until(d, size, err);

        if (r == 0)
                r = manifest_finish(d->manifest, ret_parts, err);
        if (r < 0)
                return r;
        gnutls_hash_output(d->sha256, bytes);
        for (size_t i = 0; i < sizeof(bytes); i++)
                snprintf(ret_sha256 + 2 * i, 3, "%02x", bytes[i]);
        return 0;
}
