/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "common/err.h"
#include "hostd/context.h"

/* Binds hostd's HTTP address; http_server_start(ctx->http) then serves. */
int api_listen(struct context *ctx, struct err *err);
