/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "imaged/osinfo/wire.h"

/* A helper that somebody has taken over: what it does to its caller is the disk's first byte. */

static uint8_t reply[1 + OSINFO_PIECE];

static ssize_t ask(uint32_t len, uint64_t offset)
{
        struct osinfo_request q = {.what = OSINFO_READ, .len = len, .offset = offset};

        if (send(0, &q, sizeof(q), MSG_NOSIGNAL) < 0)
                return -1;
        return recv(0, reply, sizeof(reply), 0);
}

static void answer(const char *json)
{
        char text[16384];
        int n = snprintf(text, sizeof(text), "%c%s", OSINFO_ANSWER, json);

        send(0, text, (size_t)n, MSG_NOSIGNAL);
        pause();
}

int main(void)
{
        struct osinfo_task task;
        char blanks[8192];

        if (recv(0, &task, sizeof(task), 0) != sizeof(task) || ask(1, 0) != 2)
                return 9;
        switch (reply[1]) {
        case 'w': /* behaves: a read beyond the end is refused, and the talk goes on */
                if (ask(512, task.size - 511) == 1 && reply[0] && ask(512, UINT64_MAX) == 1 && reply[0] &&
                    ask(1, task.size - 1) == 2 && reply[1] == 'z')
                        answer("{\"distro\":\"rogue\"}");
                return 8;
        case 'l':
                ask(UINT32_MAX, 0);
                pause();
                return 0;
        case '0':
                ask(0, 0);
                pause();
                return 0;
        case 'm': /* more than is allowed in all */
                while (ask(OSINFO_PIECE, 0) > 1)
                        ;
                pause();
                return 0;
        case 'f': /* asks, and never takes anything */
                for (struct osinfo_request q = {.what = OSINFO_READ, .len = OSINFO_PIECE};;)
                        if (send(0, &q, sizeof(q), MSG_NOSIGNAL) < 0)
                                pause();
        case 'j':
                answer("{\"distro\":");
                return 0;
        case 'p':
                answer("{\"distro\":\"../../etc\"}");
                return 0;
        case 'n':
                answer("{\"min_ram\":-1}");
                return 0;
        case 'a': /* an answer longer than any */
                memset(blanks, ' ', sizeof(blanks));
                blanks[sizeof(blanks) - 1] = '\0';
                answer(blanks);
                return 0;
        case 'c':
                close(0);
                pause();
                return 0;
        case 'k':
                raise(SIGKILL);
                return 0;
        case 'e':
                return 3;
        case 's':
                pause();
                return 0;
        }
        return 7;
}
