/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "common/util.h"
#include "imaged/store/store.h"

/* Shared by the programs that time our disks beside those of a peer. They end at the first failure. */
struct bench {
        struct store *store;
        char image[UUID_LEN + 1];
        struct attach golden;
};

_Noreturn void bench_die(const char *what, const struct err *e);
/* Opens the store and seals a golden image of `size` bytes, whose first `data` bytes are not zeros. */
void bench_begin(struct bench *b, const char *url, const struct store_options *options, uint64_t size,
                 uint64_t data);
void bench_end(struct bench *b);

/* Runs a command that has to succeed. */
void bench_run(const char *const argv[]);

#define BENCH_PATH_MAX 1200
/* How QEMU's tools name a path of the store (dir and nfs), as struct attach has it. */
void bench_url(const struct bench *b, const char *path, char ret[BENCH_PATH_MAX]);
/* Makes a disk of 10 GiB with `qemu-img create -b`, beside the golden image; ret: its path. */
void bench_qemu_img_create(const struct bench *b, char ret[BENCH_PATH_MAX]);

double bench_median(double *v, int n); /* orders v */
