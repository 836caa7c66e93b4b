/* SPDX-License-Identifier: Apache-2.0 */

#include "hostd/domain/disk.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/util.h"

/*
 * Every chain is spelled out to its end (an empty <backingStore/>), so that neither libvirt nor QEMU ever
 * looks into a guest's disk to find out what lies below it: its content is a stranger's.
 */

static int emit_hosts(FILE *f, const struct attach *a, struct err *err)
{
        const char *p = a->server;

        while (*p) {
                char one[256];
                const char *port;
                size_t n = strcspn(p, ",");

                if (n >= sizeof one)
                        return err_set(err, -EINVAL, "disk %s: server \"%.100s\" is too long", a->path, p);
                memcpy(one, p, n);
                one[n] = '\0';
                p += n + (p[n] == ',');
                if (!n)
                        continue;
                /* "host:port", "[v6]:port", "host"; an NFS server has no port here. */
                port = strrchr(one, ':');
                if (port && strchr(port, ']'))
                        port = NULL;
                if (port && port != one && (one[0] == '[' || strchr(one, ':') == port)) {
                        one[port - one] = '\0';
                        port++;
                } else {
                        port = NULL;
                }
                if (one[0] == '[' && one[strlen(one) - 1] == ']') {
                        one[strlen(one) - 1] = '\0';
                        memmove(one, one + 1, strlen(one));
                }
                xml_put(f, "<host name='%s'", one);
                if (port)
                        xml_put(f, " port='%s'", port);
                fputs("/>", f);
        }
        return 0;
}

static int emit_source(FILE *f, const struct domain_spec *s, const struct attach *a, const char *path,
                       uint32_t uid, uint32_t gid, struct err *err)
{
        const char *slash;
        int r;

        switch (a->kind) {
        case ATTACH_FILE:
                xml_put(f, "<source file='%s'/>", path);
                return 0;
        case ATTACH_NFS:
                xml_put(f, "<source protocol='nfs' name='%s'>", path);
                r = emit_hosts(f, a, err);
                if (r < 0)
                        return r;
                /* "+": a number, never looked up as a name. */
                fprintf(f, "<identity user='+%" PRIu32 "' group='+%" PRIu32 "'/></source>", uid, gid);
                return 0;
        case ATTACH_RBD:
                slash = strchr(path, '/');
                if (slash && strchr(slash + 1, '/'))
                        return err_set(err, -EOPNOTSUPP,
                                       "disk %s: libvirt up to 9.0 cannot name an RBD namespace; use a pool",
                                       path);
                xml_put(f, "<source protocol='rbd' name='%s'>", path);
                r = emit_hosts(f, a, err);
                if (r < 0)
                        return r;
                if (s->rbd_user && s->rbd_secret) {
                        xml_put(f, "<auth username='%s'>", s->rbd_user);
                        xml_put(f, "<secret type='ceph' usage='%s'/></auth>", s->rbd_secret);
                }
                fputs("</source>", f);
                return 0;
        }
        return err_set(err, -EINVAL, "disk %s: unknown kind %d", path, a->kind);
}

static int disk_check(const struct attach *a, struct err *err)
{
        if (a->kind == ATTACH_FILE && a->path[0] != '/')
                return err_set(err, -EINVAL, "disk \"%s\": no absolute path", a->path);
        if (a->kind != ATTACH_FILE && (!a->path[0] || !a->server[0]))
                return err_set(err, -EINVAL, "disk \"%s\" on \"%s\": no path or no server", a->path,
                               a->server);
        if (a->has_backing && !a->backing_path[0])
                return err_set(err, -EINVAL, "disk %s: its backing file has no path", a->path);
        return 0;
}

static int emit_disk(FILE *f, const struct domain_spec *s, const struct attach *a, unsigned letter,
                     unsigned boot, struct err *err)
{
        const char *type = a->kind == ATTACH_FILE ? "file" : "network";
        int r = disk_check(a, err);

        if (r < 0)
                return r;
        fprintf(f, "    <disk type='%s' device='%s'>", type, a->read_only ? "cdrom" : "disk");
        fprintf(f, "<driver name='qemu' type='%s' cache='none'%s/>", a->qcow2 ? "qcow2" : "raw",
                a->read_only ? "" : " error_policy='stop' rerror_policy='stop' discard='unmap'");
        r = emit_source(f, s, a, a->path, a->uid, a->gid, err);
        if (r < 0)
                return r;
        if (a->has_backing) {
                fprintf(f, "<backingStore type='%s'><format type='raw'/>", type);
                r = emit_source(f, s, a, a->backing_path, a->backing_uid, a->backing_gid, err);
                if (r < 0)
                        return r;
                fputs("<backingStore/></backingStore>", f);
        } else {
                fputs("<backingStore/>", f);
        }
        fprintf(f, "<target dev='%s%c' bus='%s'/>", a->read_only ? "sd" : "vd", 'a' + (int)letter,
                a->read_only ? "scsi" : "virtio");
        if (boot)
                fprintf(f, "<boot order='%u'/>", boot);
        fputs(a->read_only ? "<readonly/></disk>\n" : "</disk>\n", f);
        return 0;
}

int domain_disks_emit(FILE *f, const struct domain_spec *s, struct err *err)
{
        unsigned writable = 0, cdroms = 0;
        int r;

        /* virtio for CD-ROMs, too: cloud kernels have no AHCI. */
        fputs("    <controller type='scsi' model='virtio-scsi'/>\n", f);
        for (size_t i = 0; i < s->n_disks; i++) {
                const struct attach *a = &s->disks[i].attach;
                unsigned letter = a->read_only ? cdroms++ : writable++;
                unsigned boot = 0;

                if (letter >= 26)
                        return err_set(err, -EINVAL, "instance %s: too many disks", s->instance);
                if (!a->read_only && letter == 0)
                        boot = 1;
                else if (a->read_only && s->boot_cdrom_second)
                        boot = 2 + letter;
                r = emit_disk(f, s, a, letter, boot, err);
                if (r < 0)
                        return err_wrap(err, r, "instance %s", s->instance);
        }
        return 0;
}
