/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>

#include "imaged/daemon.h"

#define IMAGE_SIZE_MAX (16ULL << 40) /* bytes: what an overlay can describe */

/* Sets a member and updated_at. Takes the reference to value. */
void image_set(json_t *record, const char *key, json_t *value);

/* The record as the API shows it, with its links; the caller's. */
json_t *image_view(const json_t *record);

/* By id, or by the name of an active image where only one has it. The caller owns *ret. */
int image_find(struct imaged *im, const char *id_or_name, json_t **ret, struct err *err);

/* Ends a deletion whose record says pending_delete: nobody uses it. Also for the collector. */
int image_delete_finish(struct imaged *im, const char *id, struct err *err);

/* Handlers of /v2/images. */
int image_on_list(struct http_request *req, void *userdata, struct err *err);
int image_on_create(struct http_request *req, void *userdata, struct err *err);
int image_on_show(struct http_request *req, void *userdata, struct err *err);
int image_on_delete(struct http_request *req, void *userdata, struct err *err);
int image_on_upload(struct http_request *req, void *userdata, struct err *err);
int image_on_download(struct http_request *req, void *userdata, struct err *err);
int image_on_import(struct http_request *req, void *userdata, struct err *err);
extern const struct http_body image_upload_body;
