/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/conformance.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "imaged/store/files.h"

/*
 * docs/ownership.md, "NFS": a WRITE that had passed the server's permission check when the SETATTR was answered may
 * still land. Here strace holds it there, at the door of its system call. The window is from the check to
 * that door: no disk I/O lies in it, for a write inside the file system holds the inode's lock, and so makes
 * the SETATTR wait. What this test insists on: that one held request is all that may land; every later one
 * of the old writer is refused.
 */
#define HOLD "2000000" /* microseconds */

struct late {
        struct fs *fs;
        char path[FILES_PATH_MAX];
        uint32_t uid;
        struct fs_nfs_writer writer;
        int r;
        bool done;
};

static void *write_late(void *arg)
{
        struct late *l = arg;

        l->r = fs_nfs_try_write(l->fs, l->path, l->uid, &l->writer, NULL);
        __atomic_store_n(&l->done, true, __ATOMIC_SEQ_CST);
        return NULL;
}

/* Every thread of the server has strace on it. */
static bool traced(const char *pid)
{
        char command[160];

        snprintf(command, sizeof(command), "! grep -q '^TracerPid:[[:space:]]*0$' /proc/%s/task/*/status",
                 pid);
        return system(command) == 0;
}

static pid_t hold_writes(const char *server)
{
        pid_t pid = fork();

        if (pid == 0) {
                execlp("strace", "strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=pwritev,pwrite64",
                       "-e", "inject=pwritev,pwrite64:delay_enter=" HOLD, "-p", server, (char *)NULL);
                _exit(127);
        }
        for (int i = 0; i < 500 && !traced(server); i++)
                poll(NULL, 0, 10);
        assert_true(traced(server));
        return pid;
}

static void only_the_write_under_way_may_land(void **state)
{
        const char *server = getenv("STORE_SERVER_PID");
        struct lease one = {}, two = {};
        struct start first, second;
        struct store *s = NULL;
        struct late old = {}, new = {};
        char id[UUID_LEN + 1];
        pthread_t thread;
        pid_t tracer;
        struct err err;

        assert_non_null(server);
        assert_ok(store_connect(&s, &err));
        assert_ok(store_prepare(s, &err));
        uuid_random(id);
        disks_make(s, id, &plain_disk, 1);
        assert_ok(lease_claim(s, id, &(struct lease){}, 1, false, &one, &err));
        start_init(&first, id, one.epoch, NULL, NULL, 0);
        assert_ok(lease_fence(s, id, &one, &first, &plain_disk, 1, &err));
        old = (struct late){.fs = files_of(s)->fs, .uid = first.uid};
        snprintf(old.path, sizeof(old.path), "instances/%.2s/%s.e1.h1/disk0.qcow2", id, id);
        write_late(&old); /* opens, and shows that it may write */
        assert_int_equal(old.r, 0);

        tracer = hold_writes(server);
        __atomic_store_n(&old.done, false, __ATOMIC_SEQ_CST);
        pthread_create(&thread, NULL, write_late, &old);
        poll(NULL, 0, 500); /* it is at the server, and waits */
        assert_ok(lease_claim(s, id, &one, 2, false, &two, &err));
        start_init(&second, id, two.epoch, NULL, NULL, 0);
        assert_ok(lease_fence(s, id, &two, &second, &plain_disk, 1, &err));
        assert_false(
            __atomic_load_n(&old.done, __ATOMIC_SEQ_CST)); /* the fence was answered while it was held */
        pthread_join(thread, NULL);
        kill(tracer, SIGTERM);
        waitpid(tracer, NULL, 0);
        print_message("the WRITE that was under way: %s\n", old.r == 0 ? "landed" : "was refused");
        assert_true(old.r == 0 || old.r == -EACCES);
        for (int i = 0; i < 20; i++) {
                write_late(&old);
                assert_int_equal(old.r, -EACCES);
        }
        new = (struct late){.fs = old.fs, .uid = second.uid};
        snprintf(new.path, sizeof(new.path), "instances/%.2s/%s.e2.h2/disk0.qcow2", id, id);
        write_late(&new);
        assert_int_equal(new.r, 0);
        fs_nfs_writer_done(&old.writer);
        fs_nfs_writer_done(&new.writer);
        store_close(s);
}

int run_late(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(only_the_write_under_way_may_land)};

        return cmocka_run_group_tests_name("late write", tests, NULL, NULL);
}
