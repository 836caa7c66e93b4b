/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The second locks. On a plain directory QEMU's own image lock is the fence, but between hostd's yes and
 * QEMU's first vCPU nobody holds that. So this process, libvirtd, locks a file of the instance before hostd
 * is asked. libvirt frees its lock object after every call, so the locks live in a list here. They are locks
 * of an open file description: the kernel frees them when libvirtd dies, and then no start of libvirtd's can
 * follow. A thread watches each QEMU by pidfd and frees its lock when it has died, since libvirt calls
 * nobody then.
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "hostd/lock-driver/driver.h"

#define RETRY_MS 10

struct hold {
        struct hold *next;
        char path[PATH_LEN];
        pid_t pid;
        int fd, pidfd;
};

struct holds {
        pthread_mutex_t lock; /* guards list */
        struct hold *list;
        int epoll_fd, stop_fd; /* fixed */
        pthread_t watcher;
};

static void hold_free(struct hold *x)
{
        if (x->pidfd >= 0)
                close(x->pidfd);
        if (x->fd >= 0)
                close(x->fd);
        free(x);
}

/* The caller has the mutex. pidfd >= 0: the one of it, whatever its path and pid are. */
static void unlink_and_free(struct holds *h, const char *path, pid_t pid, int pidfd)
{
        for (struct hold **p = &h->list; *p; p = &(*p)->next) {
                struct hold *x = *p;

                if (pidfd >= 0 ? x->pidfd != pidfd : x->pid != pid || strcmp(x->path, path) != 0)
                        continue;
                *p = x->next;
                epoll_ctl(h->epoll_fd, EPOLL_CTL_DEL, x->pidfd, NULL);
                hold_free(x);
                return;
        }
}

static void *watch(void *arg)
{
        struct holds *h = arg;
        struct epoll_event e;

        for (;;) {
                int n = epoll_wait(h->epoll_fd, &e, 1, -1);

                if (n < 0 && errno != EINTR)
                        return NULL;
                if (n != 1)
                        continue;
                if (e.data.fd == h->stop_fd)
                        return NULL;
                pthread_mutex_lock(&h->lock);
                /* The event may be older than a drop and a new hold that got the same descriptor: look
                 * whether it has ended. */
                if (epoll_wait(h->epoll_fd, &e, 1, 0) == 1 && e.data.fd != h->stop_fd)
                        unlink_and_free(h, "", 0, e.data.fd);
                pthread_mutex_unlock(&h->lock);
        }
}

static int start_watcher(struct holds *h)
{
        struct epoll_event e = {.events = EPOLLIN, .data.fd = h->stop_fd};
        sigset_t all, old;
        int r;

        if (h->epoll_fd < 0 || h->stop_fd < 0 || epoll_ctl(h->epoll_fd, EPOLL_CTL_ADD, h->stop_fd, &e) < 0)
                return -1;
        /* Signals are libvirtd's business, on threads of its own. */
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        r = pthread_create(&h->watcher, NULL, watch, h);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        return r == 0 ? 0 : -1;
}

struct holds *holds_new(void)
{
        struct holds *h = calloc(1, sizeof *h);

        if (!h)
                return NULL;
        pthread_mutex_init(&h->lock, NULL);
        h->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        h->stop_fd = eventfd(0, EFD_CLOEXEC);
        if (start_watcher(h) == 0)
                return h;
        if (h->epoll_fd >= 0)
                close(h->epoll_fd);
        if (h->stop_fd >= 0)
                close(h->stop_fd);
        free(h);
        return NULL;
}

struct holds *holds_free(struct holds *h)
{
        if (!h)
                return NULL;
        eventfd_write(h->stop_fd, 1);
        pthread_join(h->watcher, NULL);
        while (h->list) {
                struct hold *x = h->list;

                h->list = x->next;
                hold_free(x);
        }
        close(h->epoll_fd);
        close(h->stop_fd);
        pthread_mutex_destroy(&h->lock);
        free(h);
        return NULL;
}

/* The kernel's waiting form of this lock knows no deadline, and a cluster file system tells nobody when a
 * lock becomes free, so the lock is tried again every few milliseconds until the deadline. */
static int lock_file(const char *path, int wait_ms, int *ret_fd, char reason[REASON_LEN])
{
        struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        const struct timespec pause = {.tv_nsec = RETRY_MS * 1000000L};
        int64_t deadline = now_ms() + wait_ms;
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600), code = errno;

        while (fd >= 0 && fcntl(fd, F_OFD_SETLK, &l) < 0) {
                code = errno;
                if ((code == EAGAIN || code == EACCES || code == EINTR) && now_ms() < deadline) {
                        nanosleep(&pause, NULL);
                        continue;
                }
                close(fd);
                fd = -1;
        }
        if (fd >= 0) {
                *ret_fd = fd;
                return 0;
        }
        if (code == EAGAIN || code == EACCES)
                snprintf(reason, REASON_LEN,
                         "%.300s is still locked after %d ms: another libvirt runs this guest", path,
                         wait_ms);
        else
                snprintf(reason, REASON_LEN, "cannot lock %.300s: %s", path, strerror(code));
        return -1;
}

static bool is_held(struct holds *h, const char *path, pid_t pid)
{
        bool found = false;

        pthread_mutex_lock(&h->lock);
        for (struct hold *x = h->list; x && !found; x = x->next)
                found = x->pid == pid && strcmp(x->path, path) == 0;
        pthread_mutex_unlock(&h->lock);
        return found;
}

int holds_take(struct holds *h, const char *path, pid_t pid, int wait_ms, bool *ret_fresh,
               char reason[REASON_LEN])
{
        struct epoll_event e = {.events = EPOLLIN};
        struct hold *x;

        /* libvirt has the guest's own lock: no two calls for one QEMU at once. */
        if (is_held(h, path, pid)) {
                *ret_fresh = false;
                return 0;
        }
        x = calloc(1, sizeof *x);
        if (!x) {
                snprintf(reason, REASON_LEN, "out of memory");
                return -1;
        }
        snprintf(x->path, sizeof x->path, "%s", path);
        x->pid = pid;
        x->fd = -1;
        e.data.fd = x->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        if (x->pidfd < 0) {
                snprintf(reason, REASON_LEN, "QEMU %d: %s", (int)pid, strerror(errno));
                hold_free(x);
                return -1;
        }
        if (lock_file(path, wait_ms, &x->fd, reason) < 0) {
                hold_free(x);
                return -1;
        }
        pthread_mutex_lock(&h->lock);
        if (epoll_ctl(h->epoll_fd, EPOLL_CTL_ADD, x->pidfd, &e) < 0) {
                snprintf(reason, REASON_LEN, "QEMU %d cannot be watched: %s", (int)pid, strerror(errno));
                hold_free(x);
                x = NULL;
        } else {
                x->next = h->list;
                h->list = x;
        }
        pthread_mutex_unlock(&h->lock);
        if (!x)
                return -1;
        *ret_fresh = true;
        return 0;
}

void holds_drop(struct holds *h, const char *path, pid_t pid)
{
        pthread_mutex_lock(&h->lock);
        unlink_and_free(h, path, pid, -1);
        pthread_mutex_unlock(&h->lock);
}
