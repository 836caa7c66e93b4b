/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/bench.h"

/*
 * Times the first small writes into a fresh disk, 4,000 of 4 KiB each at a place of its own, on a disk of
 * ours and on one that `qemu-img create -b` makes with its defaults, over the same golden image, in turn.
 * QEMU does the writing, and its own clock counts (`qemu-img bench`).
 * usage: bench-writes URL ROUNDS. Prints {"ours_ms": median, "peer_ms": median, "runs": N}.
 */
#define SIZE (10ULL << 30)
#define DATA (256ULL << 20) /* every write lies over data of the golden image */
#define WARM_UP 1

/* What QEMU's first writes take, in ms. root may write to every disk. */
static double write_first(const char *url)
{
        _cleanup_(freep) char *command =
            str_printf("qemu-img bench -f qcow2 -w -t none -c 4000 -d 16 -s 4096 -S 65536 '%s'", url);
        FILE *f = command ? popen(command, "re") : NULL;
        char line[200];
        double seconds = -1;

        while (f && fgets(line, sizeof(line), f))
                sscanf(line, "Run completed in %lf seconds", &seconds);
        if (!f || pclose(f) != 0 || seconds < 0) {
                fprintf(stderr, "bench: failed: %s\n", command ? command : "out of memory");
                exit(1);
        }
        return seconds * 1000;
}

static double ours(const struct bench *b)
{
        struct disk_spec disk = {.name = "disk0", .image = b->image, .size = SIZE};
        struct lease lease = {0};
        struct attach attach;
        struct start start;
        char id[UUID_LEN + 1], url[BENCH_PATH_MAX], below[BENCH_PATH_MAX];
        struct err e = {0};
        double ms;

        uuid_random(id);
        if (lease_create(b->store, id, &disk, 1, &e) < 0 ||
            lease_claim(b->store, id, &lease, 1, false, &lease, &e) < 0)
                bench_die("our disk", &e);
        start_init(&start, id, lease.epoch, NULL, NULL, 0);
        if (lease_fence(b->store, id, &lease, &start, &disk, 1, &e) < 0 ||
            lease_attach(b->store, id, &lease, &start, &disk, 1, &attach, &e) < 0)
                bench_die("our disk", &e);
        /* QEMU's NFS driver takes no name that leads upwards; this changes the name in the header alone */
        bench_url(b, attach.path, url);
        bench_url(b, b->golden.path, below);
        bench_run((const char *[]){"qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", below, url,
                                   NULL});
        ms = write_first(url);
        start_forget(b->store, id, &start);
        if (lease_remove(b->store, id, &lease, &disk, 1, &e) < 0)
                bench_die("removing our disk", &e);
        return ms;
}

static double peer(const struct bench *b)
{
        char path[BENCH_PATH_MAX], url[BENCH_PATH_MAX];
        double ms;

        bench_qemu_img_create(b, path);
        bench_url(b, path, url);
        ms = write_first(url);
        if (b->golden.kind == ATTACH_FILE)
                unlink(path);
        else /* no tool of QEMU's removes a file there; so its room is given back */
                bench_run((const char *[]){"qemu-img", "create", "-q", "-f", "raw", url, "512", NULL});
        return ms;
}

int main(int argc, char **argv)
{
        const struct store_options options = {0};
        int rounds = argc > 2 ? atoi(argv[2]) : 0;
        double *mine, *theirs;
        struct bench b;

        if (rounds < 1) {
                fprintf(stderr, "usage: bench-writes URL ROUNDS\n");
                return 2;
        }
        mine = calloc((size_t)rounds, sizeof(*mine));
        theirs = calloc((size_t)rounds, sizeof(*theirs));
        if (!mine || !theirs)
                return 1;
        bench_begin(&b, argv[1], &options, DATA, DATA);
        for (int i = -WARM_UP; i < rounds; i++) {
                double x = ours(&b), y = peer(&b);

                if (i >= 0) {
                        mine[i] = x;
                        theirs[i] = y;
                }
        }
        printf("{\"ours_ms\": %.3f, \"peer_ms\": %.3f, \"runs\": %d}\n", bench_median(mine, rounds),
               bench_median(theirs, rounds), rounds);
        bench_end(&b);
        free(mine);
        free(theirs);
        return 0;
}
