/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "hostd/lock-driver/driver.h"

#define AGAIN_MS 5000 /* systemd has started the next hostd by then; the guest stands meanwhile */
#define AGAIN_PAUSE_MS 20

/*
 * A question and its answer are one packet each on a Unix socket of type SEQPACKET:
 *
 *      wherry-gate 1 QUESTION UUID PID KEY       QUESTION: REGISTER, ACQUIRE, AGAIN, RELEASE
 *      yes                                       or: no TEXT
 *
 * One connection a question, so that a driver that gave up never takes the answer to an older question for
 * its own.
 *
 * A hostd that dies over an ACQUIRE may have claimed the disk for this very guest: were that a no, nobody
 * could run it any more, here or where it came from. So the next hostd is asked AGAIN, and told that this
 * guest has been waiting since before it. Where no hostd took the question, nothing was claimed: a no at
 * once.
 */

static int no_answer(char reason[REASON_LEN], const char *socket_path, const char *what, int code)
{
        snprintf(reason, REASON_LEN, "no answer from hostd at %s (%s: %s), so the guest may not run",
                 socket_path, what, strerror(code));
        return -1;
}

static int exchange(int fd, const struct sockaddr_un *address, const char *packet, int64_t deadline,
                    char *ret_answer, size_t len, const char **ret_what)
{
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t left;
        ssize_t n;
        int r;

        *ret_what = "connect";
        if (connect(fd, (const struct sockaddr *)address, sizeof *address) < 0)
                return -errno; /* EAGAIN: more questions wait than it can take */
        *ret_what = "send";
        if (send(fd, packet, strlen(packet), MSG_NOSIGNAL) < 0)
                return -errno;
        *ret_what = "answer";
        do {
                left = deadline - now_ms();
                if (left <= 0)
                        return -ETIMEDOUT;
                r = poll(&p, 1, (int)left);
        } while (r == 0 || (r < 0 && errno == EINTR));
        if (r < 0)
                return -errno;
        n = recv(fd, ret_answer, len - 1, 0);
        if (n < 0)
                return -errno;
        if (n == 0)
                return -ECONNRESET;
        ret_answer[n] = '\0';
        return 0;
}

static int ask_once(const char *socket_path, const char *packet, int64_t deadline, char *ret_answer,
                    size_t len, const char **ret_what)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd, r;

        *ret_what = "socket";
        snprintf(address.sun_path, sizeof address.sun_path, "%s", socket_path);
        fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        r = exchange(fd, &address, packet, deadline, ret_answer, len, ret_what);
        close(fd);
        return r;
}

int gate_ask(const char *socket_path, const char *question, const char *uuid, pid_t pid, const char *key,
             int deadline_ms, char reason[REASON_LEN])
{
        char packet[KEY_LEN + 128], answer[REASON_LEN];
        int64_t deadline = now_ms() + deadline_ms;
        const char *what;
        int r;

        snprintf(packet, sizeof packet, "wherry-gate 1 %s %s %d %s", question, uuid, (int)pid, key);
        r = ask_once(socket_path, packet, deadline, answer, sizeof answer, &what);
        if (r == -ECONNRESET && strcmp(question, "ACQUIRE") == 0) {
                snprintf(packet, sizeof packet, "wherry-gate 1 AGAIN %s %d %s", uuid, (int)pid, key);
                if (deadline > now_ms() + AGAIN_MS)
                        deadline = now_ms() + AGAIN_MS;
                do {
                        poll(NULL, 0, AGAIN_PAUSE_MS);
                        r = ask_once(socket_path, packet, deadline, answer, sizeof answer, &what);
                } while (r < 0 && now_ms() < deadline);
        }
        if (r < 0)
                return no_answer(reason, socket_path, what, -r);
        if (strcmp(answer, "yes") == 0)
                return 0;
        snprintf(reason, REASON_LEN, "%s",
                 strncmp(answer, "no ", 3) == 0 ? answer + 3 : "hostd's answer is garbled");
        return -1;
}
