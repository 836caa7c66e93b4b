/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

void json_decrefpp(json_t **j); /* for _cleanup_ */

/* Members of an object with a default where they are missing or of another type. Strings are borrowed from
 * obj. */
const char *json_get_str(const json_t *obj, const char *key, const char *missing);
int64_t json_get_int(const json_t *obj, const char *key, int64_t missing);
bool json_get_bool(const json_t *obj, const char *key, bool missing);

/* The path "a.b.c" through nested objects; NULL where a step is missing. Borrowed. */
json_t *json_path(const json_t *obj, const char *path);

/* Parses one document; errors name `what` and the line. The caller owns *ret. */
int json_parse(const char *text, const char *what, json_t **ret, struct err *err);

/* Compact text in fresh memory; NULL when out of memory. */
char *json_text(const json_t *j);
