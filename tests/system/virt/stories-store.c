/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <nfsc/libnfs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hostd/domain/domain.h"
#include "tests/system/virt/lab.h"
#include "tests/system/virt/stories.h"

/* What libvirt makes of our disks: QEMU's own arguments, in which no layer may be left for QEMU to find out
 * by itself. */

static char *native(const struct domain_spec *s, const char *name)
{
        _cleanup_(freep) char *xml = NULL;
        char *out = calloc(1, 65536), path[300];
        struct err err = {0};

        assert_non_null(out);
        assert_ok(domain_xml(s, &xml, &err), &err);
        snprintf(path, sizeof path, "%s/%s.xml", lab->folder, name);
        assert_ok(file_write(path, xml, strlen(xml), 0600, &err), &err);
        if (shell(out, 65536, "virsh -c '%s' domxml-to-native qemu-argv --xml %s 2>&1", lab->hosts[1].uri,
                  path) != 0)
                fail_msg("%s", out);
        return out;
}

static void assert_has(const char *text, const char *part)
{
        if (!strstr(text, part))
                fail_msg("no %s in:\n%s", part, text);
}

static struct domain_spec spec(struct domain_disk *disk)
{
        struct domain_spec s = {.instance = "11111111-2222-4333-8444-555555555555",
                                .name = "native",
                                .cpus = 2,
                                .memory = 64 << 20,
                                .disks = disk,
                                .n_disks = 1,
                                .rbd_user = "wherry",
                                .rbd_secret = "client.wherry secret",
                                .lock_path = "/dev/null"};

        memcpy(s.lease.instance, s.instance, sizeof s.lease.instance);
        uuid_random(s.lease.start.id);
        snprintf(disk->name, sizeof disk->name, "disk0");
        return s;
}

void nfs_disk_carries_a_user_for_each_layer(void **state)
{
        struct domain_disk d = {.attach = {.kind = ATTACH_NFS,
                                           .path = "/export/a/disk0",
                                           .server = "10.1.2.3",
                                           .uid = 700001,
                                           .gid = 800001,
                                           .qcow2 = true,
                                           .has_backing = true,
                                           .backing_path = "/export/golden/x",
                                           .backing_uid = 65001,
                                           .backing_gid = 65002}};
        struct domain_spec s = spec(&d);
        _cleanup_(freep) char *argv = native(&s, "nfs");

        assert_has(argv, "\"driver\":\"nfs\",\"server\":{\"host\":\"10.1.2.3\",\"type\":\"inet\"},\"path\":"
                         "\"/export/a/disk0\",\"user\":700001,\"group\":800001");
        assert_has(argv, "\"path\":\"/export/golden/x\",\"user\":65001,\"group\":65002");
        assert_has(argv, "\"driver\":\"qcow2\"");
        assert_has(argv, "\"backing\":\"libvirt-2-format\""); /* by name: QEMU reads no header for it */
        assert_has(argv, "\"cache\":{\"direct\":true,\"no-flush\":false}");
        assert_has(argv, "\"rerror\":\"stop\"");
        assert_has(argv, "\"werror\":\"stop\"");
}

void rbd_disk_names_monitors_user_and_secret(void **state)
{
        struct domain_disk d = {
            .attach = {.kind = ATTACH_RBD, .path = "vms/11.e1.h1", .server = "10.1.2.3:6789,10.1.2.4:6790"}};
        struct domain_spec s = spec(&d);
        _cleanup_(freep) char *argv = NULL;
        struct err err = {0};

        assert_ok(virt_secret(lab->hosts[1].virt, s.rbd_secret, "QVFBd2hlcnJ5a2V5bm90YXNlY3JldA==", &err),
                  &err);
        assert_ok(virt_secret(lab->hosts[1].virt, s.rbd_secret, "QVFBd2hlcnJ5a2V5bm90YXNlY3JldA==", &err),
                  &err);
        argv = native(&s, "rbd");
        assert_has(argv, "\"driver\":\"rbd\",\"pool\":\"vms\",\"image\":\"11.e1.h1\"");
        assert_has(argv,
                   "{\"host\":\"10.1.2.3\",\"port\":\"6789\"},{\"host\":\"10.1.2.4\",\"port\":\"6790\"}");
        assert_has(argv, "\"user\":\"wherry\"");
        assert_has(argv, "\"key-secret\"");
        assert_has(argv, "\"driver\":\"raw\"");
}

/* --- a guest on a real NFS server --- */

#define OWNER_1 700001
#define OWNER_2 700002
#define OWNER_3 700003
#define GROUP 800001

static void through_the_server(const char *path, int uid, int gid, int mode)
{
        struct nfs_context *nfs = nfs_init_context();

        assert_non_null(nfs);
        if (nfs_mount(nfs, "10.0.0.254", "/export") != 0 || nfs_chown(nfs, path, uid, gid) != 0 ||
            nfs_chmod(nfs, path, mode) != 0)
                fail_msg("%s: %s", path, nfs_get_error(nfs));
        nfs_destroy_context(nfs);
}

static void export_fill(void)
{
        char out[512];

        if (shell(out, sizeof out,
                  "exec 2>&1; set -e; cd %s/nfs/export; cp ../../guest.bin golden; truncate -s 4M golden;"
                  "qemu-img create -q -f qcow2 -b golden -F raw disk0; chown 65001 golden; chmod 644 golden;"
                  "chown %d:0 disk0; chmod 600 disk0",
                  lab->folder, OWNER_1) != 0)
                fail_msg("%s", out);
}

static int only_migration(struct lab *l, int host, const struct gate_request *req, struct err *err)
{
        if (req->question == GATE_ACQUIRE && host == 2 && l->hook_arg)
                return err_set(err, -EACCES, "fenced");
        return 0;
}

void nfs_guest_moves_with_a_grant_and_stops_when_fenced(void **state)
{
        struct domain_disk d = {.attach = {.kind = ATTACH_NFS,
                                           .path = "/export/disk0",
                                           .server = "10.0.0.254",
                                           .uid = OWNER_1,
                                           .qcow2 = true,
                                           .has_backing = true,
                                           .backing_path = "/export/golden",
                                           .backing_uid = 65001,
                                           .backing_gid = 65001}};
        struct domain_spec s = spec(&d);
        _cleanup_(freep) char *first = NULL, *second = NULL;
        struct virt_migration m = {.instance = s.instance,
                                   .destination = "qemu+tcp://10.0.0.2/system",
                                   .migrate_uri = "tcp://10.0.0.2"};
        struct guest g = {0};
        struct virt_progress p;
        struct err err = {0};

        lab_reset(only_migration, NULL);
        export_fill();
        memcpy(g.id, s.instance, sizeof g.id);
        assert_ok(domain_xml(&s, &first, &err), &err);
        assert_ok(virt_start(lab->hosts[1].virt, first, &err), &err);
        assert_true(guest_ticks(&g, 1, 3, 15000));

        /* The grant: a group of its own for the destination's QEMU, which is another user. No flag forces
         * libvirt. */
        through_the_server("/disk0", OWNER_1, GROUP, 0660);
        d.attach.uid = OWNER_2;
        d.attach.gid = GROUP;
        assert_ok(domain_xml(&s, &second, &err), &err);
        m.xml = second;
        assert_ok(virt_migrate(lab->hosts[1].virt, &m, &p, &err), &err);
        printf("    MEASURED migration on NFS: %d ms, downtime %d ms\n", (int)p.elapsed_ms,
               (int)p.downtime_ms);
        assert_true(guest_ticks(&g, 2, 3, 5000));

        lab_reset(only_migration, &s);
        through_the_server("/disk0", OWNER_3, 0, 0600);
        assert_true(mark_wait(0, MARK_EVENT, 2, VIRT_IO_ERROR, "efault", 3000) >= 0);
        assert_true(mark_wait(0, MARK_EVENT, 2, VIRT_SUSPENDED, "ioerror", 3000) >= 0);
        assert_int_equal(virt_resume(lab->hosts[2].virt, g.id, &err), -EACCES);
        assert_ok(virt_kill(lab->hosts[2].virt, g.id, &err), &err);
}
