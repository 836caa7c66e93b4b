/* SPDX-License-Identifier: Apache-2.0 */
#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

int take_fd(int *fd)
{
        int v = *fd;

        *fd = -1;
        return v;
}

void freep(void *p)
{
        free(*(void **)p);
}

void closep(int *fd)
{
        if (*fd >= 0)
                close(*fd);
}

void fclosep(FILE **f)
{
        if (*f)
                fclose(*f);
}

bool streq(const char *a, const char *b)
{
        if (!a || !b)
                return a == b;
        return strcmp(a, b) == 0;
}

static void random_bytes(void *buf, size_t len)
{
        uint8_t *p = buf;

        while (len > 0) {
                ssize_t n = getrandom(p, len, 0);

                if (n < 0) {
                        if (errno == EINTR)
                                continue;
                        abort(); /* a kernel without getrandom: nothing below can be trusted */
                }
                p += n;
                len -= (size_t)n;
        }
}

uint64_t random_u64(void)
{
        uint64_t v;

        random_bytes(&v, sizeof(v));
        return v;
}

void uuid_random(char ret[UUID_LEN + 1])
{
        uint8_t b[16];

        random_bytes(b, sizeof(b));
        b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
        b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
        snprintf(ret, UUID_LEN + 1, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
                 b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13],
                 b[14], b[15]);
}

bool uuid_valid(const char *text)
{
        if (!text || strlen(text) != UUID_LEN)
                return false;
        for (int i = 0; i < UUID_LEN; i++) {
                bool dash = i == 8 || i == 13 || i == 18 || i == 23;

                if (dash ? text[i] != '-' : !strchr("0123456789abcdef", text[i]))
                        return false;
        }
        return true;
}

char *str_printf(const char *fmt, ...)
{
        va_list ap;
        char *s = NULL;
        int r;

        va_start(ap, fmt);
        r = vasprintf(&s, fmt, ap);
        va_end(ap);
        return r < 0 ? NULL : s;
}

int file_read(const char *path, size_t limit, char **ret, size_t *ret_len, struct err *err)
{
        _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
        _cleanup_(freep) char *buf = NULL;
        size_t len = 0, room = 0;

        if (fd < 0)
                return err_set(err, -errno, "%s: cannot open: %s", path, strerror(errno));
        for (;;) {
                ssize_t n;

                if (room - len < 2) {
                        char *bigger;

                        room = room ? room * 2 : 4096;
                        bigger = realloc(buf, room);
                        if (!bigger)
                                return err_set(err, -ENOMEM, "%s: out of memory", path);
                        buf = bigger;
                }
                n = read(fd, buf + len, room - len - 1);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return err_set(err, -errno, "%s: cannot read: %s", path, strerror(errno));
                if (n == 0)
                        break;
                len += (size_t)n;
                if (len > limit)
                        return err_set(err, -EFBIG, "%s: larger than the limit of %zu bytes", path, limit);
        }
        buf[len] = '\0';
        if (ret_len)
                *ret_len = len;
        *ret = take(buf);
        return 0;
}

int file_write(const char *path, const void *data, size_t len, mode_t mode, struct err *err)
{
        _cleanup_(freep) char *temporary = str_printf("%s.%016llx", path, (unsigned long long)random_u64());
        _cleanup_(closep) int fd = -1;
        int r;

        if (!temporary)
                return err_set(err, -ENOMEM, "%s: out of memory", path);
        fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (fd < 0)
                return err_set(err, -errno, "%s: cannot create: %s", path, strerror(errno));
        r = write_full(fd, data, len);
        if (r == 0 && fsync(fd) < 0)
                r = -errno;
        if (r == 0 && rename(temporary, path) < 0)
                r = -errno;
        if (r < 0) {
                unlink(temporary);
                return err_set(err, r, "%s: cannot write: %s", path, strerror(-r));
        }
        return 0;
}

int mkdir_p(const char *path, mode_t mode, struct err *err)
{
        _cleanup_(freep) char *copy = strdup(path);
        struct stat st;

        if (!copy)
                return err_set(err, -ENOMEM, "%s: out of memory", path);
        if (!copy[0])
                return err_set(err, -ENOENT, "cannot create a folder without a name");
        for (char *p = copy + 1;; p++) {
                char c = *p;

                if (c != '/' && c != '\0')
                        continue;
                *p = '\0';
                if (mkdir(copy, mode) < 0 && errno != EEXIST)
                        return err_set(err, -errno, "%s: cannot create folder: %s", copy, strerror(errno));
                if (c == '\0' && (stat(copy, &st) < 0 || !S_ISDIR(st.st_mode)))
                        return err_set(err, -ENOTDIR,
                                       "%s: cannot create folder: there is a file of that name", copy);
                *p = c;
                if (c == '\0')
                        return 0;
        }
}

int write_full(int fd, const void *data, size_t len)
{
        const uint8_t *p = data;

        while (len > 0) {
                ssize_t n = write(fd, p, len);

                if (n < 0) {
                        if (errno == EINTR)
                                continue;
                        return -errno;
                }
                p += n;
                len -= (size_t)n;
        }
        return 0;
}

ssize_t read_full(int fd, void *buf, size_t len)
{
        uint8_t *p = buf;
        size_t done = 0;

        while (done < len) {
                ssize_t n = read(fd, p + done, len - done);

                if (n < 0) {
                        if (errno == EINTR)
                                continue;
                        return -errno;
                }
                if (n == 0)
                        break;
                done += (size_t)n;
        }
        return (ssize_t)done;
}

/* 1 to 7 for K to E behind a number, with "iB" or "B" after it if wanted; 0 for "" and "B"; -EINVAL
 * otherwise. */
static int unit_parse(const char *text)
{
        static const char units[] = "KMGTPE";
        const char *unit;

        if (*text == '\0' || streq(text, "B"))
                return 0;
        unit = strchr(units, *text & ~0x20);
        if (!unit || *unit == '\0')
                return -EINVAL;
        text++;
        if (*text != '\0' && !streq(text, "iB") && !streq(text, "B"))
                return -EINVAL;
        return (int)(unit - units) + 1;
}

int size_parse(const char *text, uint64_t *ret)
{
        static const char digits[] = "0123456789";
        size_t whole_len, fraction_len = 0;
        unsigned long long whole;
        double number;
        int unit;

        if (!text)
                return -EINVAL;
        /* What strtod would take besides, an exponent or hexadecimal digits, is no size. */
        whole_len = strspn(text, digits);
        if (whole_len > 0 && text[whole_len] == '.')
                fraction_len = 1 + strspn(text + whole_len + 1, digits);
        if (whole_len == 0 || fraction_len == 1)
                return -EINVAL;
        unit = unit_parse(text + whole_len + fraction_len);
        if (unit < 0 || (unit == 0 && fraction_len))
                return -EINVAL;
        if (!fraction_len) { /* whole numbers exactly: a double has 53 bits only */
                errno = 0;
                whole = strtoull(text, NULL, 10);
                if (errno || whole > (UINT64_MAX >> (10 * unit)))
                        return -ERANGE;
                *ret = (uint64_t)whole << (10 * unit);
                return 0;
        }
        number = strtod(text, NULL) * (double)(1ULL << (10 * unit));
        if (number >= 18446744073709551615.0)
                return -ERANGE;
        *ret = (uint64_t)number;
        return 0;
}

const char *size_format(uint64_t bytes, char *buf, size_t len)
{
        static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
        double value = (double)bytes;
        size_t u = 0;

        while (value >= 1023.5 && u + 1 < ARRAY_SIZE(units)) { /* not "1024 MiB" */
                value /= 1024;
                u++;
        }
        /* Tenths where they say something: 1.5, 10.5, but 105 and 10. */
        if (value < 99.95 && (uint64_t)(value * 10 + 0.5) % 10 != 0)
                snprintf(buf, len, "%.1f %s", value, units[u]);
        else
                snprintf(buf, len, "%.0f %s", value, units[u]);
        return buf;
}
