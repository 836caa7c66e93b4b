/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "imaged/daemon.h"

/*
 * What is handed out once only: names and addresses. Both are tied to an instance's id, and an entry whose
 * instance has no record is free again: an instance's record is written before, and removed after, both of
 * them, and ids do not come back. Any thread.
 */
#define NETWORK_DEFAULT "default"

/* Makes the record "default" where it is missing. -EINVAL: the configuration is wrong. */
int network_prepare(struct imaged *im, const struct imaged_network *conf, struct err *err);

/* Leases an address; ret: the instance record's `network`, the caller's. -ENOSPC: all are taken. */
int network_lease(struct imaged *im, const char *network, const char *instance, json_t **ret,
                  struct err *err);
int network_release(struct imaged *im, const char *network, const char *instance, struct err *err);
/*
 * Its instance is gone, but a QEMU of it may still live on one of these hosts (an array of numbers), with
 * the address and the MAC: the address is held until each of them is alive again, which ends its old guests,
 * or has been removed. Without hosts it is released.
 */
int network_retire(struct imaged *im, const char *network, const char *instance, const json_t *hosts,
                   struct err *err);
/* Whether a host may still have guests that are not its own: it is not alive. */
bool network_unsettled(struct imaged *im, unsigned host);
/* Frees the leases of instances that have no record, and those that need not be held any more. */
int network_sweep(struct imaged *im, const char *network, struct err *err);

/*
 * The name of an instance is the network record "_NAME": {"id", "instance"}, taken by compare-and-swap.
 * -EEXIST: another instance has it.
 */
int name_take(struct imaged *im, const char *name, const char *instance, struct err *err);
int name_release(struct imaged *im, const char *name, const char *instance, struct err *err);
/* -ENOENT: nobody has that name. */
int name_find(struct imaged *im, const char *name, char ret_instance[UUID_LEN + 1], struct err *err);
int name_sweep(struct imaged *im, struct err *err);
