/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/store/conformance.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"

/* qemu-io as a child that takes commands over a pipe: QEMU's own block layer, opened as hostd's domain opens
 * a disk. */
struct qemu {
        pid_t pid;
        int in, out;
        char answer[4096];
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
                    "\"user\":\"%s\"}",
                    copy, space ? "\"namespace\":\"" : "", space ? space : "", space ? "\"," : "", image,
                    conf ? conf : "/etc/ceph/ceph.conf", user ? user : "admin");
        }
        }
        return NULL;
}

static char *node(const struct attach *a)
{
        _cleanup_(freep) char *file = file_node(a->kind, a->server, a->path, a->uid, a->gid);
        _cleanup_(freep) char *below = NULL;

        if (!a->qcow2)
                return str_printf("json:{\"driver\":\"raw\",\"file\":%s}", file);
        if (a->has_backing)
                below = file_node(a->kind, a->server, a->backing_path, a->backing_uid, a->backing_gid);
        return str_printf("json:{\"driver\":\"qcow2\",\"file\":%s,\"backing\":%s%s%s}", file,
                          below ? "{\"driver\":\"raw\",\"file\":" : "null", below ? below : "",
                          below ? "}" : "");
}

/* Everything up to the next prompt, or to the end. */
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
                if (n >= 9 && streq(q->answer + n - 9, "qemu-io> "))
                        return true;
        }
        q->answer[n] = '\0';
        return false;
}

static struct qemu *start(const char *image, bool read_only)
{
        struct qemu *q = calloc(1, sizeof(*q));
        int to[2], from[2];

        assert_int_equal(pipe2(to, O_CLOEXEC), 0);
        assert_int_equal(pipe2(from, O_CLOEXEC), 0);
        q->pid = fork();
        if (q->pid == 0) {
                dup2(to[0], 0);
                dup2(from[1], 1);
                dup2(from[1], 2);
                if (read_only)
                        execlp("qemu-io", "qemu-io", "-r", image, (char *)NULL);
                else
                        execlp("qemu-io", "qemu-io", "-t", "writeback", image, (char *)NULL);
                _exit(127);
        }
        close(to[0]);
        close(from[1]);
        q->in = to[1];
        q->out = from[0];
        return q;
}

struct qemu *qemu_open(const struct attach *a, char **ret_why)
{
        _cleanup_(freep) char *image = node(a);
        struct qemu *q = start(image, a->read_only);

        /* qemu-io gives a prompt even where it could not open the image; a read tells */
        if (read_answer(q) && !strstr(q->answer, "can't open")) {
                *ret_why = NULL;
                return q;
        }
        *ret_why = strdup(q->answer);
        qemu_close(q);
        return NULL;
}

static bool command(struct qemu *q, const char *text)
{
        return write_full(q->in, text, strlen(text)) == 0 && read_answer(q);
}

int qemu_write(struct qemu *q, uint8_t byte, uint64_t offset)
{
        char text[96];

        snprintf(text, sizeof(text), "write -P %u %llu 4096\n", byte, (unsigned long long)offset);
        if (!command(q, text))
                return -EPIPE;
        if (strstr(q->answer, "Permission denied") || strstr(q->answer, "shutdown"))
                return -EACCES;
        if (!strstr(q->answer, "wrote 4096/4096"))
                return -EIO;
        if (!command(q, "flush\n"))
                return -EPIPE;
        if (strstr(q->answer, "Permission denied") || strstr(q->answer, "shutdown"))
                return -EACCES;
        return strstr(q->answer, "failed") ? -EIO : 0;
}

int qemu_verify(struct qemu *q, uint8_t byte, uint64_t offset)
{
        char text[96];

        snprintf(text, sizeof(text), "read -P %u %llu 4096\n", byte, (unsigned long long)offset);
        if (!command(q, text))
                return -EPIPE;
        if (!strstr(q->answer, "read 4096/4096") || strstr(q->answer, "verification failed"))
                return -EIO;
        return 0;
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
