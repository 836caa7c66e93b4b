/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/bench.h"

#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

void bench_die(const char *what, const struct err *e)
{
        fprintf(stderr, "bench: %s: %s\n", what, err_text(e));
        exit(1);
}

void bench_begin(struct bench *b, const char *url, const struct store_options *options, uint64_t size,
                 uint64_t data)
{
        static char block[1 << 20];
        struct volume *v;
        struct err e = {0};

        if (store_open(url, options, &b->store, &e) < 0 || store_prepare(b->store, &e) < 0)
                bench_die(url, &e);
        memset(block, 0x5a, sizeof(block));
        uuid_random(b->image);
        if (volume_create(b->store, b->image, size, &v, &e) < 0)
                bench_die("golden image", &e);
        for (uint64_t at = 0; at < data; at += sizeof(block))
                if (volume_write(v, block, sizeof(block), at, &e) < 0)
                        bench_die("golden image", &e);
        if (volume_seal(v, &e) < 0)
                bench_die("golden image", &e);
        volume_close(v);
        if (volume_attach(b->store, b->image, &b->golden, &e) < 0)
                bench_die("golden image", &e);
}

void bench_end(struct bench *b)
{
        struct err e = {0};

        if (volume_remove(b->store, b->image, &e) < 0)
                bench_die("removing the golden image", &e);
        store_close(b->store);
}

void bench_run(const char *const argv[])
{
        extern char **environ;
        pid_t pid;
        int status;

        if (posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)argv, environ) != 0 ||
            waitpid(pid, &status, 0) < 0 || status != 0) {
                fprintf(stderr, "bench: %s failed\n", argv[0]);
                exit(1);
        }
}

void bench_url(const struct bench *b, const char *path, char ret[BENCH_PATH_MAX])
{
        bool nfs = b->golden.kind == ATTACH_NFS;

        snprintf(ret, BENCH_PATH_MAX, "%s%s%s", nfs ? "nfs://" : "", nfs ? b->golden.server : "", path);
}

void bench_qemu_img_create(const struct bench *b, char ret[BENCH_PATH_MAX])
{
        const char *golden = b->golden.path;
        char backing[BENCH_PATH_MAX], target[BENCH_PATH_MAX];

        snprintf(ret, BENCH_PATH_MAX, "%.*s/bench-peer-%llx.qcow2", (int)(strrchr(golden, '/') - golden),
                 golden, (unsigned long long)random_u64());
        bench_url(b, golden, backing);
        bench_url(b, ret, target);
        bench_run((const char *[]){"qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F", "raw",
                                   target, "10G", NULL});
}

static int by_value(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return x < y ? -1 : x > y;
}

double bench_median(double *v, int n)
{
        qsort(v, (size_t)n, sizeof(*v), by_value);
        return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}
