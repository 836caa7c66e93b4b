/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "common/http-server.h"
#include "imaged/catalog.h"

/*
 * Which images a list shows: what the caller may see and asked for. Every parameter that is none of the
 * API's is the name of a property.
 */
struct image_filter;

/* Borrows the request's strings. -EINVAL with the parameter and its value. */
int image_filter_new(struct http_request *req, struct image_filter **ret, struct err *err);
struct image_filter *image_filter_free(struct image_filter *f);
bool image_filter_fits(const struct image_filter *f, const struct cataloged *e);
