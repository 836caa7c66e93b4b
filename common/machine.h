/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

#include "common/util.h"

/*
 * Which machine this process runs on, since which start of its kernel, and which part of its processes it
 * can see: so that what is said here later about a process ("it is gone") can be told from the same words of
 * another machine. Texts without spaces; empty where they are not known.
 */
#define MACHINE_TEXT 80
struct machine {
        char boot[UUID_LEN + 1];  /* another one after each start of the kernel */
        char view[MACHINE_TEXT];  /* the namespaces of network and processes */
        char board[MACHINE_TEXT]; /* stays: the installation's id, with the mainboard's where it has one */
};
void machine_self(struct machine *ret); /* any thread; a few small files are read */
