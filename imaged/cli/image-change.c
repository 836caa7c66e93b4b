/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/http-client.h"
#include "common/json.h"
#include "common/util.h"
#include "imaged/cli/cli.h"
#include "imaged/cli/image.h"
#include "imaged/cli/table.h"

/* What changes an image that is there: set, share and unshare, deactivate and reactivate, undelete. */

static int op_add(json_t *patch, const char *op, const char *key, json_t *value)
{
        char path[600];
        size_t n = 0;

        path[n++] = '/';
        for (; *key && n + 3 < sizeof(path); key++) { /* RFC 6901 */
                if (*key == '~' || *key == '/') {
                        path[n++] = '~';
                        path[n++] = *key == '/' ? '1' : '0';
                } else {
                        path[n++] = *key;
                }
        }
        path[n] = '\0';
        return json_array_append_new(patch,
                                     json_pack("{s:s,s:s,s:o*}", "op", op, "path", path, "value", value));
}

static int add_properties(struct cli *cli, json_t *patch, struct err *err)
{
        const char *text;

        for (size_t i = 0; (text = cli_nth(cli, "--property", i)); i++) {
                const char *equal = strchr(text, '=');
                _cleanup_(freep) char *key = equal ? strndup(text, (size_t)(equal - text)) : NULL;

                if (!key || !key[0])
                        return cli_usage(cli, err, "--property %s: NAME=VALUE", text);
                if (op_add(patch, "add", key, json_string(equal + 1)) < 0)
                        return err_set(err, -EINVAL, "--property %s is not UTF-8", text);
        }
        for (size_t i = 0; (text = cli_nth(cli, "--unset", i)); i++) {
                if (op_add(patch, "remove", text, NULL) < 0)
                        return err_set(err, -EINVAL, "--unset %s is not UTF-8", text);
        }
        return 0;
}

/* Under the image API's names; an image may have them under the short ones, which go then. */
static int add_system(struct cli *cli, const json_t *image, json_t *patch, struct err *err)
{
        static const char *const names[][3] = {{"--os", "os_distro", "os"},
                                               {"--version", "os_version", "version"}};

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                const char *value = cli_value(cli, names[i][0]);

                if (!value)
                        continue;
                if (op_add(patch, "add", names[i][1], json_string(value)) < 0)
                        return err_set(err, -EINVAL, "%s %s is not UTF-8", names[i][0], value);
                if (json_object_get(image, names[i][2]))
                        op_add(patch, "remove", names[i][2], NULL);
        }
        return 0;
}

/* In the image API's units, which are MiB of memory and GiB of disk. */
static int add_least(struct cli *cli, json_t *patch, const char *option, const char *key, unsigned shift,
                     struct err *err)
{
        uint64_t size, unit = UINT64_C(1) << shift;
        int r;

        if (!cli_value(cli, option))
                return 0;
        r = cli_size(cli, option, 0, &size, err);
        return r < 0 ? r
                     : op_add(patch, "replace", key, json_integer((json_int_t)((size + unit - 1) / unit)));
}

static size_t tag_at(const json_t *tags, const char *tag)
{
        size_t i = 0;

        while (i < json_array_size(tags) && !streq(json_string_value(json_array_get(tags, i)), tag))
                i++;
        return i;
}

static int add_tags(struct cli *cli, const json_t *image, json_t *patch, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *tags = json_copy(json_object_get(image, "tags"));
        const char *tag;

        if (!cli_given(cli, "--tag") && !cli_given(cli, "--untag"))
                return 0;
        for (size_t i = 0; (tag = cli_nth(cli, "--tag", i)); i++) {
                if (tag_at(tags, tag) == json_array_size(tags))
                        json_array_append_new(tags, json_string(tag));
        }
        for (size_t i = 0; (tag = cli_nth(cli, "--untag", i)); i++) {
                if (tag_at(tags, tag) == json_array_size(tags))
                        return err_set(err, -ENOENT, "image %s has no tag %s", cli->arguments[0], tag);
                json_array_remove(tags, tag_at(tags, tag));
        }
        return op_add(patch, "replace", "tags", json_incref(tags)) < 0
                   ? err_set(err, -ENOMEM, "out of memory")
                   : 0;
}

static int add_switch(struct cli *cli, json_t *patch, const char *on, const char *off, const char *key,
                      struct err *err)
{
        if (cli_given(cli, on) && cli_given(cli, off))
                return cli_usage(cli, err, "%s and %s contradict each other", on, off);
        if (cli_given(cli, on) || cli_given(cli, off))
                op_add(patch, "replace", key, json_boolean(cli_given(cli, on)));
        return 0;
}

static void print_told(const json_t *image, const char *given, const char *what)
{
        _cleanup_(freep) char *name = text_printable(json_get_str(image, "name", given));

        printf("image %s %s\n", name ? name : given, what);
}

int cmd_image_set(struct cli *cli, struct err *err)
{
        static const char *const texts[][2] = {{"--name", "name"}, {"--visibility", "visibility"}};
        _cleanup_(json_decrefpp) json_t *image = NULL, *patch = json_array(), *now = NULL;
        int r;

        if (cli_value(cli, "--name") && !cli_value(cli, "--name")[0])
                return cli_usage(cli, err, "--name \"\": a name has 1 to 255 bytes");
        r = image_find(cli, cli->arguments[0], &image, err);
        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(texts); i++) {
                const char *value = cli_value(cli, texts[i][0]);

                if (value && op_add(patch, "add", texts[i][1], json_string(value)) < 0)
                        r = err_set(err, -EINVAL, "%s %s is not UTF-8", texts[i][0], value);
        }
        if (r == 0)
                r = add_system(cli, image, patch, err);
        if (r == 0)
                r = add_least(cli, patch, "--min-ram", "min_ram", 20, err);
        if (r == 0)
                r = add_least(cli, patch, "--min-disk", "min_disk", 30, err);
        if (r == 0)
                r = add_properties(cli, patch, err);
        if (r == 0)
                r = add_tags(cli, image, patch, err);
        if (r == 0)
                r = add_switch(cli, patch, "--protect", "--unprotect", "protected", err);
        if (r == 0)
                r = add_switch(cli, patch, "--hide", "--unhide", "os_hidden", err);
        if (r < 0)
                return r;
        if (json_array_size(patch) == 0)
                return cli_usage(cli, err, "nothing to set; \"wherry image set --help\" shows what can be");
        r = cli_call(cli, "PATCH", patch, &now, err, "/v2/images/%s", json_get_str(image, "id", ""));
        if (r < 0)
                return err_wrap(err, r, "image %s is not changed", cli->arguments[0]);
        if (cli->json)
                cli_print(cli, now);
        else
                print_told(now, cli->arguments[0], "is changed");
        return 0;
}

static void told(struct cli *cli, const json_t *image, const char *what)
{
        _cleanup_(json_decrefpp) json_t *j = json_pack("{s:O,s:O}", "id", json_object_get(image, "id"),
                                                       "name", json_object_get(image, "name"));

        if (cli->json)
                cli_print(cli, j);
        else
                print_told(image, cli->arguments[0], what);
}

static int action(struct cli *cli, const json_t *image, const char *name, const char *what, struct err *err)
{
        int r = cli_call(cli, "POST", NULL, NULL, err, "/v2/images/%s/actions/%s",
                         json_get_str(image, "id", ""), name);

        if (r < 0)
                return err_wrap(err, r, "image %s", cli->arguments[0]);
        told(cli, image, what);
        return 0;
}

int cmd_image_deactivate(struct cli *cli, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *image = NULL;
        int r = image_find(cli, cli->arguments[0], &image, err);

        return r < 0 ? r
                     : action(cli, image, "deactivate", "is deactivated: nothing new is made of it", err);
}

int cmd_image_reactivate(struct cli *cli, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *image = NULL;
        int r = image_find(cli, cli->arguments[0], &image, err);

        return r < 0 ? r : action(cli, image, "reactivate", "is active", err);
}

/* By id, or by the name of a deleted image where only one has it. */
int cmd_image_undelete(struct cli *cli, struct err *err)
{
        const char *wanted = cli->arguments[0];
        _cleanup_(freep) char *escaped = http_escape(wanted);
        _cleanup_(json_decrefpp) json_t *reply = NULL;
        const json_t *images;
        int r = escaped ? cli_call(cli, "GET", NULL, &reply, err,
                                   "/v2/images?status=pending_delete&visibility=all&%s=%s",
                                   uuid_valid(wanted) ? "id" : "name", escaped)
                        : err_set(err, -ENOMEM, "out of memory");

        if (r < 0)
                return r;
        images = json_object_get(reply, "images");
        if (json_array_size(images) == 0)
                return err_set(
                    err, -ENOENT,
                    "there is no deleted image \"%s\" that can still be undeleted; \"wherry image "
                    "list --deleted\" shows what there is",
                    wanted);
        if (json_array_size(images) > 1)
                return err_set(err, -EINVAL,
                               "%zu deleted images have the name \"%s\"; give the id of one: \"wherry image "
                               "list --deleted\" shows them",
                               json_array_size(images), wanted);
        return action(cli, json_array_get(images, 0), "undelete", "is back", err);
}

/* The account's id, which members are named by. */
static int account_id(struct cli *cli, const char *name, char ret[UUID_LEN + 1], struct err *err)
{
        _cleanup_(freep) char *escaped = http_escape(name);
        _cleanup_(json_decrefpp) json_t *account = NULL;
        int r = escaped ? cli_call(cli, "GET", NULL, &account, err, "/v1/accounts/%s", escaped)
                        : err_set(err, -ENOMEM, "out of memory");

        if (r == 0)
                snprintf(ret, UUID_LEN + 1, "%s", json_get_str(account, "id", ""));
        return r;
}

int cmd_image_share(struct cli *cli, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *image = NULL, *body = NULL;
        char id[UUID_LEN + 1];
        const char *image_id;
        int r = image_find(cli, cli->arguments[0], &image, err);

        if (r == 0)
                r = account_id(cli, cli->arguments[1], id, err);
        if (r < 0)
                return r;
        image_id = json_get_str(image, "id", "");
        body = json_pack("{s:s}", "member", id);
        r = cli_call(cli, "POST", body, NULL, err, "/v2/images/%s/members", image_id);
        if (r < 0)
                return err_wrap(err, r, "image %s is not shared", cli->arguments[0]);
        json_object_set_new(body, "status", json_string("accepted")); /* for its lists, at once */
        r = cli_call(cli, "PUT", body, NULL, err, "/v2/images/%s/members/%s", image_id, id);
        if (r == 0)
                told(cli, image, "is shared");
        return r;
}

int cmd_image_unshare(struct cli *cli, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *image = NULL;
        char id[UUID_LEN + 1];
        int r = image_find(cli, cli->arguments[0], &image, err);

        if (r == 0 && uuid_valid(cli->arguments[1])) /* the account may be gone already */
                snprintf(id, sizeof(id), "%s", cli->arguments[1]);
        else if (r == 0)
                r = account_id(cli, cli->arguments[1], id, err);
        if (r == 0)
                r = cli_call(cli, "DELETE", NULL, NULL, err, "/v2/images/%s/members/%s",
                             json_get_str(image, "id", ""), id);
        if (r == 0)
                told(cli, image, "is no longer shared with that account");
        return r;
}
