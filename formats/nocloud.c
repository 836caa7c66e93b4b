/* SPDX-License-Identifier: Apache-2.0 */
#include "formats/formats.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"

/*
 * Three files, read by cloud-init and by guests that have only a shell: so every line that a shell looks for
 * is plain, and what could not be plain is refused or, in user-data, quoted. Source: cloud-init's
 * documentation of NoCloud, of "network config version 2", of MIME user-data and of "merging user-data
 * sections".
 */
#define USER_DATA_MAX ((size_t)256 * 1024)
#define KEY_MAX 16384u

struct text {
        FILE *f;
        char *data;
        size_t len;
};

static void text_done(struct text *t)
{
        if (t->f)
                fclose(t->f);
        free(t->data);
}

static int text_begin(struct text *t)
{
        t->f = open_memstream(&t->data, &t->len);
        return t->f ? 0 : -ENOMEM;
}

static int text_end(struct text *t)
{
        FILE *f = take(t->f);
        bool bad = ferror(f);

        return fclose(f) != 0 || bad ? -ENOMEM : 0;
}

/* Letters, digits and what else is in `more`. */
static int plain_check(const char *what, const char *value, const char *more, size_t max, struct err *err)
{
        size_t len = value ? strlen(value) : 0;

        if (len == 0 || len > max)
                return err_set(err, -EINVAL, "%s of %zu characters, limit 1 to %zu", what, len, max);
        for (size_t i = 0; i < len; i++)
                if (!isascii(value[i]) || !(isalnum((unsigned char)value[i]) || strchr(more, value[i])))
                        return err_set(err, -EINVAL,
                                       "%s has the character 0x%02x at %zu: only letters, digits and %s",
                                       what, (unsigned char)value[i], i, more);
        return 0;
}

static int address_check(const char *what, const char *text, bool *ret_v6, struct err *err)
{
        uint8_t raw[16];

        if (inet_pton(AF_INET, text, raw) == 1)
                *ret_v6 = false;
        else if (inet_pton(AF_INET6, text, raw) == 1)
                *ret_v6 = true;
        else
                return err_set(err, -EINVAL, "%s is no IP address", what);
        return 0;
}

static int mac_check(const char *mac, struct err *err)
{
        bool ok = strlen(mac) == 17;

        for (int i = 0; ok && i < 17; i++)
                ok = i % 3 == 2 ? mac[i] == ':' : isxdigit((unsigned char)mac[i]);
        return ok ? 0 : err_set(err, -EINVAL, "the MAC address is not of the form 52:54:00:12:34:56");
}

/*
 * "TYPE BASE64 [COMMENT]". A key with options before its type is refused: whoever reads only type and key
 * would drop them, and they may be what restricts the key. ret_plain: the length of type and key.
 */
static int key_check(const char *key, size_t *ret_plain, struct err *err)
{
        static const char *const types[] = {"ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"};
        size_t type = strcspn(key, " "), body, i;

        if (strlen(key) > KEY_MAX)
                return err_set(err, -EINVAL, "an SSH key of %zu characters, limit %u", strlen(key), KEY_MAX);
        for (i = 0; key[i]; i++)
                if ((unsigned char)key[i] < 0x20 || key[i] == 0x7f)
                        return err_set(err, -EINVAL, "an SSH key has a control character at %zu", i);
        for (i = 0; i < ARRAY_SIZE(types); i++)
                if (strncmp(key, types[i], strlen(types[i])) == 0)
                        break;
        body = key[type] == ' ' ? strspn(key + type + 1,
                                         "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
                                : 0;
        if (i == ARRAY_SIZE(types) || strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789-@.") != type ||
            body == 0 || (key[type + 1 + body] != '\0' && key[type + 1 + body] != ' '))
                return err_set(
                    err, -EINVAL,
                    "an SSH key has to be of the form \"ssh-ed25519 AAAA... comment\", without options");
        *ret_plain = type + 1 + body;
        return 0;
}

/* A double-quoted YAML scalar. Bytes above 0x7f pass as they are: YAML is UTF-8. */
static void put_quoted(FILE *f, const char *text)
{
        fputc('"', f);
        for (const char *p = text; *p; p++) {
                if (*p == '"' || *p == '\\')
                        fputc('\\', f);
                fputc(*p, f);
        }
        fputc('"', f);
}

/* Whether the UTF-8 of a text is well formed: YAML readers refuse a whole document for one bad byte. */
static bool utf8_valid(const char *text)
{
        const uint8_t *p = (const uint8_t *)text;

        while (*p) {
                unsigned more = *p < 0x80 ? 0 : *p >= 0xc2 && *p < 0xe0 ? 1 : (*p & 0xf0) == 0xe0 ? 2 : 3;
                uint32_t v = more == 0 ? *p : *p & (0x3fu >> more);

                if (more == 3 && (*p < 0xf0 || *p > 0xf4))
                        return false;
                p++;
                for (unsigned i = 0; i < more; i++, p++) {
                        if ((*p & 0xc0) != 0x80)
                                return false;
                        v = v << 6 | (*p & 0x3f);
                }
                if ((more == 2 && v < 0x800) || (more == 3 && v < 0x10000) || v > 0x10ffff ||
                    (v >= 0xd800 && v < 0xe000) || (v >= 0x80 && v < 0xa0) || v == 0xfeff ||
                    (v & 0xfffe) == 0xfffe)
                        return false;
        }
        return true;
}

static int put_meta_data(FILE *f, const struct nocloud *nc, struct err *err)
{
        int r = plain_check("instance id", nc->instance_id, "-_.", 128, err);

        if (r == 0)
                r = plain_check("host name", nc->hostname, "-.", 253, err);
        if (r < 0)
                return r;
        fprintf(f, "instance-id: %s\nlocal-hostname: %s\n", nc->instance_id, nc->hostname);
        if (!nc->ssh_keys || !nc->ssh_keys[0])
                return 0;
        fprintf(f, "public-keys:\n");
        for (const char *const *k = nc->ssh_keys; *k; k++) {
                size_t plain;

                r = key_check(*k, &plain, err);
                if (r < 0)
                        return r;
                /* without its comment, which could be anything, a key needs no quotes */
                fprintf(f, "- %.*s\n", (int)plain, *k);
        }
        return 0;
}

static int put_network(FILE *f, const struct nocloud *nc, struct err *err)
{
        bool v6 = false, gateway_v6 = false;
        int r = 0;

        fprintf(f, "version: 2\nethernets:\n  eth0:\n    match:\n");
        if (nc->mac) {
                r = mac_check(nc->mac, err);
                if (r < 0)
                        return r;
                fprintf(f, "      macaddress: \"");
                for (const char *p = nc->mac; *p; p++)
                        fputc(tolower((unsigned char)*p), f);
                /* some renderers take the key for the interface's name, so it has to become that name */
                fprintf(f, "\"\n    set-name: eth0\n");
        } else {
                fprintf(f, "      name: \"e*\"\n");
        }
        if (!nc->address) {
                fprintf(f, "    dhcp4: true\n");
        } else {
                r = address_check("the address", nc->address, &v6, err);
                if (r < 0)
                        return r;
                if (nc->prefix == 0 || nc->prefix > (v6 ? 128 : 32))
                        return err_set(err, -EINVAL, "prefix length %u, limit 1 to %d", nc->prefix,
                                       v6 ? 128 : 32);
                fprintf(f, "    dhcp4: false\n    addresses:\n    - %s/%u\n", nc->address, nc->prefix);
        }
        if (nc->gateway) {
                r = address_check("the gateway", nc->gateway, &gateway_v6, err);
                if (r < 0)
                        return r;
                fprintf(f, "    gateway%c: %s\n", gateway_v6 ? '6' : '4', nc->gateway);
        }
        if (!nc->nameservers || !nc->nameservers[0])
                return 0;
        fprintf(f, "    nameservers:\n      addresses:\n");
        for (const char *const *n = nc->nameservers; *n && r == 0; n++) {
                bool any;

                r = address_check("a name server", *n, &any, err);
                fprintf(f, "      - %s\n", *n);
        }
        return r;
}

static void put_cloud_config(FILE *f, const struct nocloud *nc)
{
        fprintf(f, "#cloud-config\ndisable_root: false\n");
        if (!nc->ssh_keys || !nc->ssh_keys[0])
                return;
        fprintf(f, "ssh_authorized_keys:\n");
        for (const char *const *k = nc->ssh_keys; *k; k++) {
                size_t plain = 0;

                fprintf(f, "- ");
                if (utf8_valid(*k)) {
                        put_quoted(f, *k);
                } else if (key_check(*k, &plain, NULL) == 0) {
                        fprintf(f, "%.*s", (int)plain, *k);
                }
                fputc('\n', f);
        }
}

/* The MIME type of a customer's text by its first line, as cloud-init tells them; "" for one that brings its
 * own headers. */
static const char *user_data_type(const char *text)
{
        static const struct {
                const char *begin, *type;
        } types[] = {
            {"#cloud-config-archive", "text/cloud-config-archive"},
            {"#cloud-config", "text/cloud-config"},
            {"#cloud-boothook", "text/cloud-boothook"},
            {"#!", "text/x-shellscript"},
            {"#include-once", "text/x-include-once-url"},
            {"#include", "text/x-include-url"},
            {"#part-handler", "text/part-handler"},
            {"## template: jinja", "text/jinja2"},
            {"Content-Type:", ""},
            {"MIME-Version:", ""},
        };

        for (size_t i = 0; i < ARRAY_SIZE(types); i++)
                if (strncasecmp(text, types[i].begin, strlen(types[i].begin)) == 0)
                        return types[i].type;
        return NULL;
}

/* The customer's part first, ours after it: what both set stays the customer's, lists of keys are joined. */
static int put_multipart(FILE *f, const struct nocloud *nc, struct err *err)
{
        const char *type = user_data_type(nc->user_data);
        char boundary[32];
        unsigned n = 0;

        if (strlen(nc->user_data) > USER_DATA_MAX)
                return err_set(err, -EFBIG, "user data of %zu bytes, limit %zu", strlen(nc->user_data),
                               USER_DATA_MAX);
        if (!type)
                return err_set(
                    err, -EINVAL,
                    "user data has to begin with #cloud-config, #!, #cloud-boothook, #include, ## template: "
                    "jinja or MIME headers");
        do
                snprintf(boundary, sizeof(boundary), "==wherry-%u==", n++);
        while (strstr(nc->user_data, boundary));
        fprintf(f,
                "Content-Type: multipart/mixed; boundary=\"%s\"\nMIME-Version: 1.0\n\n"
                "--%s\n",
                boundary, boundary);
        if (type[0])
                fprintf(f,
                        "Content-Type: %s; charset=\"utf-8\"\nMIME-Version: 1.0\nContent-Transfer-Encoding: "
                        "8bit\n\n",
                        type);
        fprintf(f, "%s\n", nc->user_data);
        fprintf(f,
                "--%s\nContent-Type: text/cloud-config; charset=\"utf-8\"\nMIME-Version: 1.0\n"
                "Content-Transfer-Encoding: 8bit\n"
                "Merge-Type: list(append)+dict(no_replace,recurse_list)+str()\n\n",
                boundary);
        put_cloud_config(f, nc);
        fprintf(f, "--%s--\n", boundary);
        return 0;
}

static int put_user_data(FILE *f, const struct nocloud *nc, struct err *err)
{
        if (nc->user_data && nc->user_data[0])
                return put_multipart(f, nc, err);
        put_cloud_config(f, nc);
        return 0;
}

int nocloud_iso(const struct nocloud *nc, uint8_t **ret, size_t *ret_len, struct err *err)
{
        static const struct {
                const char *name;
                int (*put)(FILE *f, const struct nocloud *nc, struct err *err);
        } parts[] = {
            {"meta-data", put_meta_data}, {"network-config", put_network}, {"user-data", put_user_data}};
        struct text texts[ARRAY_SIZE(parts)] = {0};
        struct iso_file files[ARRAY_SIZE(parts)];
        int r = 0;

        for (size_t i = 0; i < ARRAY_SIZE(parts) && r == 0; i++) {
                r = text_begin(&texts[i]);
                if (r == 0)
                        r = parts[i].put(texts[i].f, nc, err);
                if (r == 0)
                        r = text_end(&texts[i]);
                if (r == -ENOMEM)
                        err_set(err, r, "out of memory");
                files[i] = (struct iso_file){parts[i].name, texts[i].data, texts[i].len};
        }
        if (r == 0)
                r = iso_write("cidata", files, ARRAY_SIZE(parts), ret, ret_len, err);
        for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
                text_done(&texts[i]);
        return r;
}
