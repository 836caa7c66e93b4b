/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/util.h"
#include "hostd/virt/virt.h"

/*
 * What libvirt leaves behind of a transient domain that has ended: its log.
 *
 *   2026-01-31 12:00:00.000+0000: starting up libvirt version: ...
 *   4711@1769862590.312859:qemu_system_powerdown_request
 *   2026-01-31T12:30:00.000000Z qemu-system-x86_64: terminating on signal 15 from pid 1 (systemd)
 *   2026-01-31 12:30:00.000+0000: shutting down, reason=shutdown
 *
 * "shutdown" is what the guest's own power-off and a signal to QEMU both end in. libvirt itself signals a
 * QEMU whose guest has powered off; a signal from anybody else is nobody's wish to keep the guest off. The
 * second line is a press of the power button: QEMU writes it because domain.c asks for that trace event.
 */
#define LOG_FOLDER "/var/log/libvirt/qemu"
#define LOG_TAIL (128 * 1024) /* a command line of QEMU is a few KiB */

/* Of the line in which `at` stands, as libvirt writes it; 0: it cannot be read. */
static int64_t stamp_ms(const char *text, const char *at)
{
        struct tm tm = {0};
        const char *dot;

        while (at > text && at[-1] != '\n')
                at--;
        dot = strptime(at, "%Y-%m-%d %H:%M:%S", &tm);
        return dot && *dot == '.' ? (int64_t)timegm(&tm) * 1000 + atoi(dot + 1) : 0;
}

/* The last press between two places, by QEMU's clock, which is libvirt's. */
static bool log_pressed(const char *run, const char *end, int64_t *ret_ms)
{
        static const char press[] = ":qemu_system_powerdown_request";
        bool found = false;

        for (const char *p = run; (p = strstr(p, press)) && p < end; p += strlen(press)) {
                const char *at = p;

                while (at > run && at[-1] != '@' && at[-1] != '\n')
                        at--;
                *ret_ms = (int64_t)(strtod(at, NULL) * 1000);
                found = true;
        }
        return found;
}

static bool log_off(const char *run, const char *end)
{
        static const char signal[] = ": terminating on signal ";

        for (const char *p = run; (p = strstr(p, signal)) && p < end; p += strlen(signal)) {
                const char *by = strstr(p, " ("), *line = strchr(p, '\n');

                if (!by || (line && by > line) ||
                    (strncmp(by, " (libvirtd)", 11) != 0 && strncmp(by, " (virtqemud)", 12) != 0))
                        return false;
        }
        return true;
}

void virt_log_ended(const char *text, struct virt_end *ret)
{
        static const char begin[] = ": starting up libvirt", reason[] = ": shutting down, reason=";
        const char *run = NULL, *end;
        int64_t pressed = 0, ended;

        *ret = (struct virt_end){0};
        for (const char *p = text; (p = strstr(p, begin)); p += strlen(begin))
                run = p;
        end = run ? strstr(run, reason) : NULL;
        if (!end)
                return;
        ret->off = strncmp(end + strlen(reason), "shutdown\n", 9) == 0 && log_off(run, end);
        ret->pressed = log_pressed(run, end, &pressed);
        ended = stamp_ms(text, end);
        if (ret->pressed && ended > pressed)
                ret->pressed_ms = ended - pressed;
}

int virt_ended(const char *name, struct virt_end *ret, struct err *err)
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
        virt_log_ended(text, ret);
        return 0;
}
