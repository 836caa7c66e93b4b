/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "hostd/virt/internal.h"

/* Which guest a process is, and whom a kill hits: real processes, with the command line that libvirt gives a QEMU. */
#define A "aaaaaaaa-1111-4111-8111-111111111111"
#define B "bbbbbbbb-1111-4111-8111-111111111111"

static struct virt v;
static pid_t children[8];
static size_t n_children;

static int begin(void **state)
{
        n_children = 0;
        v.cmdlines = cmdlines_new();
        return v.cmdlines ? 0 : -1;
}

static int end(void **state)
{
        for (size_t i = 0; i < n_children; i++) {
                kill(children[i], SIGKILL);
                waitpid(children[i], NULL, 0);
        }
        v.cmdlines = cmdlines_free(v.cmdlines);
        return 0;
}

/* Waits on a pipe that never says anything; returns once it has begun. */
static pid_t process(const char *name, const char *uuid)
{
        int in[2], out[2];
        char byte;
        pid_t pid;

        assert_int_equal(pipe(in) | pipe(out), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                dup2(in[0], 0);
                dup2(out[1], 1);
                execl("/bin/sh", "sh", "-c", "echo; read x", "-name", name, "-uuid", uuid, NULL);
                _exit(127);
        }
        close(in[0]);
        close(out[1]);
        assert_int_equal(read(out[0], &byte, 1), 1);
        close(out[0]);
        children[n_children++] = pid;
        return pid; /* in[1] stays open: else it would end */
}

static bool lives(pid_t pid)
{
        return waitpid(pid, NULL, WNOHANG) == 0;
}

static void a_guest_is_known_by_its_name_and_its_uuid(void **state)
{
        char instance[UUID_LEN + 1] = "";

        assert_int_equal(
            cmdline_instance(v.cmdlines, process("guest=wherry-vm,debug-threads=on", A), instance), 1);
        assert_string_equal(instance, A);
        assert_int_equal(cmdline_instance(v.cmdlines, process("guest=other-vm", A), instance), 0);
        assert_int_equal(cmdline_instance(v.cmdlines, process("guest=wherry-vm", "no-uuid"), instance), 0);
        assert_int_equal(cmdline_instance(v.cmdlines, getpid(), instance), 0);
}

static void one_that_has_ended_is_nobodys(void **state)
{
        pid_t pid = process("guest=wherry-vm", A);
        char instance[UUID_LEN + 1];
        siginfo_t info;

        assert_int_equal(cmdline_instance(v.cmdlines, pid, instance), 1);
        kill(pid, SIGKILL);
        assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0); /* a zombie now */
        assert_int_equal(cmdline_instance(v.cmdlines, pid, instance), -ESRCH);
        waitpid(pid, NULL, 0);
        assert_int_equal(cmdline_instance(v.cmdlines, pid, instance), -ESRCH);
}

/* An exec makes another process of it, under the same number. */
static void a_number_that_was_used_before_is_read_anew(void **state)
{
        char instance[UUID_LEN + 1] = "";
        int in[2], out[2];
        char byte;
        pid_t pid;

        assert_int_equal(pipe(in) | pipe(out), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                dup2(in[0], 0);
                dup2(out[1], 1);
                execl("/bin/sh", "sh", "-c", "echo; read x; exec cat", "-name", "guest=wherry-vm", "-uuid",
                      A, NULL);
                _exit(127);
        }
        children[n_children++] = pid;
        assert_int_equal(read(out[0], &byte, 1), 1);
        assert_int_equal(cmdline_instance(v.cmdlines, pid, instance), 1);
        assert_int_equal(write(in[1], "\nx", 2), 2);
        assert_int_equal(read(out[0], &byte, 1), 1); /* cat has begun */
        assert_int_equal(cmdline_instance(v.cmdlines, pid, instance), 0);
}

static void our_guests_are_listed(void **state)
{
        pid_t a = process("guest=wherry-vm", A), b = process("guest=wherry-other", B);
        struct virt_domain *list = NULL;
        struct err err = {0};
        unsigned found = 0;
        size_t n = 0;

        process("guest=not-ours", A);
        assert_true(virt_processes(&v, &list, &n, &err) >= 0);
        for (size_t i = 0; i < n; i++) {
                if (list[i].pid != a && list[i].pid != b)
                        continue;
                assert_string_equal(list[i].lease.instance, list[i].pid == a ? A : B);
                found++;
        }
        assert_int_equal(found, 2);
        for (size_t i = 0; i < n; i++)
                assert_true(list[i].pid != children[2]);
        free(list);
}

/* The number may have gone to another process since somebody looked. */
static void only_the_guest_that_is_meant_is_killed(void **state)
{
        pid_t guest = process("guest=wherry-vm", A), other = process("other", A);
        struct err err = {0};

        assert_int_equal(virt_kill_pid(&v, guest, B, &err), -ESRCH);
        assert_int_equal(virt_kill_pid(&v, other, A, &err), -ESRCH);
        assert_true(lives(guest) && lives(other));
        assert_int_equal(virt_kill_pid(&v, guest, A, &err), 0);
        assert_int_equal(waitpid(guest, NULL, 0), guest);
        assert_true(lives(other));
        assert_int_equal(virt_kill_pid(&v, guest, A, &err), 0); /* it is gone */
}

/* The daemon behind a socket is this very process, which has mapped its own program and no driver. */
static void a_driver_is_loaded_where_its_file_is_mapped(void **state)
{
        char folder[] = "/tmp/wherry-daemon.XXXXXX", uri[160];
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct err err = {0};

        assert_non_null(mkdtemp(folder));
        snprintf(address.sun_path, sizeof(address.sun_path), "%s/sock", folder);
        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(listen(fd, 8), 0);
        snprintf(uri, sizeof(uri), "qemu:///system?socket=%s", address.sun_path);
        assert_int_equal(virt_daemon_check(uri, "test-virt-process", &err), 0);
        assert_int_equal(virt_daemon_check(uri, "test-virt-proces", &err), -ENOEXEC);
        assert_int_equal(virt_daemon_check(uri, "est-virt-process", &err), -ENOEXEC);
        assert_int_equal(virt_daemon_check(uri, "wherry.so", &err), -ENOEXEC);
        close(fd);
        assert_int_equal(virt_daemon_check(uri, "test-virt-process", &err), -ECONNREFUSED);
        unlink(address.sun_path);
        rmdir(folder);
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, begin, end)
        const struct CMUnitTest tests[] = {
            test(a_guest_is_known_by_its_name_and_its_uuid),
            test(one_that_has_ended_is_nobodys),
            test(a_number_that_was_used_before_is_read_anew),
            test(a_driver_is_loaded_where_its_file_is_mapped),
            test(our_guests_are_listed),
            test(only_the_guest_that_is_meant_is_killed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
