/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/http-client.h"
#include "common/json.h"
#include "common/util.h"
#include "imaged/cli/cli.h"
#include "imaged/cli/image.h"
#include "imaged/cli/interrupt.h"
#include "imaged/cli/progress.h"

/* `image save IMAGE FILE`: the raw disk, its zeros as holes. */
#define BLOCK 4096

struct save {
        int fd;
        const char *path;
        uint64_t total;
        struct progress progress;
        struct err *err;
};

static int write_piece(void *state, uint64_t offset, const void *buf, size_t len)
{
        static const uint8_t zeros[BLOCK];
        struct save *s = state;
        const uint8_t *p = buf;

        progress_draw(&s->progress, offset + len, s->total);
        while (len > 0) {
                size_t n = MIN_OF(len, (size_t)(BLOCK - offset % BLOCK));

                if (memcmp(p, zeros, n) != 0 && pwrite(s->fd, p, n, (off_t)offset) != (ssize_t)n)
                        return err_set(s->err, -EIO, "%s: write: %s", s->path, strerror(errno));
                p += n;
                offset += n;
                len -= n;
        }
        return 0;
}

static int fetch(struct cli *cli, const json_t *image, struct save *s, struct err *err)
{
        _cleanup_(freep) char *path = str_printf("/v2/images/%s/file", json_get_str(image, "id", ""));
        _cleanup_(freep) char *what = str_printf("saving %s", json_get_str(image, "name", "image"));
        int r;

        if (!path || !what)
                return err_set(err, -ENOMEM, "out of memory");
        progress_begin(&s->progress, what, cli->json);
        r = http_download(cli->http, path, write_piece, s, err);
        progress_end(&s->progress);
        if (r == 0 && (ftruncate(s->fd, (off_t)s->total) < 0 || fsync(s->fd) < 0))
                r = err_set(err, -errno, "%s: %s", s->path, strerror(errno));
        return r;
}

int cmd_image_save(struct cli *cli, struct err *err)
{
        struct save s = {.path = cli->arguments[1], .err = err};
        _cleanup_(json_decrefpp) json_t *image = NULL;
        const char *status;
        int r = image_find(cli, cli->arguments[0], &image, err);

        if (r < 0)
                return r;
        status = json_get_str(image, "status", "");
        if (!streq(status, "active") && !streq(status, "deactivated"))
                return err_set(err, -EINVAL, "image %s is %s: there is nothing to save", cli->arguments[0],
                               status);
        s.total = (uint64_t)json_get_int(image, "size", 0);
        s.fd = open(s.path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (s.fd < 0)
                return err_set(err, -errno, "%s: %s", s.path, strerror(errno));
        interrupt_catch(cli->http);
        r = fetch(cli, image, &s, err);
        close(s.fd);
        if (r < 0) {
                unlink(s.path);
                return err_wrap(err, r, "image %s is not saved", cli->arguments[0]);
        }
        interrupt_release();
        if (cli->json)
                cli_print(cli, image);
        else
                printf("image %s is saved as %s\n", json_get_str(image, "name", "?"), s.path);
        return 0;
}
