/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/util.h"
#include "imaged/osinfo/helper.h"
#include "imaged/osinfo/wire.h"

/* A window is kept: what is looked at lies together mostly, and a question costs a read of the storage. */
#define WINDOW 16384u

struct remote {
        int fd;
        uint64_t size, start; /* of the window */
        size_t len;           /* 0: none */
        uint8_t window[WINDOW];
        uint8_t reply[1 + OSINFO_PIECE];
};

static int ask(struct remote *m, uint64_t offset, uint32_t len, struct err *err)
{
        struct osinfo_request q = {.what = OSINFO_READ, .len = len, .offset = offset};
        ssize_t n;

        if (send(m->fd, &q, sizeof(q), MSG_NOSIGNAL) < 0)
                return err_set(err, -errno, "the caller is gone: %s", strerror(errno));
        do
                n = recv(m->fd, m->reply, sizeof(m->reply), 0);
        while (n < 0 && errno == EINTR);
        if (n <= 0)
                return err_set(err, -EPIPE, "the caller is gone");
        if (m->reply[0] != 0 || n != 1 + (ssize_t)len)
                return err_set(err, -EIO, "the disk cannot be read at offset %llu",
                               (unsigned long long)offset);
        return 0;
}

static int remote_read(void *state, void *buf, size_t len, uint64_t offset, struct err *err)
{
        struct remote *m = state;
        uint8_t *p = buf;

        while (len > 0) {
                size_t n;
                int r;

                if (offset < m->start || offset - m->start >= m->len) {
                        uint64_t start = offset / 4096 * 4096;

                        m->len = 0;
                        n = (size_t)MIN_OF((uint64_t)WINDOW, m->size - start);
                        r = ask(m, start, (uint32_t)n, err);
                        if (r < 0)
                                return r;
                        memcpy(m->window, m->reply + 1, n);
                        m->start = start;
                        m->len = n;
                }
                n = MIN_OF(len, m->len - (size_t)(offset - m->start));
                memcpy(p, m->window + (offset - m->start), n);
                p += n;
                offset += n;
                len -= n;
        }
        return 0;
}

int remote_begin(int fd, struct source *ret, bool *ret_iso, struct err *err)
{
        struct remote *m = calloc(1, sizeof(*m));
        struct osinfo_task task;

        if (!m)
                return err_set(err, -ENOMEM, "out of memory");
        if (recv(fd, &task, sizeof(task), 0) != sizeof(task)) {
                free(m);
                return err_set(err, -EINVAL, "standard input is not the socket of a caller");
        }
        m->fd = fd;
        m->size = task.size;
        *ret = (struct source){.size = task.size, .read = remote_read, .state = m};
        *ret_iso = task.iso;
        return 0;
}

void remote_end(struct source *src)
{
        free(src->state);
        src->state = NULL;
}
