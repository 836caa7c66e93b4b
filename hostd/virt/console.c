/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/util.h"
#include "hostd/virt/internal.h"

/*
 * The caller's thread moves the bytes; libvirt's event thread only wakes it up. A stream of libvirt's is
 * non-blocking here: its blocking form cannot wait for the other side at the same time.
 */

#define CHUNK 4096

struct console {
        int wake_fd; /* eventfd: the stream has news */
        int done_fd; /* eventfd: no callback runs any more */
};

struct pump {
        virStreamPtr stream;
        int fd, wake_fd;
        bool stream_ended;
        char up[CHUNK]; /* from fd, not yet taken by the stream */
        size_t up_start, up_end;
};

static void stream_freep(virStreamPtr *s)
{
        if (*s)
                virStreamFree(*s);
}

static void on_stream(virStreamPtr stream, int events, void *arg)
{
        struct console *c = arg;

        /* Level-triggered: quiet until the pump has looked, which asks for events again. */
        virStreamEventUpdateCallback(stream, VIR_STREAM_EVENT_ERROR | VIR_STREAM_EVENT_HANGUP);
        eventfd_write(c->wake_fd, 1);
}

static void on_barrier(int timer, void *arg)
{
        struct console *c = arg;

        virEventRemoveTimeout(timer);
        eventfd_write(c->done_fd, 1);
}

static void console_free(struct console *c)
{
        if (c->wake_fd >= 0)
                close(c->wake_fd);
        if (c->done_fd >= 0)
                close(c->done_fd);
        free(c);
}

static struct console *console_new(void)
{
        struct console *c = calloc(1, sizeof *c);

        if (!c)
                return NULL;
        c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        c->done_fd = eventfd(0, EFD_CLOEXEC);
        if (c->wake_fd >= 0 && c->done_fd >= 0)
                return c;
        console_free(c);
        return NULL;
}

/*
 * A callback that has been removed may still be running, and libvirt never calls a stream callback's free
 * function. It runs on the event thread: once a timer of ours has run there, it has ended.
 */
static void console_detach(struct console *c, virStreamPtr stream)
{
        eventfd_t count;

        virStreamEventRemoveCallback(stream);
        if (virEventAddTimeout(0, on_barrier, c, NULL) < 0)
                return; /* better lost than freed too early */
        while (eventfd_read(c->done_fd, &count) < 0 && errno == EINTR)
                ;
        console_free(c);
}

/* 0: go on; 1: the client's side has ended; -errno. */
static int pump_down(struct pump *p)
{
        char buf[CHUNK];

        for (;;) {
                int n = virStreamRecv(p->stream, buf, sizeof buf);

                if (n == -2)
                        return 0;
                if (n <= 0) {
                        p->stream_ended = true;
                        return n < 0 ? -EIO : 0;
                }
                /* A client that does not read holds up its own console only: this thread is its own. */
                if (write_full(p->fd, buf, (size_t)n) < 0)
                        return 1;
        }
}

static int pump_up(struct pump *p)
{
        while (p->up_start < p->up_end) {
                int n = virStreamSend(p->stream, p->up + p->up_start, p->up_end - p->up_start);

                if (n == -2)
                        return 0;
                if (n < 0)
                        return -EIO;
                p->up_start += (size_t)n;
        }
        p->up_start = p->up_end = 0;
        return 0;
}

static int pump_run(struct pump *p, struct err *err)
{
        for (;;) {
                bool full = p->up_end > 0;
                struct pollfd fds[2] = {{.fd = p->wake_fd, .events = POLLIN},
                                        {.fd = p->fd, .events = full ? 0 : POLLIN}};
                eventfd_t count;
                ssize_t n;
                int r;

                if (virStreamEventUpdateCallback(
                        p->stream, VIR_STREAM_EVENT_READABLE | VIR_STREAM_EVENT_ERROR |
                                       VIR_STREAM_EVENT_HANGUP | (full ? VIR_STREAM_EVENT_WRITABLE : 0)) < 0)
                        return virt_error(err, "console");
                if (poll(fds, 2, -1) < 0 && errno != EINTR)
                        return err_set(err, -errno, "console: %s", strerror(errno));
                if (fds[0].revents) {
                        eventfd_read(p->wake_fd, &count);
                        r = pump_down(p);
                        if (r < 0)
                                return virt_error(err, "console");
                        if (r > 0 || p->stream_ended)
                                return 0;
                }
                if (!full && fds[1].revents) {
                        n = read(p->fd, p->up, sizeof p->up);
                        if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
                                return 0;
                        p->up_end = n > 0 ? (size_t)n : 0;
                } else if (fds[1].revents & (POLLERR | POLLHUP)) {
                        return 0;
                }
                if (pump_up(p) < 0)
                        return virt_error(err, "console");
        }
}

int virt_console(struct virt *v, const char *instance, int fd, struct err *err)
{
        _cleanup_(virt_connect_freep) virConnectPtr conn = NULL;
        _cleanup_(virt_domain_freep) virDomainPtr dom = NULL;
        _cleanup_(stream_freep) virStreamPtr stream = NULL;
        struct pump p = {.fd = fd};
        struct console *c;
        int r = virt_conn(v, &conn, err);

        if (r < 0)
                return r;
        r = virt_lookup(v, instance, &dom, err);
        if (r < 0)
                return r;
        stream = virStreamNew(conn, VIR_STREAM_NONBLOCK);
        if (!stream || virDomainOpenConsole(dom, NULL, stream, VIR_DOMAIN_CONSOLE_FORCE) < 0)
                return virt_error(err, "instance %s: open the console", instance);
        c = console_new();
        if (!c) {
                virStreamAbort(stream);
                return err_set(err, -ENOMEM, "instance %s: console: no eventfd", instance);
        }
        if (virStreamEventAddCallback(stream, VIR_STREAM_EVENT_READABLE, on_stream, c, NULL) < 0) {
                r = virt_error(err, "instance %s: console", instance);
                console_free(c);
                virStreamAbort(stream);
                return r;
        }
        p.stream = stream;
        p.wake_fd = c->wake_fd;
        r = pump_run(&p, err);
        console_detach(c, stream);
        if (p.stream_ended && r == 0)
                virStreamFinish(stream);
        else
                virStreamAbort(stream);
        return r;
}
