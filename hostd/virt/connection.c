/* SPDX-License-Identifier: Apache-2.0 */

#include "hostd/virt/virt.h"

#include <errno.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/util.h"
#include "hostd/virt/internal.h"

/*
 * Keepalive: libvirt closes a connection that is silent for interval * (count + 1) = 6 s. Then the keeper
 * tries again, every RETRY_MS, until libvirtd is back.
 */
#define KEEPALIVE_INTERVAL_S 2
#define KEEPALIVE_COUNT 2
#define RETRY_MS 500

void virt_connect_freep(virConnectPtr *c)
{
        if (*c)
                virConnectClose(*c);
}

void virt_domain_freep(virDomainPtr *d)
{
        if (*d)
                virDomainFree(*d);
}

static int error_code(const virError *e)
{
        /* Our lock driver's no. Where it was given in QEMU's process before its exec, libvirt quotes that
         * process's log. */
        if (e->domain == VIR_FROM_LOCKING || (e->message && strstr(e->message, "wherry: ")))
                return -EACCES;
        switch (e->code) {
        case VIR_ERR_NO_DOMAIN:
        case VIR_ERR_NO_SECRET:
                return -ENOENT;
        case VIR_ERR_DOM_EXIST:
                return -EEXIST;
        case VIR_ERR_OPERATION_TIMEOUT:
                return -ETIMEDOUT;
        case VIR_ERR_OPERATION_ABORTED:
                return -ECANCELED;
        case VIR_ERR_OPERATION_INVALID:
                return -EBUSY;
        case VIR_ERR_XML_ERROR:
        case VIR_ERR_XML_DETAIL:
        case VIR_ERR_CONFIG_UNSUPPORTED:
        case VIR_ERR_INVALID_ARG:
                return -EINVAL;
        case VIR_ERR_NO_CONNECT:
        case VIR_ERR_SYSTEM_ERROR:
        case VIR_ERR_RPC:
                return e->domain == VIR_FROM_RPC || e->domain == VIR_FROM_REMOTE ? -ENOTCONN : -EIO;
        case VIR_ERR_INTERNAL_ERROR:
                return e->domain == VIR_FROM_RPC ? -ENOTCONN : -EIO; /* "client socket is closed" */
        default:
                return -EIO;
        }
}

int virt_error(struct err *err, const char *fmt, ...)
{
        const virError *e = virGetLastError();
        char what[256];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(what, sizeof what, fmt, ap);
        va_end(ap);
        if (!e)
                return err_set(err, -EIO, "%s: libvirt gives no reason", what);
        return err_set(err, error_code(e), "%s: %s", what,
                       e->message ? e->message : "libvirt gives no reason");
}

static void error_silent(void *arg, virErrorPtr e)
{
}

static void *event_loop(void *arg)
{
        for (;;) {
                if (virEventRunDefaultImpl() < 0)
                        log_warn("libvirt's event loop: %s", virGetLastErrorMessage());
        }
        return NULL;
}

/* libvirt has one event loop a process, for its lifetime; so has its thread. */
static void libvirt_once(void)
{
        pthread_t thread;

        virSetErrorFunc(NULL, error_silent);
        if (virInitialize() < 0 || virEventRegisterDefaultImpl() < 0 ||
            pthread_create(&thread, NULL, event_loop, NULL) != 0) {
                log_error("libvirt cannot be initialised: %s", virGetLastErrorMessage());
                return;
        }
        pthread_detach(thread);
}

/* On the event thread. */
static void closed(virConnectPtr conn, int reason, void *arg)
{
        struct virt *v = arg;

        pthread_mutex_lock(&v->lock);
        if (v->conn == conn) {
                v->lost = true;
                pthread_cond_broadcast(&v->changed);
        }
        pthread_mutex_unlock(&v->lock);
}

static void closed_free(void *arg)
{
        virt_unref(arg);
}

static void virt_ref(struct virt *v)
{
        pthread_mutex_lock(&v->lock);
        v->refs++;
        pthread_mutex_unlock(&v->lock);
}

int virt_conn_own(struct virt *v, virConnectPtr *ret, struct err *err)
{
        _cleanup_(virt_connect_freep) virConnectPtr conn = virConnectOpen(v->uri);
        int r;

        if (!conn)
                return virt_error(err, "connect to libvirt at %s", v->uri);
        r = virt_daemon_check(v->uri, v->driver_name, err);
        if (r < 0)
                return r;
        if (virConnectSetKeepAlive(conn, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT) < 0)
                return virt_error(err, "libvirt at %s: keepalive", v->uri);
        *ret = take(conn);
        return r;
}

static int virt_connect(struct virt *v, struct err *err)
{
        _cleanup_(virt_connect_freep) virConnectPtr conn = NULL;
        int r = virt_conn_own(v, &conn, err);

        if (r < 0)
                return r;
        if (r > 0)
                log_warn("libvirtd (process %d) still has the lock driver of before the upgrade; restart "
                         "it, which "
                         "no guest notices",
                         r);
        pthread_mutex_lock(&v->lock);
        v->conn = conn;
        v->lost = false;
        v->generation++;
        pthread_mutex_unlock(&v->lock);
        virt_ref(v);
        if (virConnectRegisterCloseCallback(conn, closed, v, closed_free) < 0) {
                virt_unref(v);
                r = virt_error(err, "libvirt at %s: close callback", v->uri);
        } else {
                r = virt_events_register(v, conn, err);
        }
        if (r < 0 || virConnectIsAlive(conn) != 1) {
                virConnectUnregisterCloseCallback(conn, closed);
                pthread_mutex_lock(&v->lock);
                v->conn = NULL;
                pthread_mutex_unlock(&v->lock);
                return r < 0 ? r : err_set(err, -ENOTCONN, "libvirt at %s went away", v->uri);
        }
        conn = NULL; /* v's now */
        virt_post(v, VIRT_CONNECTED, NULL, NULL);
        return 0;
}

static void virt_disconnect(struct virt *v)
{
        virConnectPtr conn;

        pthread_mutex_lock(&v->lock);
        conn = take(v->conn);
        v->lost = false;
        pthread_mutex_unlock(&v->lock);
        if (!conn)
                return;
        virt_events_deregister(v, conn);
        virConnectUnregisterCloseCallback(conn, closed);
        virConnectClose(conn);
        virt_post(v, VIRT_DISCONNECTED, NULL, NULL);
}

/* Waits for a loss (or, with ms, for that time); true: go on, false: stop. */
static bool keeper_wait(struct virt *v, int ms)
{
        struct timespec until;
        bool go_on;

        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += ms / 1000;
        until.tv_nsec += ms % 1000 * 1000000L;
        if (until.tv_nsec >= 1000000000L) {
                until.tv_sec++;
                until.tv_nsec -= 1000000000L;
        }
        pthread_mutex_lock(&v->lock);
        while (!v->stop && !v->lost) {
                if (!ms)
                        pthread_cond_wait(&v->changed, &v->lock);
                else if (pthread_cond_timedwait(&v->changed, &v->lock, &until) == ETIMEDOUT)
                        break;
        }
        go_on = !v->stop;
        pthread_mutex_unlock(&v->lock);
        return go_on;
}

static void *keeper(void *arg)
{
        struct virt *v = arg;
        char last[sizeof(((struct err *)0)->text)] = "";

        while (keeper_wait(v, 0)) {
                log_warn("lost the connection to libvirt at %s", v->uri);
                virt_disconnect(v);
                for (;;) {
                        struct err err = {0};

                        if (virt_connect(v, &err) == 0) {
                                log_info("connected to libvirt at %s again", v->uri);
                                last[0] = '\0';
                                break;
                        }
                        /* Once for each reason, not twice a second. */
                        if (!streq(last, err_text(&err))) {
                                log_warn("%s", err_text(&err));
                                snprintf(last, sizeof last, "%s", err_text(&err));
                        }
                        if (!keeper_wait(v, RETRY_MS))
                                return NULL;
                }
        }
        return NULL;
}

int virt_new(const struct virt_options *options, struct virt **ret, struct err *err)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;
        struct virt *v = calloc(1, sizeof *v);
        pthread_condattr_t attr;
        int r;

        if (!v)
                return err_set(err, -ENOMEM, "libvirt: out of memory");
        pthread_once(&once, libvirt_once);
        v->refs = 1;
        v->event = options->event;
        v->arg = options->arg;
        pthread_mutex_init(&v->lock, NULL);
        pthread_mutex_init(&v->event_lock, NULL);
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&v->changed, &attr);
        pthread_condattr_destroy(&attr);
        v->cmdlines = cmdlines_new();
        v->uri = strdup(options->uri);
        v->driver_name = strdup(options->driver_name);
        r = v->cmdlines && v->uri && v->driver_name ? virt_connect(v, err)
                                                    : err_set(err, -ENOMEM, "libvirt: out of memory");
        if (r == 0) {
                r = -pthread_create(&v->keeper, NULL, keeper, v);
                if (r < 0)
                        err_set(err, r, "libvirt: %s", strerror(-r));
        }
        if (r < 0) {
                virt_disconnect(v);
                virt_unref(v);
                return r;
        }
        *ret = v;
        return 0;
}

struct virt *virt_free(struct virt *v)
{
        if (!v)
                return NULL;
        pthread_mutex_lock(&v->event_lock);
        v->event = NULL;
        pthread_mutex_unlock(&v->event_lock);
        pthread_mutex_lock(&v->lock);
        v->stop = true;
        pthread_cond_broadcast(&v->changed);
        pthread_mutex_unlock(&v->lock);
        pthread_join(v->keeper, NULL);
        virt_disconnect(v);
        return virt_unref(v);
}

struct virt *virt_unref(struct virt *v)
{
        unsigned left;

        pthread_mutex_lock(&v->lock);
        left = --v->refs;
        pthread_mutex_unlock(&v->lock);
        if (left > 0)
                return NULL;
        pthread_cond_destroy(&v->changed);
        pthread_mutex_destroy(&v->event_lock);
        pthread_mutex_destroy(&v->lock);
        cmdlines_free(v->cmdlines);
        free(v->uri);
        free(v->driver_name);
        free(v);
        return NULL;
}

int virt_conn(struct virt *v, virConnectPtr *ret, struct err *err)
{
        int r = 0;

        pthread_mutex_lock(&v->lock);
        if (!v->conn || v->lost || virConnectRef(v->conn) < 0)
                r = err_set(err, -ENOTCONN, "no connection to libvirt at %s", v->uri);
        else
                *ret = v->conn;
        pthread_mutex_unlock(&v->lock);
        return r;
}

static int lookup(virConnectPtr conn, const char *instance, virDomainPtr *ret, struct err *err)
{
        *ret = virDomainLookupByUUIDString(conn, instance);
        return *ret ? 0 : virt_error(err, "instance %s", instance);
}

int virt_lookup(struct virt *v, const char *instance, virDomainPtr *ret, struct err *err)
{
        _cleanup_(virt_connect_freep) virConnectPtr conn = NULL;
        int r = virt_conn(v, &conn, err);

        return r < 0 ? r : lookup(conn, instance, ret, err);
}

int virt_lookup_own(struct virt *v, const char *instance, virDomainPtr *ret, struct err *err)
{
        _cleanup_(virt_connect_freep) virConnectPtr conn = NULL;
        int r = virt_conn_own(v, &conn, err);

        return r < 0 ? r : lookup(conn, instance, ret, err); /* the domain keeps the connection */
}
