/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>

#include "imaged/daemon.h"

#define INSTANCE_DISKS 2 /* disk0 and seed */

/* The disks of an instance as the store wants them, without the seed's content; strings are borrowed from
 * the record. */
void instance_disk_specs(const json_t *record, struct disk_spec ret[INSTANCE_DISKS]);

/* By id or name. The caller owns *ret. */
int instance_find(struct imaged *im, const char *id_or_name, json_t **ret, struct err *err);
/* The instance of the request's path; -EBUSY where it is still being made, or being deleted. */
int instance_of(struct http_request *req, struct imaged *im, json_t **ret, struct err *err);
/* Who owns its disks now. */
int instance_lease(struct imaged *im, const json_t *record, struct lease *ret, struct err *err);

/*
 * While an instance is being made its record has `creating`: {"by": nonce, "host": N}, wanted "stopped" and
 * no placement, so no host touches it. Takes away what is there of it, the record last. `by`: the nonce that
 * the record must still have; -ESTALE: it has another, or is complete.
 */
int instance_undo(struct imaged *im, const char *id, const char *name, const char *by, struct err *err);

/*
 * A step on the way of an instance whose record says wanted "deleted": removes what no host owns, or sees to
 * it that a living host does it. May be repeated.
 */
int instance_delete_step(struct imaged *im, const json_t *record, struct err *err);

/* Chooses a host again for one that should run, runs nowhere, and whose chosen host is not alive. */
int instance_replace(struct imaged *im, const json_t *record, struct err *err);

/* Handlers of /v1/instances. */
int instance_on_create(struct http_request *req, void *userdata, struct err *err);
int instance_on_list(struct http_request *req, void *userdata, struct err *err);
int instance_on_show(struct http_request *req, void *userdata, struct err *err);
int instance_on_delete(struct http_request *req, void *userdata, struct err *err);
int instance_on_start(struct http_request *req, void *userdata, struct err *err);
int instance_on_stop(struct http_request *req, void *userdata, struct err *err);
int instance_on_restart(struct http_request *req, void *userdata, struct err *err);
int instance_on_capture(struct http_request *req, void *userdata, struct err *err);
int instance_on_migrate(struct http_request *req, void *userdata, struct err *err);
/* Passed on to the hostd of the instance's host. */
int instance_on_migration(struct http_request *req, void *userdata, struct err *err);
int instance_on_console(struct http_request *req, void *userdata, struct err *err);
