/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/conformance.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"

/*
 * A real QEMU with a disk, built from -blockdev nodes as libvirt does it, whose vCPU never starts.
 * Its monitor takes qemu-io commands on that disk over a pipe, so that the test writes what a guest would
 * write.
 */
#define PROMPT "(qemu) "

struct qemu {
        pid_t pid;
        int in, out;
        char answer[65536]; /* the echo of a command is some thousand bytes */
};

static char *file_node(enum attach_kind kind, const char *server, const char *path, uint32_t uid,
                       uint32_t gid)
{
        const char *conf = getenv("STORE_CEPH_CONF"), *user = getenv("STORE_CEPH_USER");

        switch (kind) {
        case ATTACH_FILE:
                return str_printf("{\"driver\":\"file\",\"filename\":\"%s\",\"locking\":\"on\"}", path);
        case ATTACH_NFS:
                return str_printf(
                    "{\"driver\":\"nfs\",\"server\":{\"type\":\"inet\",\"host\":\"%s\"},\"path\":\"%s\","
                    "\"user\":%u,\"group\":%u}",
                    server, path, uid, gid);
        case ATTACH_RBD: {
                _cleanup_(freep) char *copy = strdup(path);
                char *image = strrchr(copy, '/');
                char *space;

                *image++ = '\0';
                space = strchr(copy, '/');
                if (space)
                        *space++ = '\0';
                return str_printf(
                    "{\"driver\":\"rbd\",\"pool\":\"%s\",%s%s%s\"image\":\"%s\",\"conf\":\"%s\","
                    "\"user\":\"%s\",\"cache\":{\"direct\":true}}", /* as cache=none */
                    copy, space ? "\"namespace\":\"" : "", space ? space : "", space ? "\"," : "", image,
                    conf ? conf : "/etc/ceph/ceph.conf", user ? user : "admin");
        }
        }
        return NULL;
}

#define MAX_ARGS 24

struct args {
        char *arg[MAX_ARGS + 1];
        size_t n;
};

static void args_add(struct args *a, char *fresh)
{
        assert_non_null(fresh);
        assert_true(a->n < MAX_ARGS);
        a->arg[a->n++] = fresh;
}

static void args_done(struct args *a)
{
        for (size_t i = 0; i < a->n; i++)
                free(a->arg[i]);
}

/* -blockdev for the file and for the format above it, the format's node named `name` */
static void add_nodes(struct args *args, const char *name, char *file, const char *format,
                      const char *backing, bool read_only)
{
        const char *ro = read_only ? "true" : "false";

        args_add(args, strdup("-blockdev"));
        file[strlen(file) - 1] = '\0'; /* reopen the object */
        args_add(args, str_printf("%s,\"node-name\":\"%s-file\",\"read-only\":%s}", file, name, ro));
        free(file);
        args_add(args, strdup("-blockdev"));
        args_add(
            args,
            str_printf("{\"driver\":\"%s\",\"node-name\":\"%s\",\"file\":\"%s-file\",\"read-only\":%s%s}",
                       format, name, name, ro, backing));
}

static void build_args(struct args *args, const struct attach *a)
{
        static const char *const fixed[] = {
            "stdbuf", "-oL", "qemu-system-x86_64", "-nodefaults", "-accel", "tcg", "-S", "-display", "none",
            "-m",     "16",  "-monitor",           "stdio"};

        for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
                args_add(args, strdup(fixed[i]));
        if (a->has_backing)
                add_nodes(args, "base",
                          file_node(a->kind, a->server, a->backing_path, a->backing_uid, a->backing_gid),
                          "raw", "", true);
        add_nodes(args, "disk", file_node(a->kind, a->server, a->path, a->uid, a->gid),
                  a->qcow2 ? "qcow2" : "raw", a->has_backing ? ",\"backing\":\"base\"" : "", a->read_only);
        args_add(args, strdup("-device"));
        args_add(args, strdup(a->read_only ? "ide-cd,drive=disk,id=disk0" : "ide-hd,drive=disk,id=disk0"));
}

/* Everything up to the next prompt, or to the end. What librbd has to say comes at any moment, behind the
 * prompt, too. */
static bool read_answer(struct qemu *q)
{
        int64_t deadline = clock_ms() + 30000;
        size_t n = 0;

        while (n < sizeof(q->answer) - 1 && clock_ms() < deadline) {
                struct pollfd p = {.fd = q->out, .events = POLLIN};
                ssize_t got;

                if (poll(&p, 1, 1000) <= 0)
                        continue;
                got = read(q->out, q->answer + n, sizeof(q->answer) - 1 - n);
                if (got <= 0)
                        break;
                n += (size_t)got;
                q->answer[n] = '\0';
                if (strstr(q->answer, PROMPT))
                        return true;
        }
        q->answer[n] = '\0';
        return false;
}

static struct qemu *start(const struct attach *a)
{
        struct qemu *q = calloc(1, sizeof(*q));
        struct args args = {};
        int to[2], from[2];

        build_args(&args, a);
        assert_int_equal(pipe2(to, O_CLOEXEC), 0);
        assert_int_equal(pipe2(from, O_CLOEXEC), 0);
        q->pid = fork();
        if (q->pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL); /* also when the test dies */
                dup2(to[0], 0);
                dup2(from[1], 1);
                dup2(from[1], 2);
                execvp(args.arg[0], args.arg);
                _exit(127);
        }
        args_done(&args);
        close(to[0]);
        close(from[1]);
        q->in = to[1];
        q->out = from[0];
        return q;
}

struct qemu *qemu_open(const struct attach *a, char **ret_why)
{
        struct qemu *q = start(a);

        if (read_answer(q)) {
                *ret_why = NULL;
                return q;
        }
        *ret_why = strdup(q->answer);
        qemu_kill(q);
        return NULL;
}

static bool command(struct qemu *q, const char *text)
{
        return write_full(q->in, text, strlen(text)) == 0 && read_answer(q);
}

/* QEMU's monitor echoes a command letter by letter before its answer, so only words of the answer are looked
 * for. */
static int disk_io(struct qemu *q, const char *io, const char *good)
{
        char text[160];

        snprintf(text, sizeof(text), "qemu-io -d disk0 \"%s\"\n", io);
        if (!command(q, text)) { /* it ended, or did not answer for 30 s */
                print_message("QEMU's last words: %s\n", q->answer);
                return -EPIPE;
        }
        /* libnfs 4.0 says EFAULT for every failed write and names the reason in its message only */
        if (strstr(q->answer, "NFS3ERR_ACCES") || strstr(q->answer, "Permission denied") ||
            strstr(q->answer, "shutdown"))
                return -EACCES;
        if (!strstr(q->answer, good) || strstr(q->answer, "failed")) {
                print_message("QEMU: %s\n", q->answer + strcspn(q->answer, "\n"));
                return -EIO;
        }
        return 0;
}

int qemu_write(struct qemu *q, uint8_t byte, uint64_t offset)
{
        char io[96];
        int r;

        snprintf(io, sizeof(io), "write -P %u %llu 4096", byte, (unsigned long long)offset);
        r = disk_io(q, io, "wrote 4096/4096");
        return r < 0 ? r : disk_io(q, "flush", "");
}

int qemu_verify(struct qemu *q, uint8_t byte, uint64_t offset)
{
        char io[96];

        snprintf(io, sizeof(io), "read -P %u %llu 4096", byte, (unsigned long long)offset);
        return disk_io(q, io, "read 4096/4096");
}

static void finish(struct qemu *q)
{
        int status;

        close(q->in);
        close(q->out);
        waitpid(q->pid, &status, 0);
        free(q);
}

void qemu_close(struct qemu *q)
{
        if (!q)
                return;
        if (write(q->in, "quit\n", 5) == 5)
                read_answer(q);
        finish(q);
}

void qemu_kill(struct qemu *q)
{
        kill(q->pid, SIGKILL);
        finish(q);
}
