/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/util.h"
#include "imaged/cli/cli.h"
#include "imaged/cli/host.h"
#include "imaged/cli/image.h"
#include "imaged/cli/instance.h"

#define KEY_FILE_MAX 65536
#define USER_DATA_MAX (512u << 10) /* the server takes a request of 1 MiB */
#define DISK_DEFAULT ((int64_t)10 << 30)
#define MEMORY_DEFAULT ((int64_t)512 << 20)
#define MIB ((uint64_t)1 << 20)
#define NAME_MAX_LEN 63

/* Adds the keys of one file: a line each, as in authorized_keys. */
static int keys_from(const char *path, json_t *keys, struct err *err)
{
        _cleanup_(freep) char *text = NULL;
        size_t before = json_array_size(keys);
        char *save = NULL;
        int r = file_read(path, KEY_FILE_MAX, &text, NULL, err);

        if (r < 0)
                return err_wrap(err, r, "ssh key");
        if (strstr(text, "PRIVATE KEY"))
                return err_set(err, -EINVAL, "ssh key %s is a private key; give the public one, %s.pub",
                               path, path);
        for (char *line = strtok_r(text, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save)) {
                line += strspn(line, " \t");
                if (line[0] && line[0] != '#' && json_array_append_new(keys, json_string(line)) < 0)
                        return err_set(err, -EINVAL, "ssh key %s: a line is not UTF-8", path);
        }
        if (json_array_size(keys) == before)
                return err_set(err, -EINVAL, "ssh key %s holds no key", path);
        return 0;
}

static int keys_default(json_t *keys, struct err *err)
{
        const char *home = getenv("HOME");
        _cleanup_(freep) char *pattern = home ? str_printf("%s/.ssh/id_*.pub", home) : NULL;
        glob_t found = {0};
        int r = 0;

        if (pattern && glob(pattern, 0, NULL, &found) == 0) {
                for (size_t i = 0; r == 0 && i < found.gl_pathc; i++)
                        r = keys_from(found.gl_pathv[i], keys, err);
        }
        globfree(&found);
        if (r == 0 && json_array_size(keys) == 0)
                fprintf(stderr,
                        "wherry: no ssh key: there is no ~/.ssh/id_*.pub, and no --ssh-key was given\n");
        return r;
}

static int add_keys(struct cli *cli, json_t *body, struct err *err)
{
        json_t *keys = json_array();
        const char *path;
        int r = 0;

        if (json_object_set_new(body, "ssh_keys", keys) < 0)
                return err_set(err, -ENOMEM, "out of memory");
        for (size_t i = 0; r == 0 && (path = cli_nth(cli, "--ssh-key", i)); i++)
                r = keys_from(path, keys, err);
        if (r == 0 && !cli_given(cli, "--ssh-key"))
                r = keys_default(keys, err);
        return r;
}

static int add_user_data(struct cli *cli, json_t *body, struct err *err)
{
        const char *path = cli_value(cli, "--user-data");
        _cleanup_(freep) char *text = NULL;
        size_t len;
        int r;

        if (!path)
                return 0;
        r = file_read(path, USER_DATA_MAX, &text, &len, err);
        if (r < 0)
                return err_wrap(err, r, "user data");
        if (json_object_set_new(body, "user_data", json_stringn(text, len)) < 0)
                return err_set(err, -EINVAL, "user data %s is not UTF-8 text", path);
        return 0;
}

/* A host's name as its number: the record knows hosts by number. */
static int add_host(struct cli *cli, json_t *body, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *hosts = NULL;
        const json_t *host = NULL;
        int r;

        if (!cli_value(cli, "--host"))
                return 0;
        r = host_list(cli, &hosts, err);
        if (r == 0)
                r = host_find(hosts, cli_value(cli, "--host"), &host, err);
        if (r < 0)
                return r;
        return json_object_set(body, "host", json_object_get(host, "number")) < 0
                   ? err_set(err, -ENOMEM, "out of memory")
                   : 0;
}

/* "Debian 12 (generic)" becomes "debian-12-generic-3f9a": the rule for names, and no two alike. */
static void name_from_image(const char *image, char *ret, size_t len)
{
        size_t n = 0;

        for (; *image && n + 6 < len; image++) {
                if (isalnum((unsigned char)*image))
                        ret[n++] = (char)tolower((unsigned char)*image);
                else if (n > 0 && ret[n - 1] != '-')
                        ret[n++] = '-';
        }
        while (n > 0 && ret[n - 1] == '-')
                n--;
        snprintf(ret + n, len - n, "%s%04x", n ? "-" : "vm-", (unsigned)(random_u64() & 0xffff));
}

static int add_sizes(struct cli *cli, const json_t *image, json_t *body, struct err *err)
{
        int64_t cpus, priority, disk = MAX_OF(DISK_DEFAULT, json_get_int(image, "virtual_size", 0)),
                                memory = MAX_OF(MEMORY_DEFAULT, json_get_int(image, "min_ram", 0) << 20);
        uint64_t given;
        int r;

        disk = MAX_OF(disk, json_get_int(image, "min_disk", 0) << 30);

        r = cli_number(cli, "--cpus", 1, 1024, &cpus, err);
        if (r == 0)
                r = cli_number(cli, "--priority", -1000000, 1000000, &priority, err);
        if (r == 0 && cli_value(cli, "--memory")) {
                r = cli_size(cli, "--memory", 16 * MIB, &given, err);
                memory = r == 0 ? (int64_t)given : memory;
        }
        if (r == 0 && cli_value(cli, "--disk")) {
                r = cli_size(cli, "--disk", MIB, &given, err);
                disk = r == 0 ? (int64_t)given : disk;
        }
        if (r < 0)
                return r;
        if (json_object_set_new(body, "cpus", json_integer(cpus)) < 0 ||
            json_object_set_new(body, "priority", json_integer(priority)) < 0 ||
            json_object_set_new(body, "memory", json_integer(memory)) < 0 ||
            json_object_set_new(body, "disk", json_integer(disk)) < 0)
                return err_set(err, -ENOMEM, "out of memory");
        return 0;
}

static int make_body(struct cli *cli, const json_t *image, json_t **ret, struct err *err)
{
        bool iso = streq(json_get_str(image, "disk_format", NULL), "iso");
        const char *image_name = json_get_str(image, "name", ""), *name = cli_value(cli, "--name");
        _cleanup_(json_decrefpp) json_t *body = NULL;
        char made[NAME_MAX_LEN + 1];
        int r;

        if (cli_given(cli, "--iso") && !iso)
                return err_set(err, -EINVAL, "image %s is of the format %s, not an ISO; leave --iso out",
                               image_name, json_get_str(image, "disk_format", "?"));
        if (!name) {
                name_from_image(image_name, made, sizeof(made));
                name = made;
        }
        body = json_pack("{s:s,s:O}", "name", name, iso ? "iso" : "image", json_object_get(image, "id"));
        if (!body)
                return err_set(err, -EINVAL, "--name %s is not UTF-8", name);
        r = add_sizes(cli, image, body, err);
        if (r == 0)
                r = add_keys(cli, body, err);
        if (r == 0)
                r = add_user_data(cli, body, err);
        if (r == 0)
                r = add_host(cli, body, err);
        if (r == 0 && cli_value(cli, "--group") &&
            json_object_set_new(body, "group", json_string(cli_value(cli, "--group"))) < 0)
                r = err_set(err, -EINVAL, "--group %s is not UTF-8", cli_value(cli, "--group"));
        if (r == 0)
                *ret = take(body);
        return r;
}

int cmd_run(struct cli *cli, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *image = NULL, *body = NULL, *made = NULL, *after = NULL;
        const char *id;
        int r;

        if (cli_given(cli, "--wait") && cli_given(cli, "--no-wait"))
                return cli_usage(cli, err, "--wait and --no-wait contradict each other");
        r = image_find(cli, cli->arguments[0], &image, err);
        if (r == 0)
                r = make_body(cli, image, &body, err);
        if (r == 0)
                r = cli_call(cli, "POST", body, &made, err, "/v1/instances");
        if (r < 0)
                return r;
        if (cli_given(cli, "--no-wait")) {
                host_warn_losses(cli, made);
                instance_tell(cli, made);
                return 0;
        }
        id = json_get_str(made, "name", json_get_str(made, "id", ""));
        r = instance_wait(cli, id, GOAL_RUNNING, made, &after, err);
        if (r < 0)
                return r;
        host_warn_losses(cli, after);
        instance_tell(cli, after);
        return 0;
}
