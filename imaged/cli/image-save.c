/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/http-client.h"
#include "common/json.h"
#include "common/util.h"
#include "formats/formats.h"
#include "imaged/cli/cli.h"
#include "imaged/cli/image.h"
#include "imaged/cli/interrupt.h"
#include "imaged/cli/progress.h"
#include "imaged/cli/table.h"

/* `image save IMAGE FILE`: the raw disk, its zeros as holes; or the same as a qcow2 image. */
#define BLOCK 4096
#define SECTOR 512

struct save {
        int fd;
        const char *path;
        uint64_t total, done;
        struct qcow2_writer *qcow2; /* NULL: raw */
        struct progress progress;
        struct err *err;
};

static int write_file(void *state, const void *buf, size_t len, uint64_t offset, struct err *err)
{
        const struct save *s = state;
        const char *p = buf;

        while (len > 0) {
                ssize_t n = pwrite(s->fd, p, len, (off_t)offset);

                if (n < 0 && errno == EINTR && !interrupted())
                        continue;
                if (n < 0)
                        return err_set(err, -errno, "%s: write: %s", s->path, strerror(errno));
                p += n;
                len -= (size_t)n;
                offset += (uint64_t)n;
        }
        return 0;
}

static int write_raw(struct save *s, uint64_t offset, const void *buf, size_t len)
{
        static const uint8_t zeros[BLOCK];
        const uint8_t *p = buf;
        int r = 0;

        while (len > 0 && r == 0) {
                size_t n = MIN_OF(len, (size_t)(BLOCK - offset % BLOCK));

                if (memcmp(p, zeros, n) != 0)
                        r = write_file(s, p, n, offset, s->err);
                p += n;
                offset += n;
                len -= n;
        }
        return r;
}

static int write_piece(void *state, uint64_t offset, const void *buf, size_t len)
{
        struct save *s = state;

        progress_draw(&s->progress, offset + len, s->total);
        if (offset > s->total || len > s->total - offset)
                return err_set(s->err, -EBADMSG, "more bytes than the image's %llu",
                               (unsigned long long)s->total);
        s->done = offset + len;
        return s->qcow2 ? qcow2_writer_data(s->qcow2, buf, len, offset, s->err)
                        : write_raw(s, offset, buf, len);
}

static int fetch(struct cli *cli, const json_t *image, struct save *s, struct err *err)
{
        _cleanup_(freep) char *path = str_printf("/v2/images/%s/file", json_get_str(image, "id", ""));
        _cleanup_(freep) char *name = text_printable(json_get_str(image, "name", "image"));
        _cleanup_(freep) char *what = str_printf("saving %s", name ? name : "image");
        int r;

        if (!path || !what)
                return err_set(err, -ENOMEM, "out of memory");
        progress_begin(&s->progress, what, cli->json);
        r = http_download(cli->http, path, write_piece, s, err);
        progress_end(&s->progress);
        if (r == 0 && s->done != s->total)
                r = err_set(err, -EBADMSG, "%llu bytes came of %llu", (unsigned long long)s->done,
                            (unsigned long long)s->total);
        if (r == 0 && s->qcow2)
                r = qcow2_writer_finish(s->qcow2, err);
        else if (r == 0 && ftruncate(s->fd, (off_t)s->total) < 0)
                r = err_set(err, -errno, "%s: %s", s->path, strerror(errno));
        if (r == 0 && fsync(s->fd) < 0)
                r = err_set(err, -errno, "%s: %s", s->path, strerror(errno));
        return r;
}

/* A file that was there before is never overwritten; a part of one goes. */
static int save_as(struct cli *cli, const json_t *image, bool qcow2, struct save *s, struct err *err)
{
        const struct byte_sink out = {.write = write_file, .state = s};
        int r = 0;

        if (qcow2)
                r = qcow2_writer_new((s->total + SECTOR - 1) / SECTOR * SECTOR, &out, &s->qcow2, err);
        if (r < 0)
                return r;
        s->fd = open(s->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (s->fd < 0) {
                r = err_set(err, -errno, "%s: cannot create: %s%s", s->path, strerror(errno),
                            errno == EEXIST ? "; remove it, or give another name" : "");
        } else {
                interrupt_catch(cli->http);
                r = fetch(cli, image, s, err);
                close(s->fd);
                if (r < 0) {
                        unlink(s->path);
                        if (interrupted())
                                err_set(err, r, "interrupted");
                        err_wrap(err, r, "image %s is not saved", cli->arguments[0]);
                } else
                        interrupt_release();
        }
        s->qcow2 = qcow2_writer_free(s->qcow2);
        return r;
}

int cmd_image_save(struct cli *cli, struct err *err)
{
        const char *path = cli->arguments[1], *format = cli_value(cli, "--format"), *status;
        struct save s = {.path = path, .err = err};
        _cleanup_(json_decrefpp) json_t *image = NULL;
        _cleanup_(freep) char *name = NULL;
        bool qcow2;
        int r;

        if (format && !streq(format, "raw") && !streq(format, "qcow2"))
                return cli_usage(cli, err, "--format %s: raw or qcow2", format);
        qcow2 = streq(format ? format : image_format_from(path), "qcow2");
        r = image_find(cli, cli->arguments[0], &image, err);
        if (r < 0)
                return r;
        status = json_get_str(image, "status", "");
        if (!streq(status, "active") && !streq(status, "deactivated"))
                return err_set(err, -EINVAL, "image %s is %s: there is nothing to save", cli->arguments[0],
                               status);
        name = text_printable(json_get_str(image, "name", "?"));
        s.total = (uint64_t)json_get_int(image, "size", 0);
        r = save_as(cli, image, qcow2, &s, err);
        if (r < 0)
                return r;
        if (cli->json)
                cli_print(cli, image);
        else
                printf("image %s is saved as %s\n", name ? name : "?", path);
        return 0;
}
