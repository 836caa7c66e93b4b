/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "common/err.h"
#include "hostd/context.h"

/* rbd: gives libvirt the key that QEMU needs; nothing to do elsewhere. Main. */
int secret_give(struct context *ctx, struct err *err);
