/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

struct sockaddr;

/* Loopback, link-local, private, multicast and the like (RFC 6890), or of no family that we know: where what
 * a member asks for must not lead. */
bool address_inside(const struct sockaddr *sa);
