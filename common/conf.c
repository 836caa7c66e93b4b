/* SPDX-License-Identifier: Apache-2.0 */
#include "common/conf.h"

#include <errno.h>
#include <ini.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"

struct conf_state {
        const char *path;
        const struct conf_key *keys;
        size_t n_keys;
        FILE *file;
        int line;    /* the one that was read last */
        bool *given; /* which keys the file has given */
        struct err *err;
        int failed;
};

/* Says which keys the section has, or, where there is no such section, which sections there are. */
static int conf_unknown(struct conf_state *st, const char *section, const char *name)
{
        char keys[200] = "", sections[200] = "";

        for (size_t i = 0; i < st->n_keys; i++) {
                const struct conf_key *k = &st->keys[i];

                if (streq(k->section, section))
                        snprintf(keys + strlen(keys), sizeof(keys) - strlen(keys), " %s", k->name);
                if (i == 0 || !streq(st->keys[i - 1].section, k->section))
                        snprintf(sections + strlen(sections), sizeof(sections) - strlen(sections), " [%s]",
                                 k->section);
        }
        if (keys[0])
                return err_set(st->err, -EINVAL, "%s:%d: [%s] %s is not a setting; [%s] knows:%s", st->path,
                               st->line, section, name, section, keys);
        return err_set(st->err, -EINVAL, "%s:%d: [%s] %s is not a setting; the sections are:%s", st->path,
                       st->line, section, name, sections);
}

/* Returns 1 where all is well: inih's way. */
static int conf_line(void *user, const char *section, const char *name, const char *value)
{
        struct conf_state *st = user;

        if (st->failed) /* inih goes on after an error; the first one counts */
                return 0;
        for (size_t i = 0; i < st->n_keys; i++) {
                const struct conf_key *k = &st->keys[i];

                if (!streq(k->section, section) || !streq(k->name, name))
                        continue;
                if (st->given[i]) {
                        st->failed =
                            err_set(st->err, -EINVAL,
                                    "%s:%d: [%s] %s is given twice (a line that begins with a space goes on "
                                    "with the setting above it)",
                                    st->path, st->line, section, name);
                        return 0;
                }
                st->given[i] = true;
                free(*k->value);
                *k->value = strdup(value);
                if (!*k->value)
                        st->failed = err_set(st->err, -ENOMEM, "%s: out of memory", st->path);
                return !st->failed;
        }
        st->failed = conf_unknown(st, section, name);
        return 0;
}

/* fgets that counts, and that refuses a line which inih would take apart at the end of its buffer. */
static char *conf_read(char *str, int num, void *stream)
{
        struct conf_state *st = stream;
        size_t len;

        if (st->failed || !fgets(str, num, st->file))
                return NULL;
        st->line++;
        len = strlen(str);
        if (len + 1 == (size_t)num && str[len - 1] != '\n') {
                st->failed = err_set(st->err, -EINVAL, "%s:%d: the line is longer than %d characters",
                                     st->path, st->line, num - 3);
                return NULL;
        }
        return str;
}

int conf_load(const char *path, const struct conf_key *keys, size_t n_keys, struct err *err)
{
        _cleanup_(fclosep) FILE *file = fopen(path, "re");
        _cleanup_(freep) bool *given = calloc(n_keys + 1, sizeof(*given));
        struct conf_state st = {
            .path = path, .keys = keys, .n_keys = n_keys, .file = file, .given = given, .err = err};
        int r, saved = errno;

        for (size_t i = 0; i < n_keys; i++)
                *keys[i].value = NULL;
        if (!file)
                return err_set(err, -saved, "%s: cannot read the configuration: %s", path, strerror(saved));
        for (size_t i = 0; i < n_keys && given; i++) {
                *keys[i].value = keys[i].fallback ? strdup(keys[i].fallback) : NULL;
                if (keys[i].fallback && !*keys[i].value)
                        st.failed = -ENOMEM;
        }
        if (!given || st.failed) {
                conf_done(keys, n_keys);
                return err_set(err, -ENOMEM, "%s: out of memory", path);
        }
        r = ini_parse_stream(conf_read, &st, conf_line, &st);
        if (st.failed == 0 && r > 0)
                st.failed = err_set(err, -EINVAL, "%s:%d: neither a [section] nor a key = value", path, r);
        if (st.failed == 0 && (r < 0 || ferror(file)))
                st.failed = err_set(err, -EIO, "%s: cannot read the configuration to its end", path);
        if (st.failed)
                conf_done(keys, n_keys);
        return st.failed;
}

void conf_done(const struct conf_key *keys, size_t n_keys)
{
        for (size_t i = 0; i < n_keys; i++) {
                free(*keys[i].value);
                *keys[i].value = NULL;
        }
}
