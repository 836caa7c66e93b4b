/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <string.h>

#include "common/util.h"
#include "formats/bytes.h"
#include "imaged/osinfo/helper.h"

/* The value of a line, without quotes; a backslash keeps the character behind it. What is no printable ASCII
 * is left out, and of a word what no distribution's id or version has. */
static bool fits(char c, bool word)
{
        return word ? isalnum((unsigned char)c) || (c && strchr("._-+", c)) : c >= 0x20 && c < 0x7f;
}

static void value_copy(const char *text, size_t len, bool word, char *ret, size_t room)
{
        char quote = len > 0 && (text[0] == '"' || text[0] == '\'') ? text[0] : '\0';
        size_t n = 0;

        for (size_t i = quote ? 1 : 0; i < len && n + 1 < room; i++) {
                if (quote && text[i] == quote)
                        break;
                if (text[i] == '\\' && quote != '\'' && i + 1 < len)
                        i++;
                if (fits(text[i], word))
                        ret[n++] = text[i];
        }
        while (n > 0 && ret[n - 1] == ' ')
                n--;
        ret[n] = '\0';
}

static bool key_is(const char *line, size_t len, const char *key)
{
        return len > strlen(key) && line[strlen(key)] == '=' && memcmp(line, key, strlen(key)) == 0;
}

void os_release_parse(const char *text, size_t len, struct os_release *ret)
{
        const struct {
                const char *key;
                char *to;
                size_t room;
                bool word;
        } keys[] = {{"ID", ret->id, sizeof(ret->id), true},
                    {"VERSION_ID", ret->version_id, sizeof(ret->version_id), true},
                    {"PRETTY_NAME", ret->name, sizeof(ret->name), false}};

        *ret = (struct os_release){0};
        for (size_t at = 0; at < len;) {
                const char *line = text + at, *end = memchr(line, '\n', len - at);
                size_t n = end ? (size_t)(end - line) : len - at;

                for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
                        if (key_is(line, n, keys[i].key))
                                value_copy(line + strlen(keys[i].key) + 1, n - strlen(keys[i].key) - 1,
                                           keys[i].word, keys[i].to, keys[i].room);
                at += n + 1;
        }
}

/* Source: the System V ABI's e_ident and e_machine, and elf.h. */
const char *elf_architecture(const uint8_t *head)
{
        static const struct {
                uint16_t machine;
                bool big;
                const char *name;
        } machines[] = {{3, false, "i686"},    {62, false, "x86_64"},  {183, false, "aarch64"},
                        {40, false, "armv7l"}, {21, false, "ppc64le"}, {21, true, "ppc64"},
                        {22, true, "s390x"},   {243, false, "riscv64"}};
        bool big = head[5] == 2;
        uint16_t machine = big ? get_be16(head + 18) : get_le16(head + 18);

        if (memcmp(head, "\177ELF", 4) != 0)
                return NULL;
        for (size_t i = 0; i < ARRAY_SIZE(machines); i++)
                if (machines[i].machine == machine && machines[i].big == big)
                        return machines[i].name;
        return NULL;
}
