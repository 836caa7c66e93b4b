/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/util.h"
#include "formats/formats.h"
#include "imaged/cli/cli.h"
#include "imaged/cli/human.h"
#include "imaged/cli/image-inspect.h"
#include "imaged/cli/interrupt.h"
#include "imaged/cli/progress.h"

#define PIECE ((size_t)1 << 20)
#define BLOCK ((size_t)4096)

static bool is_zero(const uint8_t *p, size_t len)
{
        return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

static int write_at(int fd, const uint8_t *buf, size_t len, uint64_t offset, struct err *err)
{
        while (len > 0) {
                ssize_t n = pwrite(fd, buf, len, (off_t)offset);

                if (n < 0 && errno == EINTR && !interrupted())
                        continue;
                if (n < 0)
                        return err_set(err, -errno, "cannot write at offset %llu: %s",
                                       (unsigned long long)offset, strerror(errno));
                buf += n;
                len -= (size_t)n;
                offset += (uint64_t)n;
        }
        return 0;
}

/* Blocks of zeros stay holes. */
static int write_sparse(int fd, const uint8_t *buf, size_t len, uint64_t offset, uint64_t *data,
                        struct err *err)
{
        for (size_t at = 0; at < len;) {
                size_t end = at;
                int r;

                while (end < len && !is_zero(buf + end, MIN_OF(BLOCK, len - end)))
                        end += MIN_OF(BLOCK, len - end);
                r = end > at ? write_at(fd, buf + at, end - at, offset + at, err) : 0;
                if (r < 0)
                        return r;
                *data += end - at;
                at = MIN_OF(len, end + BLOCK); /* what is there is a block of zeros, or the end */
        }
        return 0;
}

static int convert(struct image *img, int fd, struct progress *progress, uint64_t *ret_data, struct err *err)
{
        uint64_t size = image_size(img), len = 0;
        _cleanup_(freep) uint8_t *buf = malloc(PIECE);
        bool data = false;
        int r = buf ? 0 : err_set(err, -ENOMEM, "out of memory");

        if (r == 0 && ftruncate(fd, (off_t)size) < 0)
                r = err_set(err, -errno, "cannot make it %llu bytes large: %s", (unsigned long long)size,
                            strerror(errno));
        for (uint64_t at = 0; r == 0 && at < size; at += len) {
                progress_draw(progress, at, size);
                if (interrupted())
                        return err_set(err, -ECANCELED, "interrupted");
                r = image_extent(img, at, &len, &data, err);
                if (r < 0 || !data)
                        continue;
                len = MIN_OF(len, (uint64_t)PIECE - at % PIECE);
                r = image_read(img, buf, (size_t)len, at, err);
                if (r == 0)
                        r = write_sparse(fd, buf, (size_t)len, at, ret_data, err);
        }
        if (r == 0 && fsync(fd) < 0)
                r = err_set(err, -errno, "cannot flush: %s", strerror(errno));
        return r;
}

/* The half-made file goes, whatever the reason; a file that was there before is never overwritten. */
static int convert_to(struct cli *cli, struct image *img, const char *out, struct err *err)
{
        _cleanup_(closep) int fd = -1;
        _cleanup_(json_decrefpp) json_t *doc = NULL;
        struct progress progress;
        int64_t start = clock_ms();
        uint64_t data = 0;
        char size[24], all[24], time[HUMAN_LEN];
        int r;

        interrupt_catch(NULL);
        signal(SIGXFSZ, SIG_IGN); /* a limit of the shell is an error, not an end with the file left over */
        fd = open(out, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (fd < 0)
                return err_set(err, -errno, "%s: cannot create: %s%s", out, strerror(errno),
                               errno == EEXIST ? "; remove it, or give another name" : "");
        progress_begin(&progress, "converting", cli->json);
        r = convert(img, fd, &progress, &data, err);
        progress_end(&progress);
        if (r < 0) {
                unlink(out);
                if (interrupted())
                        err_set(err, r, "interrupted");
                return err_wrap(err, r, "%s is not made", out);
        }
        interrupt_release();
        if (cli->json) {
                doc = json_pack("{s:o,s:I,s:I,s:I}", "file", cli_text(out), "virtual_size",
                                (json_int_t)image_size(img), "data", (json_int_t)data, "ms",
                                (json_int_t)(clock_ms() - start));
                cli_print(cli, doc);
        } else
                printf("%s: %s, %s of it data, in %s\n", out, size_format(image_size(img), all, sizeof(all)),
                       size_format(data, size, sizeof(size)), human_duration(clock_ms() - start, time));
        return 0;
}

int cmd_image_convert(struct cli *cli, struct err *err)
{
        const char *path = cli->arguments[0], *out = cli->arguments[1];
        _cleanup_(closep) int fd = -1;
        struct image_info info = {0};
        struct image *img = NULL;
        struct source src;
        int declared, r;

        r = image_declared(cli, &declared, err);
        if (r < 0)
                return r;
        r = image_file_open(path, &fd, &src, err);
        if (r < 0)
                return r;
        r = image_inspect(&src, declared, &info, err);
        if (r < 0)
                return err_wrap(err, r, "%s", path);
        if (info.n_refusals > 0) {
                cli->refused = true;
                return image_refused(cli, path, &info, err);
        }
        r = image_open(&src, &info, &img, err);
        if (r < 0)
                return err_wrap(err, r, "%s", path);
        r = convert_to(cli, img, out, err);
        image_close(img);
        return r;
}
