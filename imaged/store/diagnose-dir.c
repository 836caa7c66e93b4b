/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "imaged/store/files.h"

/*
 * A directory's fence is QEMU's image lock, and so reaches as far as the locks of its file system do. The
 * self-test tries them in one process; whether another machine would see them only the mount tells.
 */
static bool has_option(const char *options, const char *name)
{
        size_t n = strlen(name);

        for (const char *p = options; *p; p += strcspn(p, ",") + (p[strcspn(p, ",")] == ',')) {
                if (strncmp(p, name, n) == 0 && (p[n] == ',' || p[n] == '\0'))
                        return true;
        }
        return false;
}

static bool one_of(const char *word, const char *const *words)
{
        while (*words && !streq(word, *words))
                words++;
        return *words != NULL;
}

enum locks_reach locks_reach(const char *type, const char *options)
{
        static const char *const cluster[] = {"ceph",      "gfs2",           "ocfs2",
                                              "lustre",    "gpfs",           "fuse.glusterfs",
                                              "fuse.ceph", "fuse.ceph-fuse", NULL};
        /* What a hypervisor or a daemon passes on: whether it passes locks on, too, is not told here. */
        static const char *const passed_on[] = {"fuse", "fuseblk", "9p", "virtiofs", "beegfs", NULL};

        if (streq(type, "nfs") || streq(type, "nfs4"))
                return has_option(options, "nolock") || has_option(options, "local_lock=all") ||
                               has_option(options, "local_lock=posix")
                           ? LOCKS_LOCAL
                           : LOCKS_CLUSTER;
        if (streq(type, "cifs") || streq(type, "smb3"))
                return has_option(options, "nobrl") ? LOCKS_LOCAL : LOCKS_CLUSTER;
        if (one_of(type, cluster))
                return LOCKS_CLUSTER;
        return one_of(type, passed_on) || strncmp(type, "fuse.", 5) == 0 ? LOCKS_UNKNOWN : LOCKS_LOCAL;
}

static int mount_id(int fd)
{
        _cleanup_(freep) char *path = str_printf("/proc/self/fdinfo/%d", fd);
        _cleanup_(fclosep) FILE *f = path ? fopen(path, "re") : NULL;
        char line[128];
        int id = -1;

        while (f && fgets(line, sizeof(line), f)) {
                if (sscanf(line, "mnt_id: %d", &id) == 1)
                        break;
        }
        return id;
}

/* proc(5): "ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [FIELD...] - TYPE SOURCE SUPER-OPTIONS" */
static int mount_of(int fd, char type[64], char **ret_options, struct err *err)
{
        _cleanup_(fclosep) FILE *f = fopen("/proc/self/mountinfo", "re");
        _cleanup_(freep) char *line = NULL;
        int wanted = mount_id(fd), at;
        size_t room = 0;

        while (f && getline(&line, &room, f) > 0) {
                char *rest = strstr(line, " - "), *options;

                if (!rest || atoi(line) != wanted)
                        continue;
                if (sscanf(rest, " - %63s %*s %n", type, &at) != 1)
                        break;
                options = rest + at;
                options[strcspn(options, "\n")] = '\0';
                *ret_options = strdup(options);
                return *ret_options ? 0 : err_set(err, -ENOMEM, "out of memory");
        }
        return err_set(err, -EIO, "the file system of the store is not in /proc/self/mountinfo");
}

int files_diagnose_dir(struct store *s, bool many_machines, store_finding_cb cb, void *arg, struct err *err)
{
        struct fs *fs = files_of(s)->fs;
        _cleanup_(freep) char *options = NULL, *text = NULL;
        struct store_finding f = {.code = "local-locks"};
        enum locks_reach reach;
        char type[64] = "";
        bool network;
        int r = mount_of(fs_dir_root(fs), type, &options, err);

        if (r < 0)
                return r;
        reach = locks_reach(type, options);
        network = streq(type, "nfs") || streq(type, "nfs4") || streq(type, "cifs") || streq(type, "smb3");
        if (reach == LOCKS_CLUSTER || !(many_machines || (network && reach == LOCKS_LOCAL)))
                return 0;
        if (network) {
                text = str_printf("%s is %s mounted with locks that only this machine sees (%s)",
                                  fs_dir_path(fs), type, options);
                f.advice = "mount it without nolock, local_lock and nobrl; or better let Wherry talk to the "
                           "server itself (nfs://SERVER/EXPORT)";
        } else if (reach == LOCKS_LOCAL) {
                text = str_printf("%s is on %s, whose locks only one machine sees, but the hosts are on "
                                  "several machines",
                                  fs_dir_path(fs), type);
                f.advice = "use nfs:// or rbd: for hosts on several machines, or a cluster file system with "
                           "cluster-wide POSIX locks; take the other hosts off this store at once";
        } else {
                text =
                    str_printf("%s is on %s; whether all machines see one another's locks there cannot be "
                               "told",
                               fs_dir_path(fs), type);
                f.advice = "make sure that POSIX locks work across its clients, or use nfs:// or rbd:";
        }
        f.text = text;
        return text ? cb(arg, &f) : err_set(err, -ENOMEM, "out of memory");
}
