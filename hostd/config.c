/* SPDX-License-Identifier: Apache-2.0 */
#include "hostd/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/conf.h"
#include "common/util.h"

#define N_KEYS 24

static void config_keys(struct config *c, struct conf_key keys[N_KEYS])
{
        const struct conf_key table[N_KEYS] = {
            {"store", "url", NULL,
             "dir:PATH, nfs://SERVER/EXPORT or rbd:POOL[/NAMESPACE]; the same on every host", &c->store_url},
            {"store", "ceph_conf", "/etc/ceph/ceph.conf", "rbd: the cluster's configuration", &c->ceph_conf},
            {"store", "ceph_user", "wherry", "rbd: the cephx user, without \"client.\"", &c->ceph_user},
            {"host", "name", NULL, "this host's name; default its hostname", &c->name},
            {"host", "number", "0", "this host's number in disk names; 0 takes the lowest free one",
             &c->number_text},
            {"host", "address", NULL, "where other hosts reach this one", &c->address},
            {"host", "storage_address", NULL, "this host on the storage network; default: address",
             &c->storage_address},
            {"host", "accel", "auto", "auto, kvm or tcg (emulation)", &c->accel},
            {"host", "emulator", NULL, "QEMU's path; default libvirt's", &c->emulator},
            {"host", "libvirt_uri", "qemu:///system", "the libvirt on this host", &c->libvirt_uri},
            {"host", "peer_uri", NULL,
             "how other hosts' libvirt reaches this one's; default qemu+tls://ADDRESS/system", &c->peer_uri},
            {"host", "migration_tls", "yes",
             "encrypt migrations, with the certificates in /etc/pki/qemu (or where qemu.conf says): yes or "
             "no; "
             "the same on every host",
             &c->migration_tls_text},
            {"host", "bridge", "wherry0", "the bridge that guests are attached to", &c->bridge},
            {"host", "dhcp_hosts_dir", "/run/wherry/dhcp-hosts", "dnsmasq's --dhcp-hostsdir",
             &c->dhcp_hosts_dir},
            {"host", "gate_socket", "/run/wherry/gate.sock", "where the lock driver asks", &c->gate_socket},
            {"host", "cpus", "0", "cores to offer; 0: all", &c->cpus_text},
            {"host", "memory", "0", "memory to offer, e.g. 64G; 0: all but 512 MiB", &c->memory_text},
            {"host", "moves_out", "2",
             "so many guests leave at the same time; the others wait for their turn", &c->moves_out_text},
            {"host", "moves_in", "2", "so many guests arrive at the same time", &c->moves_in_text},
            {"host", "handover_seconds", "300",
             "how long a reboot may take to hand guests on, at most 1500; 0: they end with the host",
             &c->handover_text},
            {"api", "listen", "127.0.0.1:7070", "ADDRESS:PORT that imaged and other hosts call", &c->listen},
            {"api", "token_file", "/etc/wherry/cluster-token", "the cluster's token, the same on every host",
             &c->token_file},
        };

        memcpy(keys, table, sizeof(table));
}

void config_help(FILE *f)
{
        struct config c = {0};
        struct conf_key keys[N_KEYS];
        const char *section = "";

        config_keys(&c, keys);
        for (size_t i = 0; i < N_KEYS && keys[i].section; i++) {
                if (!streq(section, keys[i].section))
                        fprintf(f, "  [%s]\n", keys[i].section);
                section = keys[i].section;
                fprintf(f, "    %-16s %s%s%s%s\n", keys[i].name, keys[i].help,
                        keys[i].fallback ? " (default " : "", keys[i].fallback ? keys[i].fallback : "",
                        keys[i].fallback ? ")" : "");
        }
}

static int fill_in(char **value, char *fresh, struct err *err)
{
        if (!fresh)
                return err_set(err, -ENOMEM, "out of memory");
        free(*value);
        *value = fresh;
        return 0;
}

/* A number of moves at the same time. */
static int moves_parse(const char *path, const char *name, const char *text, unsigned *ret, struct err *err)
{
        char *end;
        unsigned long n = strtoul(text, &end, 10);

        if (end == text || *end || n < 1 || n > 1000)
                return err_set(err, -EINVAL, "%s: [host] %s = %s is not a number from 1 to 1000", path, name,
                               text);
        *ret = (unsigned)n;
        return 0;
}

static int config_check(const char *path, struct config *c, struct err *err)
{
        char hostname[65] = "";
        char *end;
        int r = 0;

        if (!c->store_url)
                return err_set(err, -EINVAL, "%s: [store] url is missing: say where the shared storage is",
                               path);
        if (!c->address)
                return err_set(err, -EINVAL,
                               "%s: [host] address is missing: say where other hosts reach this one", path);
        if (!c->name) {
                gethostname(hostname, sizeof(hostname) - 1);
                r = fill_in(&c->name, strdup(hostname), err);
        }
        if (r == 0 && !c->storage_address)
                r = fill_in(&c->storage_address, strdup(c->address), err);
        if (r == 0 && !c->peer_uri)
                r = fill_in(&c->peer_uri, str_printf("qemu+tls://%s/system", c->address), err);
        if (r < 0)
                return r;
        c->number = (unsigned)strtoul(c->number_text, &end, 10);
        if (*end || c->number > 65535)
                return err_set(err, -EINVAL, "%s: [host] number = %s is not a number from 0 to 65535", path,
                               c->number_text);
        c->handover_ms = (int64_t)strtoul(c->handover_text, &end, 10) * 1000;
        if (*end || c->handover_ms > 1500 * 1000)
                return err_set(err, -EINVAL,
                               "%s: [host] handover_seconds = %s is not a number from 0 to 1500", path,
                               c->handover_text);
        if (!streq(c->accel, "auto") && !streq(c->accel, "kvm") && !streq(c->accel, "tcg"))
                return err_set(err, -EINVAL, "%s: [host] accel = %s is none of auto, kvm, tcg", path,
                               c->accel);
        c->migration_tls = streq(c->migration_tls_text, "yes");
        if (!c->migration_tls && !streq(c->migration_tls_text, "no"))
                return err_set(err, -EINVAL, "%s: [host] migration_tls = %s is neither yes nor no", path,
                               c->migration_tls_text);
        r = moves_parse(path, "moves_out", c->moves_out_text, &c->moves_out, err);
        return r < 0 ? r : moves_parse(path, "moves_in", c->moves_in_text, &c->moves_in, err);
}

int config_load(const char *path, struct config *ret, struct err *err)
{
        struct config c = {0};
        struct conf_key keys[N_KEYS];
        size_t n = 0;
        int r;

        config_keys(&c, keys);
        while (n < N_KEYS && keys[n].section)
                n++;
        r = conf_load(path, keys, n, err);
        if (r < 0)
                return r;
        r = config_check(path, &c, err);
        if (r == 0)
                r = file_read(c.token_file, 4096, &c.token, NULL, err);
        if (r == 0) {
                c.token[strcspn(c.token, "\r\n")] = '\0';
                if (strlen(c.token) < 16)
                        r = err_set(err, -EINVAL, "%s: a token of %zu characters is too short: at least 16",
                                    c.token_file, strlen(c.token));
        }
        if (r < 0) {
                config_done(&c);
                return r;
        }
        *ret = c;
        return 0;
}

void config_done(struct config *c)
{
        struct conf_key keys[N_KEYS];
        size_t n = 0;

        config_keys(c, keys);
        while (n < N_KEYS && keys[n].section)
                n++;
        conf_done(keys, n);
        free(c->token);
        memset(c, 0, sizeof(*c));
}
