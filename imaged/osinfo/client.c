/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/util.h"
#include "imaged/osinfo/osinfo.h"
#include "imaged/osinfo/wire.h"

/* The caller's side. All that the helper sends is taken for hostile. */
#define READ_MAX (UINT64_C(64) << 20) /* bytes that it may ask for in all */
#define END_MS 1000
#define PROGRAM "wherry-osinfo"

struct call {
        const struct source *disk;
        int fd;
        pid_t pid;
        int64_t end_ms;
        uint64_t read;
        uint8_t buf[1 + OSINFO_PIECE];
};

/* Beside the caller's own program, as in a build folder, or where it is installed. */
static char *helper_path(void)
{
        char self[4096];
        ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
        char *slash, *path = NULL;

        self[MAX_OF(n, 0)] = '\0';
        slash = strrchr(self, '/');
        if (slash) {
                *slash = '\0';
                path = str_printf("%s/osinfo/" PROGRAM, self);
                if (path && access(path, X_OK) == 0)
                        return path;
                free(path);
                path = str_printf("%s/../osinfo/" PROGRAM, self); /* from imaged/cli */
                if (path && access(path, X_OK) == 0)
                        return path;
                free(path);
        }
        path = strdup(OSINFO_HELPER_DIR "/" PROGRAM);
        if (path && access(path, X_OK) == 0)
                return path;
        free(path);
        return NULL;
}

/* With an empty environment, standard error as ours, and signals as at the begin of a program. */
static int helper_spawn(const char *path, int fd, pid_t *ret, struct err *err)
{
        char *const argv[] = {(char *)PROGRAM, NULL}, *const envp[] = {NULL};
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attr;
        sigset_t none, all;
        int r;

        sigemptyset(&none);
        sigfillset(&all);
        posix_spawn_file_actions_init(&actions);
        posix_spawnattr_init(&attr);
        posix_spawn_file_actions_adddup2(&actions, fd, 0);
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
        posix_spawnattr_setsigmask(&attr, &none);
        posix_spawnattr_setsigdefault(&attr, &all);
        posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        r = -posix_spawn(ret, path, &actions, &attr, argv, envp);
        posix_spawnattr_destroy(&attr);
        posix_spawn_file_actions_destroy(&actions);
        return r < 0 ? err_set(err, r, "%s: %s", path, strerror(-r)) : 0;
}

/* Its next message, in c->buf. Returns its length, 0 where it has ended. */
static ssize_t helper_wait(struct call *c, struct err *err)
{
        for (;;) {
                struct pollfd p = {.fd = c->fd, .events = POLLIN};
                int64_t left = c->end_ms - clock_ms();
                ssize_t n;

                if (left <= 0)
                        return err_set(err, -ETIMEDOUT, "the helper did not answer in time");
                if (poll(&p, 1, (int)left) < 0 && errno != EINTR)
                        return err_set(err, -errno, "poll: %s", strerror(errno));
                n = recv(c->fd, c->buf, sizeof(c->buf), MSG_DONTWAIT);
                if (n >= 0)
                        return n;
                if (errno == ECONNRESET)
                        return 0;
                if (errno != EAGAIN && errno != EINTR)
                        return err_set(err, -errno, "the helper's socket: %s", strerror(errno));
        }
}

static int helper_send(struct call *c, const void *buf, size_t len, struct err *err)
{
        /* One that does not take what it asked for finds no room in the end. */
        if (send(c->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
                return err_set(err, -errno, "the helper does not take the disk's bytes: %s",
                               strerror(errno));
        return 0;
}

static int request_serve(struct call *c, struct err *err)
{
        struct osinfo_request q;
        struct err why = {0};
        int r;

        memcpy(&q, c->buf, sizeof(q));
        if (q.len == 0 || q.len > OSINFO_PIECE || c->read + q.len > READ_MAX)
                return err_set(err, -EBADMSG, "the helper asks for %u bytes, having read %llu", q.len,
                               (unsigned long long)c->read);
        c->read += q.len;
        r = source_read(c->disk, c->buf + 1, q.len, q.offset, &why);
        c->buf[0] = r < 0;
        return helper_send(c, c->buf, r < 0 ? 1 : 1 + (size_t)q.len, err);
}

static int helper_talk(struct call *c, bool iso, struct osinfo *ret, struct err *err)
{
        struct osinfo_task task = {.size = c->disk->size, .iso = iso};
        ssize_t n = helper_send(c, &task, sizeof(task), err);

        while (n == 0) {
                n = helper_wait(c, err);
                if (n == 0)
                        return err_set(err, -EPIPE, "the helper ended without an answer");
                if (n == sizeof(struct osinfo_request) && c->buf[0] == OSINFO_READ) {
                        n = request_serve(c, err);
                } else if (n > 1 && (size_t)n <= OSINFO_ANSWER_MAX && c->buf[0] == OSINFO_ANSWER) {
                        _cleanup_(json_decrefpp) json_t *j =
                            json_loadb((char *)c->buf + 1, (size_t)n - 1, 0, NULL);

                        return osinfo_parse(j, ret, err);
                } else if (n > 0)
                        return err_set(err, -EBADMSG, "the helper sent %zd bytes that are no message", n);
        }
        return (int)n;
}

/* Nothing of it is needed any more. Where it closed its socket first, its own end is waited for, to be told.
 */
static void helper_end(pid_t pid, int r, struct err *err)
{
        _cleanup_(closep) int fd = r == -EPIPE ? pidfd_open(pid, 0) : -1;
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int status = 0;

        if (fd < 0 || poll(&p, 1, END_MS) <= 0)
                kill(pid, SIGKILL);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
                ;
        if (r == -EPIPE && WIFSIGNALED(status))
                err_wrap(err, r, "%s", strsignal(WTERMSIG(status)));
        else if (r == -EPIPE && WEXITSTATUS(status))
                err_wrap(err, r, "exit status %d", WEXITSTATUS(status));
}

int osinfo_find_by(const char *program, int time_ms, const struct source *disk, bool iso, struct osinfo *ret,
                   struct err *err)
{
        _cleanup_(freep) struct call *c = malloc(sizeof(*c));
        _cleanup_(closep) int ours = -1, theirs = -1;
        int pair[2], r;

        if (!c)
                return err_set(err, -ENOMEM, "out of memory");
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return err_set(err, -errno, "socket pair: %s", strerror(errno));
        ours = pair[0];
        theirs = pair[1];
        *c = (struct call){.disk = disk, .fd = ours, .end_ms = clock_ms() + time_ms};
        r = helper_spawn(program, theirs, &c->pid, err);
        if (r < 0)
                return r;
        closep(&theirs);
        theirs = -1;
        r = helper_talk(c, iso, ret, err);
        helper_end(c->pid, r, err);
        return r;
}

int osinfo_find(const struct source *disk, bool iso, struct osinfo *ret, struct err *err)
{
        _cleanup_(freep) char *path = helper_path();

        if (!path)
                return err_set(err, -EOPNOTSUPP, PROGRAM " is not installed");
        return osinfo_find_by(path, OSINFO_TIME_MS, disk, iso, ret, err);
}
