/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "hostd/context.h"

/* One file a guest in dnsmasq's hosts folder. A file that cannot be written is logged and not fatal: the
 * seed has the address too. Any thread. */
void dhcp_add(struct context *ctx, const char *instance, const char *name, const char *mac,
              const char *address);
void dhcp_remove(struct context *ctx, const char *instance);
/* Calls `wake` for every instance that has a file there: a hostd that was killed may have left it. */
void dhcp_scan(struct context *ctx, void (*wake)(struct context *ctx, const char *instance));
