/* SPDX-License-Identifier: Apache-2.0 */

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hostd/lock-driver/driver.h"

static int set_ms(const char *name, const char *value, int *ret, char reason[REASON_LEN])
{
        char *end;
        long ms;

        errno = 0;
        ms = strtol(value, &end, 10);
        if (errno || end == value || *end || ms < 1 || ms > 600000) {
                snprintf(reason, REASON_LEN, "%s: \"%.64s\" is no number of milliseconds from 1 to 600000",
                         name, value);
                return -1;
        }
        *ret = (int)ms;
        return 0;
}

static int set_one(struct settings *s, const char *name, const char *value, char reason[REASON_LEN])
{
        if (strcmp(name, "gate") == 0) {
                if (value[0] != '/' || strlen(value) >= sizeof s->gate) {
                        snprintf(reason, REASON_LEN,
                                 "gate: \"%.200s\" is no absolute path of at most %zu bytes", value,
                                 sizeof s->gate - 1);
                        return -1;
                }
                snprintf(s->gate, sizeof s->gate, "%s", value);
                return 0;
        }
        if (strcmp(name, "answer_ms") == 0)
                return set_ms(name, value, &s->answer_ms, reason);
        if (strcmp(name, "lock_ms") == 0)
                return set_ms(name, value, &s->lock_ms, reason);
        snprintf(reason, REASON_LEN, "unknown setting \"%.64s\"; there are gate, answer_ms and lock_ms",
                 name);
        return -1;
}

/* Cuts spaces and one pair of quotes off both ends, in place. */
static char *trimmed(char *text)
{
        char *end = text + strlen(text);

        while (isspace((unsigned char)*text))
                text++;
        while (end > text && isspace((unsigned char)end[-1]))
                *--end = '\0';
        if (end > text + 1 && *text == '"' && end[-1] == '"') {
                text++;
                end[-1] = '\0';
        }
        return text;
}

static int load_file(const char *file, struct settings *s, char reason[REASON_LEN])
{
        char line[256], why[REASON_LEN];
        int number = 0, r = 0;
        FILE *f = fopen(file, "re");

        if (!f && errno == ENOENT)
                return 0;
        if (!f) {
                snprintf(reason, REASON_LEN, "cannot read %.200s: %s", file, strerror(errno));
                return -1;
        }
        while (r == 0 && fgets(line, sizeof line, f)) {
                char *text = trimmed(line), *equals = strchr(text, '=');

                number++;
                if (!*text || *text == '#')
                        continue;
                if (equals) {
                        *equals = '\0';
                        r = set_one(s, trimmed(text), trimmed(equals + 1), why);
                } else {
                        snprintf(why, sizeof why, "no \"name = value\"");
                        r = -1;
                }
                if (r < 0)
                        snprintf(reason, REASON_LEN, "%.120s line %d: %.300s", file, number, why);
        }
        fclose(f);
        return r;
}

int settings_load(const char *file, struct settings *ret, char reason[REASON_LEN])
{
        static const struct {
                const char *variable, *name;
        } variables[] = {
            {"WHERRY_GATE", "gate"},
            {"WHERRY_GATE_ANSWER_MS", "answer_ms"},
            {"WHERRY_GATE_LOCK_MS", "lock_ms"},
        };
        /* A claim and a fence may wait for an OSD map: hostd's own limits are below 30 s. A second lock that
         * is not free within 3 s belongs to a QEMU that lives. */
        struct settings s = {.gate = GATE_SOCKET, .answer_ms = 30000, .lock_ms = 3000};

        if (file && load_file(file, &s, reason) < 0)
                return -1;
        for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
                const char *value = getenv(variables[i].variable);

                if (value && set_one(&s, variables[i].name, value, reason) < 0)
                        return -1;
        }
        *ret = s;
        return 0;
}
