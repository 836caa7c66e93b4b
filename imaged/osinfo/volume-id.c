/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "common/util.h"
#include "imaged/osinfo/helper.h"

/*
 * For an ISO that is newer than the database: most distributions have named theirs alike for years. The
 * words are apart by blanks or hyphens: the distribution, perhaps more words, the version (as numbers that
 * follow each other), and the architecture, in any order.
 */
static const struct {
        const char *word, *distro;
} distros[] = {
    {"debian", "debian"}, {"ubuntu", "ubuntu"},       {"fedora", "fedora"}, {"centos", "centos"},
    {"rocky", "rocky"},   {"almalinux", "almalinux"}, {"rhel", "rhel"},     {"opensuse", "opensuse"},
    {"sle", "sle"},       {"alpine", "alpinelinux"},  {"ol", "ol"},         {"mageia", "mageia"}};

static const struct {
        const char *word, *architecture;
} architectures[] = {{"amd64", "x86_64"}, {"x86_64", "x86_64"},   {"i386", "i686"},
                     {"i686", "i686"},    {"arm64", "aarch64"},   {"aarch64", "aarch64"},
                     {"armhf", "armv7l"}, {"ppc64el", "ppc64le"}, {"ppc64le", "ppc64le"},
                     {"s390x", "s390x"},  {"riscv64", "riscv64"}};

static bool is_number(const char *word)
{
        return isdigit((unsigned char)word[0]) && strspn(word, "0123456789.") == strlen(word);
}

/* Whether the word before was part of the version, so that this one may go on with it. */
static bool version_add(struct osinfo *o, const char *word, bool before)
{
        size_t n = strlen(o->version);

        if (!is_number(word) || (n > 0 && !before))
                return false;
        snprintf(o->version + n, sizeof(o->version) - n, "%s%s", n ? "." : "", word);
        return true;
}

bool volume_id_parse(const char *volume, struct osinfo *o)
{
        char words[64], *save = NULL, *word;
        struct osinfo found = *o;
        bool version = false;

        snprintf(words, sizeof(words), "%s", volume);
        for (char *p = words; *p; p++)
                *p = (char)tolower((unsigned char)*p);
        word = strtok_r(words, " -", &save);
        found.distro[0] = found.version[0] = '\0';
        for (size_t i = 0; word && i < ARRAY_SIZE(distros); i++)
                if (streq(word, distros[i].word))
                        snprintf(found.distro, sizeof(found.distro), "%s", distros[i].distro);
        if (!found.distro[0])
                return false;
        while ((word = strtok_r(NULL, " -", &save))) {
                version = version_add(&found, word, version);
                for (size_t i = 0; i < ARRAY_SIZE(architectures); i++)
                        if (streq(word, architectures[i].word))
                                snprintf(found.architecture, sizeof(found.architecture), "%s",
                                         architectures[i].architecture);
        }
        if (!found.version[0])
                return false;
        *o = found;
        return true;
}
