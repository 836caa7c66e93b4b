/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "common/err.h"

struct cli;

/* The server's list of hosts, as an array. The caller owns *ret. */
int host_list(struct cli *cli, json_t **ret, struct err *err);

/* One of the list, by name or number; the error lists the names. Borrowed from hosts. */
int host_find(const json_t *hosts, const char *name_or_number, const json_t **ret, struct err *err);

/* Whether the loss of one host could be absorbed now: a line or more for people; nothing where the server
 * does not say. */
void host_print_spare(struct cli *cli);
/* The same as warnings: lines on standard error, or with --json the member "warnings" of the document. */
void host_warn_losses(struct cli *cli, json_t *document);

/* The name of a host by its number; the number as text where the list has none; "-" for 0, which is no host.
 * Returns buf or a string borrowed from hosts (which may be NULL). */
const char *host_label(const json_t *hosts, int64_t number, char *buf, size_t len);
