/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/conf.h"
#include "common/http-client.h"
#include "common/util.h"
#include "imaged/cli/cli.h"

/*
 * Where the server is and what opens it; for each of the two the first of these that says it:
 *   the option         --url, --token-file
 *   the environment    WHERRY_URL, WHERRY_TOKEN (the token itself)
 *   the user's file    ~/.config/wherry/config     [server] url, token_file
 *   the machine's file /etc/wherry/cli.conf        the same
 *   the default        http://127.0.0.1:8080, and no token
 */
#define DEFAULT_URL "http://127.0.0.1:8080"
#define TOKEN_MAX 4096

struct settings {
        char *url, *token_file;
};

static void settings_done(struct settings *s)
{
        free(s->url);
        free(s->token_file);
}

static int settings_load(const char *path, struct settings *ret, struct err *err)
{
        const struct conf_key keys[] = {
            {"server", "url", NULL, "the server, http://HOST:PORT", &ret->url},
            {"server", "token_file", NULL, "file that holds the server's token", &ret->token_file},
        };

        if (!path || (access(path, F_OK) < 0 && errno == ENOENT))
                return 0;
        return conf_load(path, keys, ARRAY_SIZE(keys), err);
}

static char *user_path(void)
{
        const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

        if (config && config[0] == '/')
                return str_printf("%s/wherry/config", config);
        return home && home[0] == '/' ? str_printf("%s/.config/wherry/config", home) : NULL;
}

/* Reads the token, without the line break that editors put at the end. */
static int token_read(const char *path, char **ret, struct err *err)
{
        char *text = NULL;
        size_t len;
        int r = file_read(path, TOKEN_MAX, &text, &len, err);

        if (r < 0)
                return err_wrap(err, r, "token file");
        while (len > 0 && isspace((unsigned char)text[len - 1]))
                text[--len] = '\0';
        if (len == 0) {
                free(text);
                return err_set(err, -EINVAL, "token file %s is empty; write the server's token into it",
                               path);
        }
        *ret = text;
        return 0;
}

static const char *first_of(const char *a, const char *b, const char *c, const char *d)
{
        return a && a[0] ? a : b && b[0] ? b : c ? c : d;
}

int cli_settings(struct cli *cli, struct err *err)
{
        _cleanup_(settings_done) struct settings user = {0}, machine = {0};
        _cleanup_(freep) char *path = user_path();
        const char *token = getenv("WHERRY_TOKEN"), *file = cli_value(cli, "--token-file");
        int r;

        r = settings_load(path, &user, err);
        if (r == 0)
                r = settings_load("/etc/wherry/cli.conf", &machine, err);
        if (r < 0)
                return r;
        cli->url = strdup(first_of(cli_value(cli, "--url"), getenv("WHERRY_URL"), user.url,
                                   machine.url ? machine.url : DEFAULT_URL));
        if (!cli->url)
                return err_set(err, -ENOMEM, "out of memory");
        if (!file && token && token[0]) {
                cli->token = strdup(token);
                return cli->token ? 0 : err_set(err, -ENOMEM, "out of memory");
        }
        file = first_of(file, NULL, user.token_file, machine.token_file);
        return file ? token_read(file, &cli->token, err) : 0;
}

void cli_done(struct cli *cli)
{
        cli->http = http_client_free(cli->http);
        free(take(cli->url));
        free(take(cli->token));
}
