/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/system/virt/lab.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"

struct lab *lab;

int shell(char *out, size_t len, const char *fmt, ...)
{
        _cleanup_(freep) char *command = NULL;
        char drop[4096];
        size_t n = 0;
        va_list ap;
        FILE *f;
        int r;

        va_start(ap, fmt);
        r = vasprintf(&command, fmt, ap);
        va_end(ap);
        assert_true(r > 0);
        f = popen(command, "re");
        assert_non_null(f);
        if (out && len)
                n = fread(out, 1, len - 1, f);
        if (out && len)
                out[n] = '\0';
        while (fread(drop, 1, sizeof drop, f) > 0)
                ;
        r = pclose(f);
        return WIFEXITED(r) ? WEXITSTATUS(r) : 255;
}

static void mark_add(struct mark m)
{
        m.ns = clock_ns();
        pthread_mutex_lock(&lab->lock);
        if (lab->n_marks < ARRAY_SIZE(lab->marks))
                lab->marks[lab->n_marks++] = m;
        pthread_cond_broadcast(&lab->changed);
        pthread_mutex_unlock(&lab->lock);
}

static int on_question(void *arg, const struct gate_request *req, struct err *err)
{
        struct lab_host *h = arg;
        struct mark m = {.kind = MARK_QUESTION, .host = h->number, .what = req->question, .pid = req->pid};
        lab_hook hook;
        int r;

        pthread_mutex_lock(&lab->lock);
        hook = lab->hook;
        pthread_mutex_unlock(&lab->lock);
        r = hook ? hook(lab, h->number, req, err) : 0;
        m.yes = r >= 0;
        snprintf(m.instance, sizeof m.instance, "%s", req->lease.instance);
        mark_add(m);
        return r;
}

static void on_event(void *arg, enum virt_event_kind kind, const char *instance, const char *detail)
{
        struct lab_host *h = arg;
        struct mark m = {.kind = MARK_EVENT, .host = h->number, .what = kind};

        snprintf(m.instance, sizeof m.instance, "%s", instance ? instance : "");
        snprintf(m.detail, sizeof m.detail, "%s", detail ? detail : "");
        mark_add(m);
}

static bool mark_fits(const struct mark *m, enum mark_kind kind, int host, int what, const char *detail)
{
        return m->kind == kind && m->host == host && m->what == what &&
               (!detail || streq(m->detail, detail));
}

int mark_wait(size_t from, enum mark_kind kind, int host, int what, const char *detail, int ms)
{
        struct timespec until;
        int found = -1, r = 0;

        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += ms / 1000;
        until.tv_nsec += ms % 1000 * 1000000L;
        if (until.tv_nsec >= 1000000000L) {
                until.tv_sec++;
                until.tv_nsec -= 1000000000L;
        }
        pthread_mutex_lock(&lab->lock);
        for (;;) {
                for (size_t i = from; i < lab->n_marks && found < 0; i++)
                        if (mark_fits(&lab->marks[i], kind, host, what, detail))
                                found = (int)i;
                if (found >= 0 || r)
                        break;
                r = pthread_cond_timedwait(&lab->changed, &lab->lock, &until);
        }
        pthread_mutex_unlock(&lab->lock);
        return found;
}

int mark_count(enum mark_kind kind, int host, int what)
{
        int n = 0;

        pthread_mutex_lock(&lab->lock);
        for (size_t i = 0; i < lab->n_marks; i++)
                n += mark_fits(&lab->marks[i], kind, host, what, NULL);
        pthread_mutex_unlock(&lab->lock);
        return n;
}

void marks_print(void)
{
        static const char *const questions[] = {"REGISTER", "ACQUIRE", "RELEASE"};

        pthread_mutex_lock(&lab->lock);
        for (size_t i = 0; i < lab->n_marks; i++) {
                const struct mark *m = &lab->marks[i];

                printf("    +%6.1f ms  h%d  %-8s %s %s\n", (double)(m->ns - lab->marks[0].ns) / 1e6, m->host,
                       m->kind == MARK_QUESTION ? questions[m->what] : virt_event_name(m->what), m->detail,
                       m->kind == MARK_EVENT ? ""
                       : m->yes              ? "yes"
                                             : "no");
        }
        pthread_mutex_unlock(&lab->lock);
}

void gate_open(int host)
{
        struct err err = {0};

        assert_ok(gate_new(lab->hosts[host].gate_path, on_question, &lab->hosts[host],
                           &lab->hosts[host].gate, &err),
                  &err);
}

void gate_close(int host)
{
        lab->hosts[host].gate = gate_free(lab->hosts[host].gate);
}

void lab_open(const char *folder, const char *user)
{
        pthread_condattr_t attr;

        lab = calloc(1, sizeof *lab);
        assert_non_null(lab);
        snprintf(lab->folder, sizeof lab->folder, "%s", folder);
        snprintf(lab->user, sizeof lab->user, "%s", user);
        pthread_mutex_init(&lab->lock, NULL);
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&lab->changed, &attr);
        for (int i = 1; i <= HOSTS; i++) {
                struct lab_host *h = &lab->hosts[i];
                struct virt_options o = {h->uri, "wherry.so", on_event, h};
                struct err err = {0};
                int r, tries = 0;

                h->lab = lab;
                h->number = i;
                snprintf(h->uri, sizeof h->uri, "qemu+unix:///system?socket=%s/h%d/run/libvirt/libvirt-sock",
                         folder, i);
                snprintf(h->gate_path, sizeof h->gate_path, "%s/h%d/%s", folder, i,
                         i == 1 ? "run/wherry/gate.sock" : "gate.sock");
                gate_open(i);
                while ((r = virt_new(&o, &h->virt, &err)) < 0 && tries++ < 100)
                        usleep(100000); /* libvirtd has no way to say that it is ready, outside of systemd */
                assert_ok(r, &err);
        }
}

void lab_close(void)
{
        lab_kill_all();
        for (int i = 1; i <= HOSTS; i++) {
                lab->hosts[i].virt = virt_free(lab->hosts[i].virt);
                gate_close(i);
        }
        free(lab);
        lab = NULL;
}

void lab_reset(lab_hook hook, void *arg)
{
        pthread_mutex_lock(&lab->lock);
        lab->n_marks = 0;
        lab->hook = hook;
        lab->hook_arg = arg;
        pthread_mutex_unlock(&lab->lock);
}

void lab_kill_all(void)
{
        for (int i = 1; i <= HOSTS; i++) {
                _cleanup_(freep) struct virt_domain *list = NULL;
                struct err err = {0};
                size_t n = 0;

                assert_ok(virt_list(lab->hosts[i].virt, &list, &n, &err), &err);
                for (size_t k = 0; k < n; k++)
                        assert_ok(virt_kill(lab->hosts[i].virt, list[k].lease.instance, &err), &err);
        }
}

static pid_t libvirtd_pid(int host)
{
        char path[300];
        _cleanup_(freep) char *text = NULL;

        snprintf(path, sizeof path, "%s/h%d/pid", lab->folder, host);
        assert_int_equal(file_read(path, 64, &text, NULL, NULL), 0);
        return (pid_t)atoi(text);
}

void libvirtd_kill(int host)
{
        pid_t pid = libvirtd_pid(host);

        assert_int_equal(kill(pid, SIGKILL), 0);
        for (int i = 0; i < 200 && kill(pid, 0) == 0; i++)
                usleep(10000);
}

size_t marks_now(void)
{
        size_t n;

        pthread_mutex_lock(&lab->lock);
        n = lab->n_marks;
        pthread_mutex_unlock(&lab->lock);
        return n;
}

void libvirtd_start(int host)
{
        size_t from = marks_now();

        assert_int_equal(shell(NULL, 0, "bash %s/h%d/start", lab->folder, host), 0);
        assert_true(mark_wait(from, MARK_EVENT, host, VIRT_CONNECTED, NULL, 15000) >= 0);
}

struct look {
        int host;
        const char *instance;
        pid_t pid;
        int unread; /* what virt_processes() returns */
};

/* In that host's network namespace, as its hostd would be; a thread of its own, since a thread cannot leave
 * again easily. */
static void *look_run(void *arg)
{
        struct look *l = arg;
        _cleanup_(freep) struct virt_domain *list = NULL;
        _cleanup_(closep) int fd = -1;
        char path[64];
        size_t n = 0;

        snprintf(path, sizeof path, "/run/netns/wvt-%d", l->host);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        l->unread = fd < 0 || setns(fd, CLONE_NEWNET) < 0
                        ? -1
                        : virt_processes(lab->hosts[l->host].virt, &list, &n, NULL);
        for (size_t i = 0; i < n; i++)
                if (streq(list[i].lease.instance, l->instance))
                        l->pid = list[i].pid;
        return NULL;
}

static struct look look(int host, const char *instance)
{
        struct look l = {.host = host, .instance = instance};
        pthread_t t;

        assert_int_equal(pthread_create(&t, NULL, look_run, &l), 0);
        pthread_join(t, NULL);
        assert_true(l.unread >= 0);
        return l;
}

pid_t qemu_pid(int host, const char *instance)
{
        return look(host, instance).pid;
}

int qemu_unread(int host)
{
        return look(host, "").unread;
}

void qemu_wait(int host, const char *instance, bool there, int ms)
{
        int64_t deadline = clock_ms() + ms;

        while ((qemu_pid(host, instance) > 0) != there) {
                if (clock_ms() > deadline)
                        fail_msg("host %d: QEMU of %s is %s after %d ms", host, instance,
                                 there ? "not there" : "there", ms);
                usleep(10000);
        }
}
