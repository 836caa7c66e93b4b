/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/store/engine.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

bool store_id_valid(const char *id)
{
        size_t n = 0;

        if (!id)
                return false;
        for (; id[n]; n++) {
                char c = id[n];

                if (n == STORE_ID_MAX)
                        return false;
                if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
                    c != '_' && c != '-')
                        return false;
        }
        return n > 0;
}

/*
 * Users and groups of starts by hash, apart from each other and from every real user:
 *   0x20000000..0x3fffffff  owners of golden images (nfs)
 *   0x40000000..0x5fffffff  starts from the disk
 *   0x60000000..0x7ffffffe  a migration attempt's destination
 * all below 2^31 - 1, because libnfs and some servers take them for signed numbers, and that one is
 * somebody's "nobody". The random id of the start is hashed, too: two hosts of one number that start the
 * instance at the same epoch are two users. docs/ownership.md has the chance that two starts meet.
 */
#define UID_START 0x40000000u
#define UID_ATTEMPT 0x60000000u
#define UID_RANGE ((1u << 29) - 1)

uint32_t start_uid(const char *instance, uint64_t epoch, const char *attempt, const char *id)
{
        char text[3 * STORE_ID_MAX + 32];

        snprintf(text, sizeof(text), "%s %" PRIu64 " %.64s %s", instance, epoch, attempt ? attempt : "", id);
        return (attempt ? UID_ATTEMPT : UID_START) + (uint32_t)(XXH3_64bits(text, strlen(text)) % UID_RANGE);
}

void lease_name_format(const char *instance, const struct lease *lease, char ret[LEASE_NAME_MAX + 1])
{
        snprintf(ret, LEASE_NAME_MAX + 1, "%s.e%" PRIu64 ".h%u", instance, lease->epoch, lease->host);
}

/* Digits of a number up to `max`, in its one spelling: no sign, no leading zero. Returns what follows, or
 * NULL. */
static const char *number_parse(const char *p, uint64_t max, uint64_t *ret)
{
        uint64_t v = 0;

        if (*p < '0' || *p > '9' || (p[0] == '0' && p[1] >= '0' && p[1] <= '9'))
                return NULL;
        for (; *p >= '0' && *p <= '9'; p++) {
                uint64_t digit = (uint64_t)(*p - '0');

                if (v > (max - digit) / 10)
                        return NULL;
                v = v * 10 + digit;
        }
        *ret = v;
        return p;
}

int lease_name_parse(const char *name, char ret_instance[STORE_ID_MAX + 1], struct lease *ret)
{
        const char *dot = strchr(name, '.');
        char instance[STORE_ID_MAX + 1];
        uint64_t epoch, host;
        const char *p;

        if (!dot || (size_t)(dot - name) > STORE_ID_MAX)
                return -EINVAL;
        memcpy(instance, name, (size_t)(dot - name));
        instance[dot - name] = '\0';
        if (!store_id_valid(instance) || strncmp(dot, ".e", 2) != 0)
                return -EINVAL;
        p = number_parse(dot + 2, UINT64_MAX, &epoch);
        if (!p || strncmp(p, ".h", 2) != 0)
                return -EINVAL;
        p = number_parse(p + 2, UINT32_MAX, &host);
        if (!p || *p)
                return -EINVAL;
        memcpy(ret_instance, instance, sizeof(instance));
        ret->epoch = epoch;
        ret->host = (unsigned)host;
        return 0;
}
