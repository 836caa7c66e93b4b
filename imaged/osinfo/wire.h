/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

/*
 * Between the helper and its caller: a SOCK_SEQPACKET socket, the helper's file descriptor 0.
 *
 *   caller  struct osinfo_task        once, first
 *   helper  OSINFO_READ request       any number of times, each answered by
 *   caller  a status byte (0: fine), then `len` bytes
 *   helper  OSINFO_ANSWER and JSON    at the end
 */
enum { OSINFO_READ = 'r', OSINFO_ANSWER = 'a' };

struct osinfo_task {
        uint64_t size; /* of the disk, bytes */
        uint8_t iso;
};

struct osinfo_request {
        uint8_t what; /* OSINFO_READ */
        uint32_t len; /* 1 to OSINFO_PIECE */
        uint64_t offset;
};

#define OSINFO_PIECE 65536u
#define OSINFO_ANSWER_MAX 4096u
