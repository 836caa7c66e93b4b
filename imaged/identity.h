/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "imaged/daemon.h"

/* As much of the OpenStack Identity API v3 as the image API's clients need: password in, token and catalog
 * out. */

/* "http://HOST:PORT": where this client reaches us; the caller frees it. */
char *identity_base(struct imaged *im, struct http_request *req);

int identity_on_version(struct http_request *req, void *userdata, struct err *err);
int identity_on_login(struct http_request *req, void *userdata, struct err *err);
int identity_on_validate(struct http_request *req, void *userdata, struct err *err);
int identity_on_catalog(struct http_request *req, void *userdata, struct err *err);
int identity_on_projects(struct http_request *req, void *userdata, struct err *err);
int identity_on_project(struct http_request *req, void *userdata, struct err *err);
int identity_on_password(struct http_request *req, void *userdata, struct err *err);
