/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <libvirt/virterror.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "hostd/virt/internal.h"

/* The cephx key of QEMU's RBD disks, in libvirtd's memory only (ephemeral) and never given back (private).
 */

#define KEY_MAX 512

static int base64_value(char c)
{
        static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        const char *p = c ? strchr(alphabet, c) : NULL;

        return p ? (int)(p - alphabet) : -1;
}

/* RFC 4648, section 4. */
static int base64_decode(const char *text, uint8_t ret[KEY_MAX], size_t *ret_len)
{
        size_t len = strcspn(text, "=\r\n"), n = 0;
        uint32_t bits = 0;
        unsigned have = 0;

        if (len % 4 == 1 || len / 4 * 3 + 3 > KEY_MAX)
                return -EINVAL;
        for (size_t i = 0; i < len; i++) {
                int value = base64_value(text[i]);

                if (value < 0)
                        return -EINVAL;
                bits = bits << 6 | (uint32_t)value;
                have += 6;
                if (have >= 8) {
                        have -= 8;
                        ret[n++] = (uint8_t)(bits >> have);
                }
        }
        *ret_len = n;
        return n > 0 ? 0 : -EINVAL;
}

static void secret_freep(virSecretPtr *s)
{
        if (*s)
                virSecretFree(*s);
}

int virt_secret(struct virt *v, const char *usage, const char *key_base64, struct err *err)
{
        _cleanup_(virt_connect_freep) virConnectPtr conn = NULL;
        _cleanup_(secret_freep) virSecretPtr secret = NULL;
        _cleanup_(freep) char *xml = NULL;
        uint8_t key[KEY_MAX];
        size_t len;
        int r;

        if (strspn(usage, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_ ") !=
            strlen(usage))
                return err_set(err, -EINVAL, "secret \"%.64s\": only letters, digits, '.', '-', '_', ' '",
                               usage);
        if (base64_decode(key_base64, key, &len) < 0)
                return err_set(err, -EINVAL, "secret %s: the key is no base64 text", usage);
        r = virt_conn(v, &conn, err);
        if (r < 0)
                return r;
        secret = virSecretLookupByUsage(conn, VIR_SECRET_USAGE_TYPE_CEPH, usage);
        if (!secret) {
                xml = str_printf("<secret ephemeral='yes' private='yes'><usage "
                                 "type='ceph'><name>%s</name></usage></secret>",
                                 usage);
                if (!xml)
                        return err_set(err, -ENOMEM, "secret %s: out of memory", usage);
                secret = virSecretDefineXML(conn, xml, 0);
        }
        if (!secret)
                return virt_error(err, "secret %s: define", usage);
        r = virSecretSetValue(secret, key, len, 0) == 0 ? 0
                                                        : virt_error(err, "secret %s: set its value", usage);
        explicit_bzero(key, sizeof key);
        return r;
}
