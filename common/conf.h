/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "common/err.h"

/*
 * A daemon's configuration: "[section]" and "key = value" lines (inih). The program gives the table of what
 * it knows; a key outside the table is an error that names the file, the line and the keys there are.
 */
struct conf_key {
        const char *section, *name;
        const char *fallback; /* NULL: no value unless the file gives one */
        const char *help;     /* one line, for --help and the man page */
        char **value;         /* where the value goes; owned by the caller, freed with conf_done() */
};

int conf_load(const char *path, const struct conf_key *keys, size_t n_keys, struct err *err);
void conf_done(const struct conf_key *keys, size_t n_keys);
