/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/util.h"
#include "hostd/virt/virt.h"

/*
 * What libvirt leaves behind of a transient domain that has ended: its log. Nobody listened when it did.
 *
 *   2026-01-31 12:00:00.000+0000: starting up libvirt version: ...
 *   2026-01-31T12:30:00.000000Z qemu-system-x86_64: terminating on signal 15 from pid 1 (systemd)
 *   2026-01-31 12:30:00.000+0000: shutting down, reason=shutdown
 *
 * "shutdown" is what the guest's own power-off and a signal to QEMU both end in. libvirt itself signals a
 * QEMU whose guest has powered off; a signal from anybody else is nobody's wish to keep the guest off.
 */
#define LOG_FOLDER "/var/log/libvirt/qemu"
#define LOG_TAIL (128 * 1024) /* a command line of QEMU is a few KiB */

bool virt_log_powered_off(const char *text)
{
        static const char begin[] = ": starting up libvirt", end[] = ": shutting down, reason=";
        static const char signal[] = ": terminating on signal ";
        const char *run = NULL, *reason;

        for (const char *p = text; (p = strstr(p, begin)); p += strlen(begin))
                run = p;
        reason = run ? strstr(run, end) : NULL;
        if (!reason || strncmp(reason + strlen(end), "shutdown\n", 9) != 0)
                return false;
        for (const char *p = run; (p = strstr(p, signal)) && p < reason; p += strlen(signal)) {
                const char *by = strstr(p, " ("), *line = strchr(p, '\n');

                if (!by || (line && by > line) ||
                    (strncmp(by, " (libvirtd)", 11) != 0 && strncmp(by, " (virtqemud)", 12) != 0))
                        return false;
        }
        return true;
}

int virt_powered_off(const char *name, bool *ret, struct err *err)
{
        _cleanup_(freep) char *path = str_printf(LOG_FOLDER "/wherry-%s.log", name), *text = NULL;
        _cleanup_(closep) int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        struct stat st;
        off_t from;
        ssize_t n;

        if (!path)
                return err_set(err, -ENOMEM, "out of memory");
        if (fd < 0 || fstat(fd, &st) < 0)
                return err_set(err, -errno, "%s: %s", path, strerror(errno));
        from = st.st_size > LOG_TAIL ? st.st_size - LOG_TAIL : 0;
        text = calloc(1, LOG_TAIL + 1);
        if (!text)
                return err_set(err, -ENOMEM, "out of memory");
        n = pread(fd, text, LOG_TAIL, from);
        if (n < 0)
                return err_set(err, -errno, "%s: %s", path, strerror(errno));
        for (ssize_t i = 0; i < n; i++) /* a guest's name for itself may be in there: any byte */
                if (text[i] == '\0')
                        text[i] = ' ';
        *ret = virt_log_powered_off(text);
        return 0;
}
