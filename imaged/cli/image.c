/* SPDX-License-Identifier: Apache-2.0 */
#include "imaged/cli/image.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/http-client.h"
#include "common/json.h"
#include "common/util.h"
#include "imaged/cli/cli.h"
#include "imaged/cli/human.h"
#include "imaged/cli/table.h"
#include "imaged/osinfo/osinfo.h"

int image_find(struct cli *cli, const char *name_or_id, json_t **ret, struct err *err)
{
        _cleanup_(freep) char *escaped = http_escape(name_or_id);
        int r;

        if (!escaped)
                return err_set(err, -ENOMEM, "out of memory");
        r = cli_call(cli, "GET", NULL, ret, err, "/v1/images?name=%s", escaped);
        if (r == -ENOENT)
                return err_set(err, r, "there is no image \"%s\"; \"wherry image list\" shows what there is",
                               name_or_id);
        return r;
}

/* All pages of the list, as one array. */
static int image_list(struct cli *cli, json_t **ret, struct err *err)
{
        _cleanup_(freep) char *path = strdup(
            cli_given(cli, "--deleted") ? "/v2/images?status=pending_delete&visibility=all" : "/v2/images");
        _cleanup_(json_decrefpp) json_t *all = json_array();

        while (path && all) {
                _cleanup_(json_decrefpp) json_t *page = NULL;
                const char *next;
                int r = cli_call(cli, "GET", NULL, &page, err, "%s", path);

                if (r < 0)
                        return r;
                if (json_array_extend(all, json_object_get(page, "images")) < 0)
                        return err_set(err, -EBADMSG, "%s%s: the answer has no list of images", cli->url,
                                       path);
                next = json_get_str(page, "next", NULL);
                if (!next || next[0] != '/') {
                        *ret = take(all);
                        return 0;
                }
                freep(&path);
                path = strdup(next);
        }
        return err_set(err, -ENOMEM, "out of memory");
}

static int print_table(const json_t *images)
{
        static const char *const titles[] = {"NAME", "STATUS", "FORMAT", ">SIZE", "OS", "ADDED", "ID"};
        _cleanup_(table_freep) struct table *t = table_new(titles, ARRAY_SIZE(titles));
        time_t now = time(NULL);
        const json_t *image;
        char buf[HUMAN_LEN];
        size_t i;
        int r = t ? 0 : -ENOMEM;

        json_array_foreach (images, i, image) {
                const char *os = json_get_str(image, "os", json_get_str(image, "os_distro", "")),
                           *version = json_get_str(image, "version", json_get_str(image, "os_version", ""));
                int64_t size = json_get_int(image, "virtual_size", -1);

                if (r == 0)
                        r = table_add(t, json_get_str(image, "name", NULL));
                if (r == 0)
                        r = table_add(t, json_get_str(image, "status", NULL));
                if (r == 0)
                        r = table_add(t, json_get_str(image, "disk_format", NULL));
                if (r == 0)
                        r = table_add(t, size < 0 ? NULL : size_format((uint64_t)size, buf, sizeof(buf)));
                if (r == 0)
                        r = table_addf(t, "%s%s%s", os, os[0] && version[0] ? " " : "", version);
                if (r == 0)
                        r = table_add(t, human_age(json_get_str(image, "created_at", NULL), now, buf));
                if (r == 0)
                        r = table_add(t, json_get_str(image, "id", NULL));
        }
        if (r == 0)
                table_print(t, stdout);
        return r;
}

int cmd_image_list(struct cli *cli, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *images = NULL;
        const json_t *image;
        size_t i;
        int r = image_list(cli, &images, err);

        if (r < 0)
                return r;
        if (cli->json) {
                _cleanup_(json_decrefpp) json_t *j = json_pack("{s:O}", "images", images);

                cli_print(cli, j);
        } else if (cli_given(cli, "--quiet")) {
                json_array_foreach (images, i, image) {
                        _cleanup_(freep) char *name = text_printable(json_get_str(image, "name", ""));

                        puts(name ? name : "");
                }
        } else if (json_array_size(images) == 0)
                puts(cli_given(cli, "--deleted") ? "no deleted images that can still be undeleted"
                                                 : "no images yet; \"wherry image add FILE|URL\" adds one");
        else if (print_table(images) < 0)
                return err_set(err, -ENOMEM, "out of memory");
        return 0;
}

/* One line: "Debian 11 (media), x86_64, bios, uefi". */
static int print_detected(struct table *t, const json_t *value)
{
        struct osinfo o;
        const char *name;

        if (osinfo_parse(value, &o, NULL) < 0)
                return table_add(t, NULL);
        name = o.name[0] ? o.name : o.distro[0] ? o.distro : "unknown system";
        return table_addf(t, "%s%s%s%s%s%s%s%s", name, o.distro[0] ? " (" : "", o.distro[0] ? o.from : "",
                          o.distro[0] ? ")" : "", o.architecture[0] ? ", " : "", o.architecture,
                          osinfo_firmware(&o)[0] ? ", " : "", osinfo_firmware(&o));
}

/* Sizes as people say them beside the bytes, everything else as the record has it. */
static int print_member(struct table *t, const char *key, const json_t *value)
{
        _cleanup_(freep) char *text = NULL;
        char size[24];
        int r = table_addf(t, "%s:", key);

        if (r < 0)
                return r;
        if (json_is_string(value))
                return table_add(t, json_string_value(value));
        if (streq(key, "detected"))
                return print_detected(t, value);
        if (json_is_integer(value) && (streq(key, "size") || streq(key, "virtual_size")))
                return table_addf(t, "%s (%" JSON_INTEGER_FORMAT " bytes)",
                                  size_format((uint64_t)json_integer_value(value), size, sizeof(size)),
                                  json_integer_value(value));
        if (json_is_null(value))
                return table_add(t, NULL);
        text = json_text(value);
        return text ? table_add(t, text) : -ENOMEM;
}

int cmd_image_show(struct cli *cli, struct err *err)
{
        static const char *const columns[] = {"", ""};
        static const char *const first[] = {"id", "name", "status", "disk_format", "size", "virtual_size"};
        _cleanup_(table_freep) struct table *t = table_new(columns, 2);
        _cleanup_(json_decrefpp) json_t *image = NULL;
        const char *key;
        json_t *value;
        int r = image_find(cli, cli->arguments[0], &image, err);

        if (r < 0)
                return r;
        if (cli->json) {
                cli_print(cli, image);
                return 0;
        }
        for (size_t i = 0; t && r == 0 && i < ARRAY_SIZE(first); i++) {
                if (json_object_get(image, first[i]))
                        r = print_member(t, first[i], json_object_get(image, first[i]));
                json_object_del(image, first[i]);
        }
        json_object_foreach (image, key, value) {
                if (t && r == 0)
                        r = print_member(t, key, value);
        }
        if (!t || r < 0)
                return err_set(err, -ENOMEM, "out of memory");
        table_print_plain(t, stdout);
        return 0;
}

int cmd_image_rm(struct cli *cli, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *image = NULL, *j = NULL;
        _cleanup_(freep) char *printable = NULL;
        const char *id, *name;
        bool now = cli_given(cli, "--now");
        int r;

        if (now && uuid_valid(cli->arguments[0])) /* it may be out of sight already */
                image = json_pack("{s:s}", "id", cli->arguments[0]);
        r = image ? 0 : image_find(cli, cli->arguments[0], &image, err);
        if (r < 0)
                return r;
        id = json_get_str(image, "id", "");
        name = json_get_str(image, "name", id);
        printable = text_printable(name);
        r = cli_call(cli, "DELETE", NULL, NULL, err, "/v2/images/%s%s", id, now ? "?purge=true" : "");
        if (r < 0)
                return err_wrap(err, r, "image %s is not removed", name);
        if (cli->json) {
                j = json_pack("{s:s,s:s,s:b}", "id", id, "name", name, "deleted", 1);
                cli_print(cli, j);
        } else
                printf("image %s is removed\n", printable ? printable : id);
        return 0;
}
