/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/cli/image-inspect.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/util.h"
#include "formats/formats.h"
#include "imaged/cli/cli.h"
#include "imaged/cli/table.h"
#include "imaged/osinfo/osinfo.h"

json_t *image_refusals_json(const struct image_info *info)
{
        json_t *list = json_array();

        for (size_t i = 0; i < info->n_refusals; i++) {
                const struct image_refusal *f = &info->refusals[i];

                json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:s,s:s}", "code", f->code, "field",
                                                      f->field, "value", f->value, "limit", f->limit,
                                                      "message", f->message));
        }
        return list;
}

int image_file_open(const char *path, int *ret, struct source *ret_src, struct err *err)
{
        /* Without waiting: a FIFO would wait for its writer for ever. */
        _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        int r;

        if (fd < 0)
                return err_set(err, -errno, "%s: cannot open: %s", path, strerror(errno));
        r = source_from_fd(fd, ret_src, err);
        if (r < 0)
                return err_wrap(err, r, "%s", path);
        *ret = take_fd(&fd);
        return 0;
}

int image_refused(struct cli *cli, const char *path, const struct image_info *info, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *doc = NULL;

        for (size_t i = 0; i < info->n_refusals; i++)
                fprintf(stderr, "wherry: %s: %s: %s is %s, limit %s: %s\n", path, info->refusals[i].code,
                        info->refusals[i].field, info->refusals[i].value, info->refusals[i].limit,
                        info->refusals[i].message);
        err_set(err, -EBADMSG, "%s is refused for %zu reason%s", path, info->n_refusals,
                info->n_refusals == 1 ? "" : "s");
        if (cli->json) {
                doc = json_pack("{s:{s:i,s:o,s:o}}", "error", "code", EBADMSG, "message",
                                cli_text(err_text(err)), "refusals", image_refusals_json(info));
                cli_print(cli, doc);
        }
        return -EBADMSG;
}

int image_declared(struct cli *cli, int *ret, struct err *err)
{
        const char *format = cli_value(cli, "--format");

        *ret = format ? image_format_parse(format) : -1;
        if (format && *ret < 0)
                return cli_usage(cli, err, "--format %s: raw, qcow2, iso, vmdk, vdi, vhd, vhdx or ova",
                                 format);
        return 0;
}

static int image_source_read(void *state, void *buf, size_t len, uint64_t offset, struct err *err)
{
        return image_read(state, buf, len, offset, err);
}

/* Which system is on it. Only told, so a failure is no error: it is not known then. */
static void find_system(const struct source *src, const struct image_info *info, struct osinfo *ret)
{
        struct image *img = NULL;
        struct source disk = {.size = info->virtual_size, .read = image_source_read};

        *ret = (struct osinfo){0};
        if (image_open(src, info, &img, NULL) < 0)
                return;
        disk.state = img;
        osinfo_find(&disk, info->format == IMAGE_ISO9660, ret, NULL);
        image_close(img);
}

static int print_json(struct cli *cli, const struct image_info *info, const struct osinfo *system, double ms)
{
        _cleanup_(json_decrefpp) json_t *doc = NULL;
        json_t *fields = json_array(), *safe = info->quick && info->n_refusals == 0
                                                   ? json_null()
                                                   : json_boolean(info->n_refusals == 0);

        for (size_t i = 0; i < info->n_fields; i++)
                json_array_append_new(fields, json_pack("{s:s,s:s}", "name", info->fields[i].name, "value",
                                                        info->fields[i].value));
        doc = json_pack("{s:s,s:I,s:I,s:o,s:o,s:o,s:{s:I,s:I,s:f}}", "format",
                        image_format_name(info->format), "virtual_size", (json_int_t)info->virtual_size,
                        "file_size", (json_int_t)info->file_size, "safe", safe, "refusals",
                        image_refusals_json(info), "fields", fields, "cost", "reads",
                        (json_int_t)info->reads, "bytes", (json_int_t)info->read_bytes, "ms", ms);
        if (!doc)
                return -ENOMEM;
        if (!osinfo_empty(system))
                json_object_set_new(doc, "detected", osinfo_json(system));
        cli_print(cli, doc);
        cli->told = true;
        return 0;
}

static int print_system(struct table *t, const struct osinfo *s)
{
        const char *const rows[][2] = {{"system:", s->name[0] ? s->name : s->distro},
                                       {"os:", s->distro},
                                       {"version:", s->version},
                                       {"architecture:", s->architecture},
                                       {"firmware:", osinfo_firmware(s)}};
        int r = 0;

        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(rows); i++) {
                if (!rows[i][1][0])
                        continue;
                r = table_add(t, rows[i][0]);
                if (r == 0)
                        r = table_add(t, rows[i][1]);
        }
        if (r == 0 && s->min_ram) {
                r = table_add(t, "least memory:");
                if (r == 0)
                        r = table_addf(t, "%u MiB", s->min_ram);
        }
        if (r == 0 && s->min_disk) {
                r = table_add(t, "least disk:");
                if (r == 0)
                        r = table_addf(t, "%u GiB", s->min_disk);
        }
        return r;
}

static int print_text(const struct image_info *info, const struct osinfo *system, double ms)
{
        static const char *const columns[] = {"", ""};
        _cleanup_(table_freep) struct table *t = table_new(columns, 2);
        char size[24], read[24];
        int r = t ? 0 : -ENOMEM;

        if (r == 0)
                r = table_add(t, "format:");
        if (r == 0)
                r = table_add(t, image_format_name(info->format));
        if (r == 0)
                r = table_add(t, "virtual size:");
        if (r == 0)
                r = table_addf(t, "%s (%" PRIu64 " bytes)",
                               size_format(info->virtual_size, size, sizeof(size)), info->virtual_size);
        if (r == 0)
                r = table_add(t, "file size:");
        if (r == 0)
                r = table_addf(t, "%s (%" PRIu64 " bytes)", size_format(info->file_size, size, sizeof(size)),
                               info->file_size);
        for (size_t i = 0; r == 0 && i < info->n_fields; i++) {
                r = table_addf(t, "%s:", info->fields[i].name);
                if (r == 0)
                        r = table_add(t, info->fields[i].value);
        }
        if (r == 0)
                r = print_system(t, system);
        if (r == 0)
                r = table_add(t, "inspection:");
        if (r == 0)
                r = table_addf(t, "%s read in %" PRIu64 " pieces, %.1f ms",
                               size_format(info->read_bytes, read, sizeof(read)), info->reads, ms);
        if (r == 0)
                r = table_add(t, "safe:");
        if (r == 0)
                r = table_add(t, info->n_refusals > 0 ? "no"
                                 : info->quick        ? "not known: only the headers were looked at"
                                                      : "yes");
        if (r < 0)
                return r;
        table_print_plain(t, stdout);
        for (size_t i = 0; i < info->n_refusals; i++) {
                const struct image_refusal *f = &info->refusals[i];

                printf("refused: %s: %s is %s, limit %s: %s\n", f->code, f->field, f->value, f->limit,
                       f->message);
        }
        return 0;
}

int cmd_image_inspect(struct cli *cli, struct err *err)
{
        const char *path = cli->arguments[0];
        _cleanup_(closep) int fd = -1;
        bool quick = cli_given(cli, "--quick");
        struct image_info info = {0};
        struct osinfo system = {0};
        struct source src;
        int64_t start = clock_ns();
        double ms;
        int declared, r;

        r = image_declared(cli, &declared, err);
        if (r < 0)
                return r;
        r = image_file_open(path, &fd, &src, err);
        if (r < 0)
                return r;
        r = quick ? image_inspect_quick(&src, declared, &info, err)
                  : image_inspect(&src, declared, &info, err);
        if (r < 0)
                return err_wrap(err, r, "%s", path);
        ms = (double)(clock_ns() - start) / 1e6;
        if (!quick && info.n_refusals == 0)
                find_system(&src, &info, &system);
        r = cli->json ? print_json(cli, &info, &system, ms) : print_text(&info, &system, ms);
        if (r < 0)
                return err_set(err, -ENOMEM, "out of memory");
        if (info.n_refusals > 0) {
                cli->refused = true;
                return err_set(err, -EBADMSG, "%s is refused for %zu reason%s", path, info.n_refusals,
                               info.n_refusals == 1 ? "" : "s");
        }
        return 0;
}
