/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>

#include "imaged/auth.h"
#include "imaged/catalog.h"
#include "imaged/daemon.h"
#include "imaged/records.h"

#define IMAGE_SIZE_MAX (16ULL << 40) /* bytes: what an overlay can describe */
#define IMAGE_TAGS_MAX 128
#define IMAGE_PROPERTY_MAX 65535 /* bytes of one, as Glance has it */
#define IMAGE_TEXT_MAX                                                                                      \
        (192 * 1024) /* of all that callers write: what the service adds has to fit into the record, too */
#define IMAGE_MEMBERS_MAX 128
#define IMAGE_PROPERTIES_MAX 128

/* Sets a member and updated_at. Takes the reference to value. */
void image_set(json_t *record, const char *key, json_t *value);

/* Writes that the catalog shows at once; as records_change() and records_save(). */
int image_change(struct imaged *im, const char *id, records_change_cb change, void *arg, json_t **ret,
                 struct err *err);
int image_save(struct imaged *im, const char *id, uint64_t expected, const json_t *record, struct err *err);

/* The record as the API shows it, with its links; the caller's. */
json_t *image_view(const json_t *record);

/* --- who may do what (image-access.c) --- */

enum image_right {
        IMAGE_SEE,      /* owner, administrators; all, where it is public or community; its members */
        IMAGE_CHANGE,   /* owner, administrators */
        IMAGE_UNDELETE, /* the same, of one that is deleted */
};
bool image_visible(const struct caller *c, const json_t *record);
bool image_owned(const struct caller *c, const json_t *record);
/* The same as image_visible() for an entry of the catalog. */
bool image_cataloged_visible(const struct caller *c, const struct cataloged *e);
/* The image of the request's path. -ENOENT where the caller cannot see it, -EACCES where only that. */
int image_of(struct http_request *req, struct imaged *im, enum image_right right, json_t **ret,
             struct err *err);

/* --- what may stand in a record (image-check.c) --- */

/* A member that a caller wants to set. -EACCES: never by callers. */
int image_check_member(const char *key, const json_t *value, struct err *err);
json_t *image_tags(const json_t *tags); /* each once; a new reference */
/* A whole record: what members together have to be, and what only administrators may set. before: as it was,
 * or NULL. */
int image_check_record(const struct caller *c, const json_t *before, const json_t *record, struct err *err);
bool image_is_base(const char *key); /* one of the API's own members, not a property */

/* --- which one (image-find.c) --- */

/*
 * By id, by name, or by alias "OS:VERSION" or "OS:latest": of the caller's own and the public images of that
 * os, the one of the highest version that is, or begins with, VERSION, and of those the newest. What others
 * share is no answer to an alias, so that nobody can push an image under another's. any: one that is not
 * active will do, by id or name. The caller owns *ret. -EINVAL: several have the name.
 */
int image_find(struct imaged *im, const struct caller *c, const char *text, bool any, json_t **ret,
               struct err *err);

/* --- its end (image-delete.c) --- */

/* A step on the way of a deleted image, for the collector: removes it for good once it cannot be undeleted
 * any more and nobody uses it. Returns 1 where it has gone, 0 where not yet. */
int image_delete_step(struct imaged *im, const char *id, struct err *err);

/* --- ways in --- */

/* Method store-volume of an import (image-volume.c): `volume` of the same storage becomes the content of the
 * image `record`. checksum may be NULL. Administrators only. */
int image_import_volume(struct http_request *req, struct imaged *im, const json_t *record,
                        const char *volume, const char *checksum, struct err *err);

/* Handlers of /v2. */
int image_on_list(struct http_request *req, void *userdata, struct err *err);
int image_on_create(struct http_request *req, void *userdata, struct err *err);
int image_on_show(struct http_request *req, void *userdata, struct err *err);
int image_on_patch(struct http_request *req, void *userdata, struct err *err);
int image_on_delete(struct http_request *req, void *userdata, struct err *err);
int image_on_upload(struct http_request *req, void *userdata, struct err *err);
int image_on_stage(struct http_request *req, void *userdata, struct err *err);
int image_on_download(struct http_request *req, void *userdata, struct err *err);
int image_on_import(struct http_request *req, void *userdata, struct err *err);
int image_on_tasks(struct http_request *req, void *userdata, struct err *err);
int image_on_tag_add(struct http_request *req, void *userdata, struct err *err);
int image_on_tag_remove(struct http_request *req, void *userdata, struct err *err);
int image_on_deactivate(struct http_request *req, void *userdata, struct err *err);
int image_on_reactivate(struct http_request *req, void *userdata, struct err *err);
int image_on_written(struct http_request *req, void *userdata, struct err *err);
int image_on_verify(struct http_request *req, void *userdata, struct err *err);
int image_on_undelete(struct http_request *req, void *userdata, struct err *err);
int image_on_member_list(struct http_request *req, void *userdata, struct err *err);
int image_on_member_add(struct http_request *req, void *userdata, struct err *err);
int image_on_member_show(struct http_request *req, void *userdata, struct err *err);
int image_on_member_set(struct http_request *req, void *userdata, struct err *err);
int image_on_member_remove(struct http_request *req, void *userdata, struct err *err);
int image_on_root(struct http_request *req, void *userdata, struct err *err);
int image_on_versions(struct http_request *req, void *userdata, struct err *err);
int image_on_schema(struct http_request *req, void *userdata, struct err *err);
int image_on_info_import(struct http_request *req, void *userdata, struct err *err);
int image_on_info_usage(struct http_request *req, void *userdata, struct err *err);
extern const struct http_body image_upload_body, image_stage_body;
/* GET /v1/images/{name}, and ?name= where the name has a slash: image_find() */
int image_on_find(struct http_request *req, void *userdata, struct err *err);
