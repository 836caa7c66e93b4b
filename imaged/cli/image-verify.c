/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/http-client.h"
#include "common/json.h"
#include "common/util.h"
#include "imaged/cli/cli.h"
#include "imaged/cli/human.h"
#include "imaged/cli/image.h"
#include "imaged/cli/interrupt.h"
#include "imaged/cli/progress.h"
#include "imaged/cli/table.h"

/* `image verify IMAGE`: the server reads and compares; its answer is one JSON document a line (imaged's
 * image-verify.c). */
#define RATE_MIN ((uint64_t)1 << 20)

struct verify {
        struct progress progress;
        char line[1024];
        size_t n_line;
        uint64_t total;
        json_t *damaged; /* [{"offset","length","error"?}] */
        bool ended;
        struct err *err;
};

static int on_line(struct verify *v)
{
        _cleanup_(json_decrefpp) json_t *doc = NULL;
        const json_t *damaged;
        const char *error;
        int r = json_parse(v->line, "the server's answer", &doc, v->err);

        if (r < 0)
                return r;
        damaged = json_object_get(doc, "damaged");
        error = json_get_str(doc, "error", NULL);
        if (error)
                return err_set(v->err, -EIO, "%s", error);
        if (json_object_get(doc, "ok"))
                v->ended = true;
        else if (json_is_object(damaged))
                json_array_append(v->damaged, (json_t *)damaged);
        else {
                v->total = (uint64_t)json_get_int(doc, "total", 0);
                progress_draw(&v->progress, (uint64_t)json_get_int(doc, "done", 0), v->total);
        }
        return 0;
}

static int on_piece(void *state, uint64_t offset, const void *buf, size_t len)
{
        struct verify *v = state;
        const char *p = buf;

        for (size_t i = 0; i < len; i++) {
                int r;

                if (p[i] != '\n') {
                        if (v->n_line + 1 == sizeof(v->line))
                                return err_set(v->err, -EBADMSG, "the server's answer has an endless line");
                        v->line[v->n_line++] = p[i];
                        continue;
                }
                v->line[v->n_line] = '\0';
                v->n_line = 0;
                r = on_line(v);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int watch(struct cli *cli, const char *id, const char *name, uint64_t rate, struct verify *v,
                 struct err *err)
{
        _cleanup_(freep) char *path =
            str_printf("/v2/images/%s/verify?rate=%llu", id, (unsigned long long)rate);
        _cleanup_(freep) char *printable = text_printable(name);
        _cleanup_(freep) char *what = str_printf("verifying %s", printable ? printable : id);
        int r;

        if (!path || !what)
                return err_set(err, -ENOMEM, "out of memory");
        progress_begin(&v->progress, what, cli->json);
        r = http_download(cli->http, path, on_piece, v, err);
        progress_end(&v->progress);
        if (r == 0 && !v->ended)
                r = err_set(err, -EIO, "the server ended before the image's end");
        if (r < 0 && interrupted())
                err_set(err, r, "interrupted");
        return r < 0 ? err_wrap(err, r, "image %s is not verified", name) : 0;
}

static int tell(struct cli *cli, const char *id, const char *name, const struct verify *v, int64_t ms,
                struct err *err)
{
        _cleanup_(freep) char *printable = text_printable(name);
        size_t n = json_array_size(v->damaged), i;
        char size[24], time[HUMAN_LEN];
        const json_t *d;

        if (cli->json) {
                _cleanup_(json_decrefpp) json_t *doc =
                    json_pack("{s:s,s:s,s:b,s:I,s:O}", "id", id, "name", name, "ok", n == 0, "size",
                              (json_int_t)v->total, "damaged", v->damaged);

                cli_print(cli, doc);
        }
        json_array_foreach (v->damaged, i, d) {
                const char *error = json_get_str(d, "error", NULL);

                if (!cli->json)
                        printf("damaged: %lld bytes at offset %lld%s%s\n",
                               (long long)json_get_int(d, "length", 0),
                               (long long)json_get_int(d, "offset", 0), error ? ": " : "",
                               error ? error : "");
        }
        if (n > 0)
                return err_set(err, -EBADMSG, "image %s is damaged in %zu place%s", name, n,
                               n == 1 ? "" : "s");
        if (!cli->json)
                printf("image %s is as it was added: %s verified in %s\n", printable ? printable : id,
                       size_format(v->total, size, sizeof(size)), human_duration(ms, time));
        return 0;
}

int cmd_image_verify(struct cli *cli, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *image = NULL, *damaged = json_array();
        struct verify v = {.damaged = damaged, .err = err};
        int64_t start = clock_ms();
        const char *id, *name;
        uint64_t rate;
        int r = cli_size(cli, "--rate", RATE_MIN, &rate, err);

        if (r == 0)
                r = image_find(cli, cli->arguments[0], &image, err);
        if (r < 0)
                return r;
        id = json_get_str(image, "id", "");
        name = json_get_str(image, "name", id);
        interrupt_catch(cli->http);
        r = watch(cli, id, name, rate, &v, err);
        if (r < 0)
                return r;
        interrupt_release();
        return tell(cli, id, name, &v, clock_ms() - start, err);
}
