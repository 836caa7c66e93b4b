/* SPDX-License-Identifier: Apache-2.0 */

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/util.h"
#include "hostd/virt/internal.h"

/*
 * QEMU processes as the kernel sees them: libvirtd may be hung, gone, or have forgotten one. Only processes in
 * this thread's network namespace count: with several hosts on one machine (a test lab) each sees its own.
 */

#define KILL_WAIT_MS 20000 /* a QEMU inside a system call on dead storage dies when that returns */

static bool same_network(pid_t pid, const struct stat *own)
{
        char path[64];
        struct stat st;

        snprintf(path, sizeof path, "/proc/%d/ns/net", (int)pid);
        return stat(path, &st) == 0 && st.st_dev == own->st_dev && st.st_ino == own->st_ino;
}

int virt_processes(struct virt *v, struct virt_domain **ret, size_t *ret_n, struct err *err)
{
        _cleanup_(freep) struct virt_domain *list = NULL;
        size_t n = 0, room = 0;
        int unread = 0, r;
        struct stat own;
        struct dirent *e;
        DIR *dir;

        if (stat("/proc/thread-self/ns/net", &own) < 0)
                return err_set(err, -errno, "/proc/thread-self/ns/net: %s", strerror(errno));
        dir = opendir("/proc");
        if (!dir)
                return err_set(err, -errno, "/proc: %s", strerror(errno));
        while ((e = readdir(dir))) {
                struct virt_domain d = {0};

                if (!isdigit((unsigned char)e->d_name[0]))
                        continue;
                d.pid = (pid_t)atoi(e->d_name);
                if (!same_network(d.pid, &own))
                        continue;
                r = cmdline_instance(v->cmdlines, d.pid, d.lease.instance);
                unread += r == -ETIMEDOUT;
                if (r != 1)
                        continue;
                if (n == room) {
                        struct virt_domain *more;

                        room = room ? room * 2 : 16;
                        more = reallocarray(list, room, sizeof *list);
                        if (!more) {
                                closedir(dir);
                                return err_set(err, -ENOMEM, "list the QEMU processes: out of memory");
                        }
                        list = more;
                }
                list[n++] = d;
        }
        closedir(dir);
        *ret = take(list);
        *ret_n = n;
        return unread;
}

int virt_kill_pid(struct virt *v, pid_t pid, const char *instance, struct err *err)
{
        _cleanup_(closep) int fd = (int)syscall(SYS_pidfd_open, pid, 0);
        char found[UUID_LEN + 1];
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t deadline = clock_ms() + KILL_WAIT_MS, left;
        int r;

        if (fd < 0)
                return errno == ESRCH ? 0 : err_set(err, -errno, "QEMU %d: %s", (int)pid, strerror(errno));
        /* From here on the pidfd is that process; is it the one that was meant? Its number may have been
         * used again. */
        r = cmdline_instance(v->cmdlines, pid, found);
        if (r == -ETIMEDOUT)
                return err_set(err, r,
                               "process %d does not let its command line be read: is it the QEMU of "
                               "instance %s?",
                               (int)pid, instance);
        if (r == 0 || (r == 1 && !streq(found, instance)))
                return err_set(err, -ESRCH, "process %d is not the QEMU of instance %s", (int)pid, instance);
        if (r == 1 && syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
                return err_set(err, -errno, "kill QEMU %d of instance %s: %s", (int)pid, instance,
                               strerror(errno));
        do {
                left = deadline - clock_ms();
                r = poll(&p, 1, left > 0 ? (int)left : 0);
        } while (r < 0 && errno == EINTR);
        if (r != 1)
                return err_set(err, -ETIMEDOUT, "QEMU %d of instance %s has not died in %d ms after SIGKILL",
                               (int)pid, instance, KILL_WAIT_MS);
        return 0;
}
