/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/http-client.h"
#include "common/json.h"
#include "common/util.h"
#include "imaged/cli/cli.h"

int cli_call(struct cli *cli, const char *method, const json_t *body, json_t **ret, struct err *err,
             const char *path, ...)
{
        _cleanup_(freep) char *text = NULL;
        long status = 0;
        va_list ap;
        int r;

        va_start(ap, path);
        r = vasprintf(&text, path, ap);
        va_end(ap);
        if (r < 0) {
                text = NULL;
                return err_set(err, -ENOMEM, "out of memory");
        }
        r = http_call(cli->http, method, text, body, ret, &status, err);
        if (r == -EPERM && status == 401)
                return err_set(err, r,
                               "%s does not accept %s; give the file that holds the server's token with "
                               "--token-file, or set WHERRY_TOKEN",
                               cli->url, cli->token ? "this token" : "calls without a token");
        if (r < 0 && status == 0 && r != -ECANCELED)
                return err_wrap(err, r, "cannot reach the server (--url, WHERRY_URL)");
        return r;
}

json_t *cli_text(const char *text)
{
        json_t *j = json_string(text);
        _cleanup_(freep) char *copy = j ? NULL : strdup(text);

        for (char *p = copy; p && *p; p++)
                if (*p & 0x80)
                        *p = '?';
        return copy ? json_string(copy) : j;
}

void cli_print(struct cli *cli, const json_t *j)
{
        json_dumpf(j, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
        putchar('\n');
        cli->told = true;
}

void cli_print_line(struct cli *cli, const json_t *j)
{
        json_dumpf(j, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
        putchar('\n');
        fflush(stdout);
        cli->told = true;
}

static int compare(const void *a, const void *b, void *key)
{
        const json_t *x = json_object_get(*(json_t *const *)a, key),
                     *y = json_object_get(*(json_t *const *)b, key);

        if (json_is_string(x) && json_is_string(y))
                return strcmp(json_string_value(x), json_string_value(y));
        return (json_integer_value(x) > json_integer_value(y)) -
               (json_integer_value(x) < json_integer_value(y));
}

json_t *cli_sorted(const json_t *array, const char *key)
{
        size_t n = json_array_size(array);
        _cleanup_(freep) json_t **list = calloc(n + 1, sizeof(*list));
        _cleanup_(json_decrefpp) json_t *ret = json_array();

        if (!list || !ret)
                return NULL;
        for (size_t i = 0; i < n; i++)
                list[i] = json_array_get(array, i);
        qsort_r(list, n, sizeof(*list), compare, (void *)(uintptr_t)key);
        for (size_t i = 0; i < n; i++)
                if (json_array_append(ret, list[i]) < 0)
                        return NULL;
        return take(ret);
}
