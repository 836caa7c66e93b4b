/* SPDX-License-Identifier: Apache-2.0 */
#include "common/conf.h"

#include <errno.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"

struct conf_state {
        const char *path;
        const struct conf_key *keys;
        size_t n_keys;
        struct err *err;
        int failed;
};

static int conf_line(void *user, const char *section, const char *name, const char *value)
{
        struct conf_state *st = user;
        char known[256] = "";

        for (size_t i = 0; i < st->n_keys; i++) {
                const struct conf_key *k = &st->keys[i];

                if (streq(k->section, section) && streq(k->name, name)) {
                        free(*k->value);
                        *k->value = strdup(value);
                        return *k->value != NULL;
                }
                if (streq(k->section, section))
                        snprintf(known + strlen(known), sizeof(known) - strlen(known), " %s", k->name);
        }
        st->failed = err_set(st->err, -EINVAL, "%s: [%s] %s is not a setting; [%s] knows:%s", st->path,
                             section, name, section, known[0] ? known : " nothing");
        return 0;
}

int conf_load(const char *path, const struct conf_key *keys, size_t n_keys, struct err *err)
{
        struct conf_state st = {.path = path, .keys = keys, .n_keys = n_keys, .err = err};
        int r;

        for (size_t i = 0; i < n_keys; i++)
                *keys[i].value = keys[i].fallback ? strdup(keys[i].fallback) : NULL;
        r = ini_parse(path, conf_line, &st);
        if (r == 0)
                return 0;
        conf_done(keys, n_keys);
        if (st.failed)
                return st.failed;
        if (r > 0)
                return err_set(err, -EINVAL, "%s: line %d is neither a [section] nor a key = value", path,
                               r);
        return err_set(err, -ENOENT, "%s: cannot read the configuration: %s", path, strerror(errno));
}

void conf_done(const struct conf_key *keys, size_t n_keys)
{
        for (size_t i = 0; i < n_keys; i++) {
                free(*keys[i].value);
                *keys[i].value = NULL;
        }
}
