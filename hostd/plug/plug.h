/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

#include "hostd/context.h"
#include "hostd/plug/tap.h"
#include "migrate/instance.h"

struct survey;

/*
 * All that stands between a guest's tap and the network: whether the guest may be reached, and that the
 * network knows where it is. A thread of its own shuts every plug of a host that may have been taken over
 * (migrate/isolation.h); the look of a guest opens its plug again. What is shut lies in the kernel: a hostd
 * that starts finds it so, and its guests' looks open it.
 */
int plug_new(struct plug **ret);
int plug_start(struct context *ctx, struct err *err);
/* Waits for the thread; self->quit is set. Before the tasks end, some of which are its questions. */
void plug_end(struct plug *p);
struct plug *plug_free(struct plug *p); /* returns NULL */

/* The tap of an instance, on whatever host: "wh" and the first 12 hex digits of its id. */
void plug_tap(const char *instance, char ret[TAP_NAME_LEN]);

/* The hosts as the storage told them last: whom to ask when it is away. Any thread. */
void plug_hosts(struct context *ctx, const struct survey *s);

/* The look of a guest: opens a plug that was shut where the guest is this host's own. */
void plug_look(struct context *ctx, const struct instance_view *v, const char *instance);
/* The guest is another host's: nobody may reach the QEMU that is still here. */
void plug_shut(struct context *ctx, const char *instance);

/* The guest runs here now: the network is told, several times. */
void plug_announce(struct context *ctx, const char *instance, const char *mac, const char *address);
/* It leaves: the network is told no more. */
void plug_quiet(struct context *ctx, const char *instance);
