/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/clock.h"
#include "common/http-client.h"
#include "common/json.h"
#include "common/util.h"
#include "imaged/cli/cli.h"
#include "imaged/cli/image.h"
#include "imaged/cli/interrupt.h"
#include "imaged/cli/progress.h"

/*
 * `image add URL`: the server fetches it (the Image API's web-download), and with --from-store a volume on
 * its storage; we look at the record until it is active. queued -> importing, saving (import: {done, total})
 * -> active a fetch that fails ends in queued again, without `import`, and says why in `message`; or in
 * killed
 */

#define AWAY_MS 180000 /* as long as `image add FILE` waits for an imaged */

static int import_failed(const char *what, const json_t *image, struct err *err)
{
        const char *why = json_get_str(image, "import_error", NULL), *source = strchr(what, ' ');
        size_t n = source ? strlen(++source) : 0;

        if (why && n > 0 && strncmp(why, source, n) == 0 && strncmp(why + n, ": ", 2) == 0)
                why += n + 2; /* it is named already */
        return err_set(err, -EIO, "the server cannot %s: %s", what,
                       why ? why : "it does not say why; its log does");
}

/* 1: active; 0: not yet; -errno: it failed. *seen is set once the import is under way. */
static int import_state(const char *what, const json_t *image, bool *seen, struct err *err)
{
        const char *status = json_get_str(image, "status", "");
        bool has_import = json_is_object(json_object_get(image, "import"));

        if (streq(status, "active"))
                return 1;
        if (streq(status, "killed") || streq(status, "deleted") || json_get_str(image, "import_error", NULL))
                return import_failed(what, image, err);
        if (!streq(status, "queued") || has_import)
                *seen = true;
        else if (*seen)
                return import_failed(what, image, err);
        return 0;
}

/* An imaged that is started again is no outcome yet: the record tells it, or another imaged goes on. */
static bool only_away(int r, int64_t heard_ms)
{
        return http_away(r) && !interrupted() && clock_ms() - heard_ms < AWAY_MS;
}

static int import_wait(struct cli *cli, const char *bar, const char *what, const char *id, int64_t seconds,
                       json_t **ret, struct err *err)
{
        struct pacer pacer = pacer_start(seconds);
        int64_t heard_ms = clock_ms();
        struct progress progress;
        bool seen = false;
        int r = 0;

        progress_begin(&progress, bar, cli->json);
        while (r == 0) {
                _cleanup_(json_decrefpp) json_t *image = NULL;
                const json_t *import;

                r = cli_call(cli, "GET", NULL, &image, err, "/v2/images/%s", id);
                if (r < 0 && !only_away(r, heard_ms))
                        break;
                if (r == 0) {
                        heard_ms = clock_ms();
                        r = import_state(what, image, &seen, err);
                        if (r != 0) {
                                *ret = r > 0 ? take(image) : NULL;
                                break;
                        }
                        import = json_object_get(image, "import");
                        progress_draw(&progress, (uint64_t)json_get_int(import, "done", 0),
                                      (uint64_t)json_get_int(import, "total", 0));
                }
                r = pacer_wait(&pacer, err);
                if (r == -ETIMEDOUT)
                        err_set(err, r, "it is not there after %lld s (--timeout)", (long long)seconds);
        }
        progress_end(&progress);
        return r < 0 ? r : 0;
}

int image_fill(struct cli *cli, const char *name, const char *format, const struct image_filling *f,
               struct err *err)
{
        _cleanup_(freep) char *bar = str_printf("%s %s", f->doing, name);
        _cleanup_(json_decrefpp) json_t *added = NULL;
        char id[UUID_LEN + 1];
        int64_t seconds;
        int r;

        if (!bar)
                return err_set(err, -ENOMEM, "out of memory");
        r = cli_number(cli, "--timeout", 1, 1000000, &seconds, err);
        if (r < 0)
                return r;
        r = image_create(cli, name, format, id, err);
        if (r < 0)
                return r;
        r = f->start(cli, f->source, id, err);
        if (r == 0)
                r = import_wait(cli, bar, f->what, id, seconds, &added, err);
        if (r < 0) {
                bool gone = image_discard(cli, id) == 0;

                if (interrupted())
                        err_set(err, r, "interrupted");
                return err_wrap(err, r, "image %s is not added%s%s%s", name, gone ? "" : " (and its record ",
                                gone ? "" : id, gone ? "" : " is left; remove it with \"wherry image rm\")");
        }
        interrupt_release();
        image_tell_added(cli, added, f->how);
        return 0;
}

static int volume_start(struct cli *cli, const char *volume, const char *id, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *body =
            json_pack("{s:{s:s,s:s,s:s*}}", "method", "name", "store-volume", "volume", volume, "checksum",
                      cli_value(cli, "--checksum"));

        if (!body)
                return err_set(err, -EINVAL, "the volume's name is not UTF-8");
        return cli_call(cli, "POST", body, NULL, err, "/v2/images/%s/import", id);
}

int image_add_volume(struct cli *cli, const char *volume, struct err *err)
{
        const char *format = cli_value(cli, "--format"), *given = cli_value(cli, "--name");
        _cleanup_(freep) char *name = given ? strdup(given) : image_name_from(volume);
        _cleanup_(freep) char *what = str_printf("import the volume %s", volume);
        const struct image_filling f = {.source = volume,
                                        .start = volume_start,
                                        .doing = "importing",
                                        .what = what,
                                        .how = "read on the server's storage"};

        if (!format)
                format = image_format_from(volume);
        if (!name || !what)
                return err_set(err, -ENOMEM, "out of memory");
        return image_fill(cli, name, format ? format : "raw", &f, err);
}

static int import_start(struct cli *cli, const char *url, const char *id, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *body =
            json_pack("{s:{s:s,s:s,s:s*}}", "method", "name", "web-download", "uri", url, "checksum",
                      cli_value(cli, "--checksum"));

        if (!body)
                return err_set(err, -EINVAL, "the URL is not UTF-8; write it with %%XX for such characters");
        return cli_call(cli, "POST", body, NULL, err, "/v2/images/%s/import", id);
}

int image_add_url(struct cli *cli, const char *url, struct err *err)
{
        const char *format = cli_value(cli, "--format"), *given = cli_value(cli, "--name");
        _cleanup_(freep) char *name = given ? strdup(given) : image_name_from(url);
        _cleanup_(freep) char *what = str_printf("import %s", url);
        const struct image_filling f = {.source = url,
                                        .start = import_start,
                                        .doing = "importing",
                                        .what = what,
                                        .how = "fetched by the server"};

        if (strncasecmp(url, "http://", 7) != 0 && strncasecmp(url, "https://", 8) != 0)
                return cli_usage(cli, err, "%s: http:// and https:// are possible, or a file's path", url);
        if (!format)
                format = image_format_from(url);
        if (!format)
                return cli_usage(cli, err,
                                 "%s: the ending does not say what it is; add --format raw, qcow2, iso, "
                                 "vmdk, vdi, vhd, vhdx or ova",
                                 url);
        if (!name || !what)
                return err_set(err, -ENOMEM, "out of memory");
        return image_fill(cli, name, format, &f, err);
}
