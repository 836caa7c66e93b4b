/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "imaged/daemon.h"

/*
 * POST /v1/store/check: the fence self-test now, here and on every living host, and the known mistakes of a
 * set-up. {"ok", "places": [{"place", "number", "ok", "text"}], "findings": [{"code", "text", "advice"}]}
 */
int store_on_check(struct http_request *req, void *userdata, struct err *err);
