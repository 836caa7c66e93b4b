/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <grp.h>
#include <gnutls/x509.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "common/util.h"
#include "hostd/virt/virt.h"

/*
 * QEMU encrypts the stream of a migration with the certificates of one folder, whose file names are QEMU's:
 *
 *   ca-cert.pem                      whom this host trusts
 *   server-cert.pem, server-key.pem  what it shows when a guest arrives
 *   client-cert.pem, client-key.pem  what it shows when a guest leaves
 *
 * QEMU names a file that is missing, but only after libvirt has begun the migration, and what is wrong with
 * a certificate it tells the other end. Both are looked at before.
 */

#define CONF_MAX (256 * 1024)
#define PEM_MAX (64 * 1024)
#define FOLDER "/etc/pki/qemu"
#define ADVICE "; README.md, \"On two real hosts\", tells how to make it; or set migration_tls = no"

/* The value of `key = "value"` at the beginning of a line; fresh memory, NULL where there is none. */
static char *conf_value(const char *text, const char *key)
{
        for (const char *line = text; line; line = strchr(line, '\n')) {
                const char *p;

                line += *line == '\n';
                p = line + strspn(line, " \t");
                if (strncmp(p, key, strlen(key)) != 0)
                        continue;
                p += strlen(key);
                p += strspn(p, " \t");
                if (*p != '=')
                        continue;
                p++;
                p += strspn(p, " \t");
                if (*p == '"' || *p == '\'')
                        return strndup(p + 1, strcspn(p + 1, (char[]){*p, '\n', '\0'}));
        }
        return NULL;
}

char *virt_tls_folder(const char *conf)
{
        char *folder = conf_value(conf, "migrate_tls_x509_cert_dir");

        if (!folder)
                folder = conf_value(conf, "default_tls_x509_cert_dir");
        return folder ? folder : strdup(FOLDER);
}

/* QEMU's user with all of its groups, as libvirt gives them to QEMU. */
struct user {
        uid_t uid;
        gid_t groups[64];
        int n_groups;
};

static void user_load(uid_t uid, gid_t gid, struct user *ret)
{
        struct user u = {.uid = uid, .groups = {gid}, .n_groups = 1};
        struct passwd entry, *found = NULL;
        char buf[4096];
        int n = ARRAY_SIZE(u.groups);

        if (getpwuid_r(uid, &entry, buf, sizeof buf, &found) == 0 && found &&
            getgrouplist(found->pw_name, gid, u.groups, &n) >= 0)
                u.n_groups = n;
        *ret = u;
}

/* By the mode's bits: 4 to read a file, 1 to go through a folder. */
static bool user_may(const struct user *u, const struct stat *st, mode_t bit)
{
        if (u->uid == 0)
                return true;
        if (st->st_uid == u->uid)
                return st->st_mode >> 6 & bit;
        for (int i = 0; i < u->n_groups; i++)
                if (st->st_gid == u->groups[i])
                        return st->st_mode >> 3 & bit;
        return st->st_mode & bit;
}

/* The file is there, and QEMU's user may read it. */
static int file_check(const char *path, const struct user *u, struct err *err)
{
        char part[512];
        struct stat st;

        for (const char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
                snprintf(part, sizeof part, "%.*s", (int)(p - path), path);
                if (stat(part, &st) == 0 && !user_may(u, &st, 1))
                        return err_set(err, -EACCES, "%s: QEMU's user %u may not go through the folder %s",
                                       path, (unsigned)u->uid, part);
        }
        if (stat(path, &st) < 0)
                return err_set(err, -errno, "%s: %s" ADVICE, path, strerror(errno));
        if (!user_may(u, &st, 4))
                return err_set(err, -EACCES,
                               "%s: QEMU's user %u may not read it: `chgrp %u` and `chmod 640`", path,
                               (unsigned)u->uid, (unsigned)u->groups[0]);
        return 0;
}

static void crt_freep(gnutls_x509_crt_t *c)
{
        if (*c)
                gnutls_x509_crt_deinit(*c);
}

static int certificate_load(const char *path, gnutls_x509_crt_t *ret, struct err *err)
{
        _cleanup_(freep) char *pem = NULL;
        gnutls_datum_t data = {0};
        size_t len;
        int r = file_read(path, PEM_MAX, &pem, &len, err);

        if (r < 0)
                return r;
        r = gnutls_x509_crt_init(ret);
        if (r < 0)
                return err_set(err, -ENOMEM, "%s: %s", path, gnutls_strerror(r));
        data.data = (unsigned char *)pem;
        data.size = (unsigned)len;
        r = gnutls_x509_crt_import(*ret, &data, GNUTLS_X509_FMT_PEM);
        if (r < 0)
                return err_set(err, -EINVAL, "%s: not a certificate: %s" ADVICE, path, gnutls_strerror(r));
        return 0;
}

/* It is valid now and, where an address is given, this host's own at it. */
static int certificate_check(const char *path, const char *address, struct err *err)
{
        _cleanup_(crt_freep) gnutls_x509_crt_t crt = NULL;
        time_t now = time(NULL), from, to;
        int r = certificate_load(path, &crt, err);

        if (r < 0)
                return r;
        from = gnutls_x509_crt_get_activation_time(crt);
        to = gnutls_x509_crt_get_expiration_time(crt);
        if (now > to)
                return err_set(err, -EKEYEXPIRED, "%s: expired %lld days ago" ADVICE, path,
                               (long long)(now - to) / 86400);
        if (now < from)
                return err_set(err, -EKEYREJECTED, "%s: not valid for another %lld s: are the clocks right?",
                               path, (long long)(from - now));
        if (address && !gnutls_x509_crt_check_hostname(crt, address))
                return err_set(err, -EKEYREJECTED,
                               "%s: not made for %s, this host's address in hostd.conf" ADVICE, path,
                               address);
        return 0;
}

int virt_tls_check(const char *folder, const char *address, uint32_t uid, uint32_t gid, struct err *err)
{
        const char *end = address ? "server" : "client";
        _cleanup_(freep) char *ca = str_printf("%s/ca-cert.pem", folder),
                              *cert = str_printf("%s/%s-cert.pem", folder, end),
                              *key = str_printf("%s/%s-key.pem", folder, end);
        struct user u;
        int r;

        if (!ca || !cert || !key)
                return err_set(err, -ENOMEM, "%s: out of memory", folder);
        user_load(uid, gid, &u);
        r = file_check(ca, &u, err);
        if (r == 0)
                r = file_check(cert, &u, err);
        if (r == 0)
                r = file_check(key, &u, err);
        if (r == 0)
                r = certificate_check(ca, NULL, err);
        if (r == 0)
                r = certificate_check(cert, address, err);
        return r;
}

int virt_tls_ready(const struct virt_host *host, const char *address, struct err *err)
{
        _cleanup_(freep) char *conf = NULL, *folder = NULL;
        size_t len;

        /* libvirt, too, takes a file that is missing for its defaults. */
        if (file_read("/etc/libvirt/qemu.conf", CONF_MAX, &conf, &len, NULL) < 0)
                conf = NULL;
        folder = virt_tls_folder(conf ? conf : "");
        if (!folder)
                return err_set(err, -ENOMEM, "certificates: out of memory");
        return virt_tls_check(folder, address, host->qemu_uid, host->qemu_gid, err);
}
