/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "common/http-client.h"
#include "common/json.h"
#include "common/util.h"
#include "imaged/cli/cli.h"
#include "imaged/cli/human.h"
#include "imaged/cli/table.h"

#define PASSWORD_MAX 1024

/* One line, without its end; a terminal does not show it. */
static int line_read(const char *prompt, char *ret, size_t len, struct err *err)
{
        bool terminal = isatty(STDIN_FILENO);
        struct termios old, quiet;
        bool got;

        if (terminal && tcgetattr(STDIN_FILENO, &old) == 0) {
                quiet = old;
                quiet.c_lflag &= ~(tcflag_t)ECHO;
                fprintf(stderr, "%s: ", prompt);
                tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
        }
        got = fgets(ret, (int)len, stdin) != NULL;
        if (terminal) {
                tcsetattr(STDIN_FILENO, TCSAFLUSH, &old);
                fputc('\n', stderr);
        }
        if (!got)
                return err_set(err, -EINVAL, "no password: standard input ended");
        ret[strcspn(ret, "\r\n")] = '\0';
        return 0;
}

/* From --password-file, or asked for; a person has to say it twice. Never from an argument, which others on
 * the machine can read. */
static int password_get(struct cli *cli, char ret[PASSWORD_MAX + 2], struct err *err)
{
        const char *path = cli_value(cli, "--password-file");
        _cleanup_(freep) char *text = NULL;
        char again[PASSWORD_MAX + 2];
        int r;

        if (path) {
                r = file_read(path, PASSWORD_MAX, &text, NULL, err);
                if (r < 0)
                        return err_wrap(err, r, "password");
                text[strcspn(text, "\r\n")] = '\0';
                snprintf(ret, PASSWORD_MAX + 2, "%s", text);
                explicit_bzero(text, strlen(text));
                return 0;
        }
        r = line_read("new password", ret, PASSWORD_MAX + 2, err);
        if (r == 0 && isatty(STDIN_FILENO)) {
                r = line_read("the same again", again, sizeof(again), err);
                if (r == 0 && !streq(ret, again))
                        r = err_set(err, -EINVAL, "the two passwords differ");
                explicit_bzero(again, sizeof(again));
        }
        return r;
}

int cmd_account_add(struct cli *cli, struct err *err)
{
        const char *name = cli->arguments[0], *role = cli_value(cli, "--role");
        _cleanup_(json_decrefpp) json_t *body = NULL, *added = NULL;
        char password[PASSWORD_MAX + 2];
        uint64_t bytes = 0;
        int r = 0;

        if (!streq(role, "admin") && !streq(role, "member"))
                return cli_usage(cli, err, "--role %s: admin or member", role);
        if (cli_value(cli, "--quota"))
                r = cli_size(cli, "--quota", 1, &bytes, err);
        if (r == 0)
                r = password_get(cli, password, err);
        if (r < 0)
                return r;
        body = json_pack("{s:s,s:s,s:s}", "name", name, "password", password, "role", role);
        explicit_bzero(password, sizeof(password));
        if (!body)
                return err_set(err, -EINVAL, "name or password is not UTF-8");
        if (bytes)
                json_object_set_new(body, "quota", json_pack("{s:I}", "image_bytes", (json_int_t)bytes));
        r = cli_call(cli, "POST", body, &added, err, "/v1/accounts");
        if (r < 0)
                return r;
        if (cli->json)
                cli_print(cli, added);
        else
                printf("account %s is added, with the role %s\nid %s\n", name, role,
                       json_get_str(added, "id", "?"));
        return 0;
}

static const char *quota_text(const json_t *account, char *buf, size_t len)
{
        const json_t *limit = json_path(account, "quota.image_bytes");
        char used[24], all[24];

        if (!json_is_integer(limit))
                return "none";
        snprintf(buf, len, "%s of %s",
                 size_format((uint64_t)json_integer_value(json_path(account, "used.image_bytes")), used,
                             sizeof(used)),
                 size_format((uint64_t)json_integer_value(limit), all, sizeof(all)));
        return buf;
}

static int print_table(const json_t *accounts)
{
        static const char *const titles[] = {"NAME", "ROLE", "QUOTA", "CREATED", "ID"};
        _cleanup_(table_freep) struct table *t = table_new(titles, ARRAY_SIZE(titles));
        time_t now = time(NULL);
        const json_t *a;
        char buf[64];
        size_t i;
        int r = t ? 0 : -ENOMEM;

        json_array_foreach (accounts, i, a) {
                if (r == 0)
                        r = table_add(t, json_get_str(a, "name", NULL));
                if (r == 0)
                        r = table_add(t, json_get_str(a, "role", NULL));
                if (r == 0)
                        r = table_add(t, quota_text(a, buf, sizeof(buf)));
                if (r == 0)
                        r = table_add(t, human_age(json_get_str(a, "created", NULL), now, buf));
                if (r == 0)
                        r = table_add(t, json_get_str(a, "id", NULL));
        }
        if (r == 0)
                table_print(t, stdout);
        return r;
}

int cmd_account_list(struct cli *cli, struct err *err)
{
        _cleanup_(json_decrefpp) json_t *reply = NULL, *accounts = NULL, *doc = NULL;
        const json_t *a;
        size_t i;
        int r = cli_call(cli, "GET", NULL, &reply, err, "/v1/accounts");

        if (r < 0)
                return r;
        accounts = cli_sorted(json_object_get(reply, "accounts"), "name");
        if (!accounts)
                return err_set(err, -ENOMEM, "out of memory");
        if (cli->json) {
                doc = json_pack("{s:O}", "accounts", accounts);
                cli_print(cli, doc);
        } else if (cli_given(cli, "--quiet")) {
                json_array_foreach (accounts, i, a)
                        puts(json_get_str(a, "name", ""));
        } else if (json_array_size(accounts) == 0)
                puts("no accounts yet; \"wherry account add NAME\" adds one");
        else if (print_table(accounts) < 0)
                return err_set(err, -ENOMEM, "out of memory");
        return 0;
}

static void show(const json_t *a)
{
        char buf[64];

        printf("name:     %s\nid:       %s\nrole:     %s\nquota:    %s\ncreated:  %s\n",
               json_get_str(a, "name", ""), json_get_str(a, "id", ""), json_get_str(a, "role", ""),
               quota_text(a, buf, sizeof(buf)), json_get_str(a, "created", ""));
}

int cmd_account_show(struct cli *cli, struct err *err)
{
        _cleanup_(freep) char *name = http_escape(cli->arguments[0]);
        _cleanup_(json_decrefpp) json_t *a = NULL;
        int r = name ? cli_call(cli, "GET", NULL, &a, err, "/v1/accounts/%s", name)
                     : err_set(err, -ENOMEM, "out of memory");

        if (r < 0)
                return r;
        if (cli->json) {
                cli_print(cli, a);
                return 0;
        }
        show(a);
        return 0;
}

/* What a command that changes has to say. */
static void told(struct cli *cli, const char *what)
{
        _cleanup_(json_decrefpp) json_t *j = json_pack("{s:s}", "name", cli->arguments[0]);

        if (cli->json)
                cli_print(cli, j);
        else
                printf("account %s %s\n", cli->arguments[0], what);
}

int cmd_account_set(struct cli *cli, struct err *err)
{
        const char *role = cli_value(cli, "--role");
        _cleanup_(freep) char *name = http_escape(cli->arguments[0]);
        _cleanup_(json_decrefpp) json_t *body = json_object(), *now = NULL;
        bool quota = cli_value(cli, "--quota"), none = cli_given(cli, "--no-quota");
        uint64_t bytes = 0;
        int r = 0;

        if (!role && !quota && !none)
                return cli_usage(cli, err, "nothing to set; --quota, --no-quota and --role are possible");
        if (quota && none)
                return cli_usage(cli, err, "--quota and --no-quota contradict each other");
        if (role && !streq(role, "admin") && !streq(role, "member"))
                return cli_usage(cli, err, "--role %s: admin or member", role);
        if (quota)
                r = cli_size(cli, "--quota", 1, &bytes, err);
        if (r < 0)
                return r;
        if (!name || !body)
                return err_set(err, -ENOMEM, "out of memory");
        if (role)
                json_object_set_new(body, "role", json_string(role));
        if (quota || none)
                json_object_set_new(
                    body, "quota",
                    json_pack("{s:o}", "image_bytes", none ? json_null() : json_integer((json_int_t)bytes)));
        r = cli_call(cli, "PATCH", body, &now, err, "/v1/accounts/%s", name);
        if (r < 0)
                return r;
        if (cli->json)
                cli_print(cli, now);
        else
                show(now);
        return 0;
}

int cmd_account_rm(struct cli *cli, struct err *err)
{
        _cleanup_(freep) char *name = http_escape(cli->arguments[0]);
        int r = name ? cli_call(cli, "DELETE", NULL, NULL, err, "/v1/accounts/%s", name)
                     : err_set(err, -ENOMEM, "out of memory");

        if (r == 0)
                told(cli, "is removed");
        return r;
}

int cmd_account_password(struct cli *cli, struct err *err)
{
        _cleanup_(freep) char *name = http_escape(cli->arguments[0]);
        _cleanup_(json_decrefpp) json_t *body = NULL;
        char password[PASSWORD_MAX + 2];
        int r = password_get(cli, password, err);

        if (r < 0)
                return r;
        body = json_pack("{s:s}", "password", password);
        explicit_bzero(password, sizeof(password));
        if (!body || !name)
                return err_set(err, -EINVAL, "the password is not UTF-8");
        r = cli_call(cli, "POST", body, NULL, err, "/v1/accounts/%s/password", name);
        if (r == 0)
                told(cli, "has a new password; its tokens are void");
        return r;
}
