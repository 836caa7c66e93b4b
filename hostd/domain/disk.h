/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdio.h>

#include "common/err.h"
#include "hostd/domain/domain.h"

/* The disks of a domain, as <disk> elements; a part of domain_xml(). */
int domain_disks_emit(FILE *f, const struct domain_spec *s, struct err *err);

/* Writes fmt with its one "%s" replaced by text, escaped for XML (also inside '...'). */
void xml_put(FILE *f, const char *fmt, const char *text);
