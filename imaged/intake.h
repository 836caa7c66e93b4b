/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "common/err.h"

struct image;
struct upload;

/*
 * A disk that can be read at any place, as the whole of an upload: from upload_format(), which is not to be
 * called, up to but without upload_finish(). Holes and blocks of zeros are left out. The record's progress
 * is the disk's. `look` (may be NULL) is called between pieces of at most 1 MiB; what it returns below 0
 * ends the intake.
 */
int intake_image(struct image *img, struct upload *up, int (*look)(void *arg, struct err *err), void *arg,
                 struct err *err);
