/* SPDX-License-Identifier: Apache-2.0 */

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/util.h"
#include "hostd/virt/internal.h"

/*
 * Whether the libvirtd that we talk to has the lock driver loaded: not by its configuration, which may have
 * been changed since it started, but by what its process has mapped.
 */

#define MAPS_MAX (8 * 1024 * 1024)

/* The Unix socket behind the URI: "...?socket=PATH", or the first of libvirt's own that exists. */
static char *socket_path(const char *uri)
{
        static const char *const usual[] = {"/run/libvirt/virtqemud-sock", "/run/libvirt/libvirt-sock"};
        const char *p = strstr(uri, "socket=");

        if (p && (p[-1] == '?' || p[-1] == '&'))
                return strndup(p + 7, strcspn(p + 7, "&"));
        for (size_t i = 0; i < ARRAY_SIZE(usual); i++)
                if (access(usual[i], F_OK) == 0)
                        return strdup(usual[i]);
        return strdup(usual[0]);
}

/* Who listens there. Under socket activation that is systemd (1), which passed the socket on. */
static int listener_pid(const char *path, pid_t *ret, struct err *err)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        _cleanup_(closep) int fd = -1;
        struct ucred peer;
        socklen_t len = sizeof peer;

        if (strlen(path) >= sizeof address.sun_path)
                return err_set(err, -ENAMETOOLONG, "libvirt's socket %s: the path is too long", path);
        strcpy(address.sun_path, path);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
            getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
                return err_set(err, -errno, "libvirt's socket %s: %s", path, strerror(errno));
        *ret = peer.pid;
        return 0;
}

static bool has_name(pid_t pid, const char *name)
{
        char path[64], exe[512];
        const char *base;
        ssize_t n;

        snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
        n = readlink(path, exe, sizeof exe - 1);
        if (n <= 0)
                return false;
        exe[n] = '\0';
        base = strrchr(exe, '/');
        return streq(base ? base + 1 : exe, name);
}

static bool same_mounts(pid_t pid)
{
        struct stat own, other;
        char path[64];

        snprintf(path, sizeof path, "/proc/%d/ns/mnt", (int)pid);
        return stat("/proc/self/ns/mnt", &own) == 0 && stat(path, &other) == 0 && own.st_ino == other.st_ino;
}

/* The daemon that systemd started for the socket: its name is in the socket's, and it sees the files that we
 * see. */
static pid_t activated_pid(const char *socket)
{
        const char *name = strstr(socket, "virtqemud") ? "virtqemud" : "libvirtd";
        struct dirent *e;
        pid_t pid = 0;
        DIR *dir = opendir("/proc");

        while (dir && !pid && (e = readdir(dir))) {
                pid_t one = isdigit((unsigned char)e->d_name[0]) ? (pid_t)atoi(e->d_name) : 0;

                if (one > 1 && has_name(one, name) && same_mounts(one))
                        pid = one;
        }
        if (dir)
                closedir(dir);
        return pid;
}

/* ret_replaced: an upgrade has put another file in the place of the one that is mapped. */
static bool has_mapped(const char *maps, const char *name, bool *ret_replaced)
{
        static const char deleted[] = " (deleted)";
        const char *p = maps;
        size_t len = strlen(name);

        while ((p = strstr(p, name))) {
                const char *end = p + len;

                *ret_replaced = strncmp(end, deleted, strlen(deleted)) == 0;
                if (*ret_replaced)
                        end += strlen(deleted);
                if (p > maps && p[-1] == '/' && (*end == '\n' || *end == '\0'))
                        return true;
                p += len;
        }
        return false;
}

int virt_daemon_check(const char *uri, const char *driver_name, struct err *err)
{
        _cleanup_(freep) char *socket = socket_path(uri), *maps = NULL;
        bool replaced = false;
        char path[64];
        pid_t pid = 0;
        size_t len;
        int r;

        if (!socket)
                return err_set(err, -ENOMEM, "libvirt: out of memory");
        r = listener_pid(socket, &pid, err);
        if (r < 0)
                return r;
        if (pid <= 1)
                pid = activated_pid(socket);
        if (pid <= 1)
                return err_set(err, -ESRCH, "cannot find the libvirtd behind %s in /proc", socket);
        snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
        r = file_read(path, MAPS_MAX, &maps, &len, err);
        if (r < 0)
                return err_wrap(err, r, "does libvirtd have the lock driver loaded");
        if (has_mapped(maps, driver_name, &replaced))
                return replaced ? (int)pid : 0;
        return err_set(
            err, -ENOEXEC,
            "libvirtd (process %d) runs without the lock driver: set lock_manager = \"%.*s\" in "
            "/etc/libvirt/qemu.conf, install %s in libvirt's lock-driver folder, and restart libvirtd",
            (int)pid, (int)strcspn(driver_name, "."), driver_name, driver_name);
}
