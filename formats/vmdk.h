/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "formats/formats.h"

/* The text that says what a VMDK consists of; checks it and notes its fields. capacity: sectors by the
 * sparse header, or UINT64_MAX for a file that is nothing but this text. */
void vmdk_descriptor_check(const char *text, size_t len, uint64_t capacity, struct image_info *info);
/* Whether a file begins as a descriptor does: comments and blank lines, then "version=". */
bool vmdk_is_descriptor(const uint8_t *head, size_t len);
