/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "imaged/daemon.h"

/*
 * GET /v1/failovers[?since=STAMP][&host=NAME]: the receipts of all instances that there are, the oldest
 * first, each with the `id` and `name` of its instance. since: RFC 3339 in UTC, compared as text; host:
 * those that went from it or to it.
 */
int failovers_on_list(struct http_request *req, void *userdata, struct err *err);
