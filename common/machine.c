/* SPDX-License-Identifier: Apache-2.0 */
#include "common/machine.h"

#include <string.h>
#include <sys/stat.h>

/* The first word of a file, if it is made of what ids are made of; else empty. */
static void read_id(const char *path, char *ret, size_t len)
{
        _cleanup_(freep) char *text = NULL;
        size_t n;

        *ret = '\0';
        if (file_read(path, 256, &text, NULL, NULL) < 0)
                return;
        n = strcspn(text, " \n");
        if (n > 0 && n < len && strspn(text, "0123456789abcdefABCDEF-") >= n)
                snprintf(ret, len, "%.*s", (int)n, text);
}

void machine_self(struct machine *ret)
{
        char installation[40], board[UUID_LEN + 1];
        struct stat net, pid;

        *ret = (struct machine){0};
        read_id("/proc/sys/kernel/random/boot_id", ret->boot, sizeof(ret->boot));
        if (stat("/proc/self/ns/net", &net) == 0 && stat("/proc/self/ns/pid", &pid) == 0)
                snprintf(ret->view, sizeof(ret->view), "%llx-%llx", (unsigned long long)net.st_ino,
                         (unsigned long long)pid.st_ino);
        read_id("/etc/machine-id", installation, sizeof(installation));
        read_id("/sys/class/dmi/id/product_uuid", board, sizeof(board));
        if (installation[0])
                snprintf(ret->board, sizeof(ret->board), "%s/%s", installation, board);
}
