/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/json.h"
#include "tests/system/virt/lab.h"

#define MIB (1 << 20)

static void name_path(const struct guest *g, char *buf, size_t len)
{
        snprintf(buf, len, "%s/store/%s.e%u.h%d", lab->folder, g->name, (unsigned)g->epoch, g->owner);
}

static void link_path(const struct guest *g, int host, char *buf, size_t len)
{
        snprintf(buf, len, "%s/store/start-%s", lab->folder, g->lease[host].start.id);
}

static void link_point(const struct guest *g, int host)
{
        char link[300], fresh[320], name[300];

        name_path(g, name, sizeof name);
        link_path(g, host, link, sizeof link);
        snprintf(fresh, sizeof fresh, "%s.new", link);
        assert_int_equal(symlink(name, fresh), 0);
        assert_int_equal(rename(fresh, link), 0);
}

void guest_make(struct guest *g, const char *name)
{
        char path[300];
        char out[512];

        memset(g, 0, sizeof *g);
        uuid_random(g->id);
        snprintf(g->name, sizeof g->name, "%s", name);
        snprintf(g->lock_path, sizeof g->lock_path, "%s/store/%s.lock", lab->folder, name);
        name_path(g, path, sizeof path);
        /* As a store of QEMU's user: nothing here is root's but the folder and the golden image. */
        if (shell(
                out, sizeof out,
                "exec 2>&1; set -e; mkdir -p %s; cd %s; cp ../../guest.bin ../golden.raw; truncate -s 4M "
                "../golden.raw;"
                "for n in 0 1 2; do qemu-img create -q -f qcow2 -b %s/store/golden.raw -F raw disk$n; done;"
                "truncate -s 1M seed; chown %s disk? seed; chmod 600 disk? seed",
                path, path, lab->folder, lab->user) != 0)
                fail_msg("%s", out);
}

void guest_remove(struct guest *g)
{
        shell(NULL, 0, "rm -rf %s/store/%s.e* %s/store/%s.lock", lab->folder, g->name, lab->folder, g->name);
        for (int i = 1; i <= HOSTS; i++)
                shell(NULL, 0, "rm -f %s/store/start-%s", lab->folder, g->lease[i].start.id);
}

void guest_claim(struct guest *g, int host)
{
        char old[300], name[300];

        name_path(g, old, sizeof old);
        g->epoch++;
        g->owner = host;
        name_path(g, name, sizeof name);
        assert_int_equal(rename(old, name), 0);
        if (g->lease[host].start.id[0] && !g->direct)
                link_point(g, host);
}

static void disk_add(const struct guest *g, int host, struct domain_disk *d, const char *name,
                     bool read_only)
{
        char folder[300];

        if (g->direct)
                name_path(g, folder, sizeof folder);
        else
                link_path(g, host, folder, sizeof folder);
        snprintf(d->name, sizeof d->name, "%s", name);
        snprintf(d->attach.path, sizeof d->attach.path, "%s/%s", folder, name);
        d->attach.kind = ATTACH_FILE;
        d->attach.read_only = read_only;
        d->attach.qcow2 = d->attach.has_backing = !read_only;
        snprintf(d->attach.backing_path, sizeof d->attach.backing_path, "%s/store/golden.raw", lab->folder);
}

/* xml with the TCP port that hostd once gave a guest's screen; frees the old one. */
static char *screen_on_tcp(char *xml)
{
        const char *screen = strstr(xml, "<graphics "),
                   *rest = screen ? strstr(screen, "</graphics>") : NULL;
        char *with;

        assert_non_null(rest);
        with = str_printf("%.*s<graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'>%s",
                          (int)(screen - xml), xml, rest);
        free(xml);
        assert_non_null(with);
        return with;
}

char *guest_xml(struct guest *g, int host)
{
        struct domain_disk disks[4] = {0};
        struct domain_spec s = {.instance = g->id,
                                .name = g->name,
                                .cpus = 1,
                                .memory = 32 * MIB,
                                .disks = disks,
                                .lock_path = g->lock_path,
                                .boot_cdrom_second = true};
        struct err err = {0};
        char *xml, *with, *end;

        if (!g->lease[host].start.id[0]) {
                uuid_random(g->lease[host].start.id);
                if (!g->direct)
                        link_point(g, host);
        }
        memcpy(g->lease[host].instance, g->id, sizeof g->id);
        g->lease[host].epoch = g->epoch;
        s.lease = g->lease[host];
        disk_add(g, host, &disks[s.n_disks++], "disk0", false);
        for (unsigned i = 1; i <= g->extra; i++)
                disk_add(g, host, &disks[s.n_disks++], i == 1 ? "disk1" : "disk2", false);
        disk_add(g, host, &disks[s.n_disks++], "seed", true);
        assert_ok(domain_xml(&s, &xml, &err), &err);
        if (g->screen_on_tcp)
                xml = screen_on_tcp(xml);
        if (!g->qmp)
                return xml;
        /* A second monitor, so that the test sees QEMU without libvirt's help. */
        end = strstr(xml, "</qemu:commandline>");
        assert_non_null(end);
        with = str_printf(
            "%.*s<qemu:arg value='-qmp'/><qemu:arg value='unix:%s/h%d/qmp/sock,server=on,wait=off'/>%s",
            (int)(end - xml), xml, lab->folder, host, end);
        free(xml);
        assert_non_null(with);
        return with;
}

int guest_start(struct guest *g, int host, struct err *err)
{
        _cleanup_(freep) char *xml = NULL;

        guest_claim(g, host);
        memset(&g->lease[host], 0, sizeof g->lease[host]);
        xml = guest_xml(g, host);
        return virt_start(lab->hosts[host].virt, xml, err);
}

int guest_move(struct guest *g, int from, int to, struct virt_progress *ret, struct err *err)
{
        _cleanup_(freep) char *xml = NULL, *destination = str_printf("qemu+tcp://10.0.0.%d/system", to),
                              *uri = str_printf("tcp://10.0.0.%d", to);
        struct virt_migration m = {
            .instance = g->id, .destination = destination, .migrate_uri = uri, .downtime_ms = 250};

        memset(&g->lease[to], 0, sizeof g->lease[to]);
        uuid_random(g->lease[to].attempt);
        xml = guest_xml(g, to);
        m.xml = xml;
        return virt_migrate(lab->hosts[from].virt, &m, ret, err);
}

struct console {
        struct virt *virt;
        const char *instance;
        int fd;
        int result;
        struct err err;
};

static void *console_run(void *arg)
{
        struct console *c = arg;

        c->result = virt_console(c->virt, c->instance, c->fd, &c->err);
        shutdown(c->fd, SHUT_RDWR);
        return NULL;
}

bool guest_ticks(struct guest *g, int host, int n, int ms)
{
        struct console c = {.virt = lab->hosts[host].virt, .instance = g->id};
        int64_t deadline = clock_ms() + ms;
        int fds[2], dots = 0;
        bool failed = false;
        pthread_t t;

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        c.fd = fds[1];
        assert_int_equal(pthread_create(&t, NULL, console_run, &c), 0);
        while (dots < n && !failed && clock_ms() < deadline) {
                struct pollfd p = {.fd = fds[0], .events = POLLIN};
                char buf[256];
                ssize_t got;

                if (poll(&p, 1, 100) != 1)
                        continue;
                got = read(fds[0], buf, sizeof buf);
                if (got <= 0)
                        break;
                for (ssize_t i = 0; i < got; i++) {
                        dots += buf[i] == '.';
                        failed |= buf[i] == '!';
                }
        }
        close(fds[0]);
        pthread_join(t, NULL);
        close(fds[1]);
        if (c.result < 0)
                printf("    console of h%d: %s\n", host, err_text(&c.err));
        return dots >= n && !failed;
}

int guest_type(struct guest *g, int host, const char *text)
{
        struct console c = {.virt = lab->hosts[host].virt, .instance = g->id};
        struct pollfd p;
        int fds[2], r;
        pthread_t t;

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        c.fd = fds[1];
        assert_int_equal(pthread_create(&t, NULL, console_run, &c), 0);
        r = write_full(fds[0], text, strlen(text));
        /* Until the guest ends its side, which is what the text is for. */
        p = (struct pollfd){.fd = fds[0], .events = POLLRDHUP};
        if (poll(&p, 1, 5000) != 1)
                r = -ETIMEDOUT;
        close(fds[0]);
        pthread_join(t, NULL);
        close(fds[1]);
        return r;
}

static bool qmp_line(FILE *f, const char *command, json_t **ret)
{
        char line[8192];

        if (command && (fprintf(f, "{\"execute\": \"%s\"}\n", command) < 0 || fflush(f) != 0))
                return false;
        while (fgets(line, sizeof line, f)) {
                _cleanup_(json_decrefpp) json_t *j = NULL;

                if (json_parse(line, "QMP", &j, NULL) < 0)
                        return false;
                if (!json_object_get(j, "event")) {
                        *ret = json_incref(j);
                        return true;
                }
        }
        return false;
}

void guest_query(struct guest *g, int host, const char *command, const char *key, char ret[32])
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        _cleanup_(json_decrefpp) json_t *hello = NULL, *ready = NULL, *answer = NULL;
        _cleanup_(fclosep) FILE *f = NULL;
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct timeval limit = {.tv_sec = 2};

        ret[0] = '\0';
        snprintf(address.sun_path, sizeof address.sun_path, "%s/h%d/qmp/sock", lab->folder, host);
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        f = fdopen(fd, "r+");
        if (!f || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
                return;
        setvbuf(f, NULL, _IONBF, 0);
        if (qmp_line(f, NULL, &hello) && qmp_line(f, "qmp_capabilities", &ready) &&
            qmp_line(f, command, &answer))
                snprintf(ret, 32, "%s", json_get_str(json_object_get(answer, "return"), key, ""));
}
