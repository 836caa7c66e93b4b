/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/util.h"
#include "imaged/store/store.h"

/*
 * How long a durable copy-on-write disk takes, beside `qemu-img create -b` on the same storage with what
 * makes that durable (dir: fsync of file and folder; on NFS qemu-img's own flush). Turns of both, medians,
 * so that a busy machine hurts both. Usage: bench ROUNDS; the store as for the conformance suite.
 */
static int compare(const void *a, const void *b)
{
        const int64_t *x = a, *y = b;

        return *x < *y ? -1 : *x > *y;
}

static int sync_path(const char *path)
{
        _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);

        return fd < 0 || fsync(fd) < 0 ? -1 : 0;
}

/* Beside the disk that was made: "<its path>.bench". */
static int64_t qemu_img(const struct attach *a)
{
        _cleanup_(freep) char *path = NULL, *backing = NULL, *folder = NULL;
        int64_t begin = clock_ns();
        int status;
        pid_t pid;

        if (a->kind == ATTACH_NFS) {
                path = str_printf("nfs://%s%s.bench", a->server, a->path);
                backing = str_printf("nfs://%s%s?uid=%u", a->server, a->backing_path, a->backing_uid);
        } else {
                path = str_printf("%s.bench", a->path);
                backing = strdup(a->backing_path);
        }
        pid = fork();
        if (pid == 0) {
                execlp("qemu-img", "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", backing,
                       path, "10G", (char *)NULL);
                _exit(127);
        }
        if (waitpid(pid, &status, 0) < 0 || status != 0)
                return -1;
        if (a->kind == ATTACH_FILE) {
                folder = strdup(path);
                *strrchr(folder, '/') = '\0';
                if (sync_path(path) < 0 || sync_path(folder) < 0)
                        return -1;
        }
        return clock_ns() - begin;
}

static int run(struct store *s, int rounds, struct err *err)
{
        int64_t ours[1000], theirs[1000];
        char image[UUID_LEN + 1];
        const struct disk_spec disk = {.name = "disk0", .image = image, .size = (uint64_t)10 << 30};
        struct volume *v = NULL;
        int r;

        uuid_random(image);
        r = volume_create(s, image, (uint64_t)2 << 30, &v, err);
        if (r >= 0)
                r = volume_seal(v, err);
        volume_close(v);
        for (int i = 0; r >= 0 && i < rounds; i++) {
                char id[UUID_LEN + 1];
                struct lease one;
                struct start st;
                struct attach a;

                uuid_random(id);
                id[0] = id[1] = 'a'; /* a folder that is there already, as in a store in use */
                ours[i] = clock_ns();
                r = lease_create(s, id, &disk, 1, err);
                ours[i] = clock_ns() - ours[i];
                if (r >= 0)
                        r = lease_claim(s, id, &(struct lease){}, 1, false, &one, err);
                start_init(&st, id, 1, NULL, NULL, 0);
                if (r >= 0)
                        r = lease_attach(s, id, &one, &st, &disk, 1, &a, err);
                if (r < 0)
                        break;
                theirs[i] = qemu_img(&a);
                if (theirs[i] < 0)
                        return err_set(err, -1, "qemu-img failed");
        }
        if (r < 0)
                return r;
        qsort(ours, (size_t)rounds, sizeof(*ours), compare);
        qsort(theirs, (size_t)rounds, sizeof(*theirs), compare);
        printf("%s: create a disk %.2f ms, qemu-img create -b %.2f ms: %.1f times as fast (medians of %d)\n",
               store_engine(s), (double)ours[rounds / 2] / 1e6, (double)theirs[rounds / 2] / 1e6,
               (double)theirs[rounds / 2] / (double)ours[rounds / 2], rounds);
        return 0;
}

int main(int argc, char **argv)
{
        int rounds = argc > 1 ? atoi(argv[1]) : 30, r;
        const char *url = getenv("STORE_URL");
        struct store *s = NULL;
        struct err err = {};

        if (!url || rounds < 1 || rounds > 1000) {
                fprintf(stderr, "Usage: STORE_URL=... bench [ROUNDS, 1 to 1000]\n");
                return 2;
        }
        r = store_open(url, NULL, &s, &err);
        if (r >= 0)
                r = store_prepare(s, &err);
        if (r >= 0)
                r = run(s, rounds, &err);
        if (r < 0)
                fprintf(stderr, "bench: %s\n", err_text(&err));
        store_close(s);
        return r < 0;
}
