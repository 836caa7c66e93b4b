/* SPDX-License-Identifier: Apache-2.0 */
#include "hostd/dhcp.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/util.h"

/* dnsmasq reads a new file in its --dhcp-hostsdir by itself: "MAC,ADDRESS,NAME". */
void dhcp_add(struct context *ctx, const char *instance, const char *name, const char *mac,
              const char *address)
{
        _cleanup_(freep) char *path = str_printf("%s/%s", ctx->config->dhcp_hosts_dir, instance);
        _cleanup_(freep) char *line = mac && address ? str_printf("%s,%s,%s\n", mac, address, name) : NULL;
        struct err e = {0};

        if (!path || !line)
                return;
        if (mkdir_p(ctx->config->dhcp_hosts_dir, 0755, &e) < 0 ||
            file_write(path, line, strlen(line), 0644, &e) < 0)
                log_warn("instance %s: no DHCP entry: %s", instance, err_text(&e));
}

void dhcp_remove(struct context *ctx, const char *instance)
{
        _cleanup_(freep) char *path = str_printf("%s/%s", ctx->config->dhcp_hosts_dir, instance);

        if (path && unlink(path) < 0 && errno != ENOENT)
                log_warn("instance %s: DHCP entry not removed: %s", instance, strerror(errno));
}

void dhcp_scan(struct context *ctx, void (*wake)(struct context *ctx, const char *instance))
{
        DIR *folder = opendir(ctx->config->dhcp_hosts_dir);
        const struct dirent *e;

        while (folder && (e = readdir(folder)))
                if (uuid_valid(e->d_name))
                        wake(ctx, e->d_name);
        if (folder)
                closedir(folder);
}
