/* SPDX-License-Identifier: Apache-2.0 */

#include <errno.h>
#include <jansson.h>
#include <libvirt/libvirt-qemu.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/util.h"
#include "hostd/virt/internal.h"

/*
 * libvirt's events, copied and posted. The end of a migration job is taken from QEMU's own MIGRATION event,
 * which libvirt passes on: libvirt's job-completed event tells of success only, and docs/ownership.md (migration, 5)
 * needs the failures.
 */

static const char *const kind_names[VIRT_EVENT_KIND_MAX] = {
    [VIRT_CONNECTED] = "connected", [VIRT_DISCONNECTED] = "disconnected", [VIRT_STARTED] = "started",
    [VIRT_RESUMED] = "resumed",     [VIRT_SUSPENDED] = "suspended",       [VIRT_SHUTDOWN] = "shutdown",
    [VIRT_STOPPED] = "stopped",     [VIRT_IO_ERROR] = "io-error",         [VIRT_POWERDOWN] = "powerdown",
    [VIRT_JOB_ENDED] = "job-ended",
};

const char *virt_event_name(enum virt_event_kind k)
{
        return (unsigned)k < VIRT_EVENT_KIND_MAX ? kind_names[k] : "unknown";
}

void virt_post(struct virt *v, enum virt_event_kind kind, const char *instance, const char *detail)
{
        pthread_mutex_lock(&v->event_lock);
        if (v->event)
                v->event(v->arg, kind, instance, detail);
        pthread_mutex_unlock(&v->event_lock);
}

/* The details are numbers in libvirt; these are the names of its own enums. */
static const char *detail_name(int event, int detail)
{
        static const char *const started[] = {"booted", "migrated", "restored", "from-snapshot", "wakeup"};
        static const char *const resumed[] = {"unpaused", "migrated", "from-snapshot", "postcopy",
                                              "postcopy-failed"};
        static const char *const suspended[] = {"paused",    "migrated", "ioerror",
                                                "watchdog",  "restored", "from-snapshot",
                                                "api-error", "postcopy", "postcopy-failed"};
        static const char *const shutdown[] = {"finished", "guest", "host"};
        static const char *const stopped[] = {"shutdown", "destroyed", "crashed",      "migrated",
                                              "saved",    "failed",    "from-snapshot"};
        const char *const *names = NULL;
        size_t n = 0;

        switch (event) {
        case VIR_DOMAIN_EVENT_STARTED:
                names = started, n = ARRAY_SIZE(started);
                break;
        case VIR_DOMAIN_EVENT_RESUMED:
                names = resumed, n = ARRAY_SIZE(resumed);
                break;
        case VIR_DOMAIN_EVENT_SUSPENDED:
                names = suspended, n = ARRAY_SIZE(suspended);
                break;
        case VIR_DOMAIN_EVENT_SHUTDOWN:
                names = shutdown, n = ARRAY_SIZE(shutdown);
                break;
        case VIR_DOMAIN_EVENT_STOPPED:
                names = stopped, n = ARRAY_SIZE(stopped);
                break;
        }
        return detail >= 0 && (size_t)detail < n ? names[detail] : "unknown";
}

static int on_lifecycle(virConnectPtr conn, virDomainPtr dom, int event, int detail, void *arg)
{
        char uuid[VIR_UUID_STRING_BUFLEN];
        enum virt_event_kind kind;

        switch (event) {
        case VIR_DOMAIN_EVENT_STARTED:
                kind = VIRT_STARTED;
                break;
        case VIR_DOMAIN_EVENT_RESUMED:
                kind = VIRT_RESUMED;
                break;
        case VIR_DOMAIN_EVENT_SUSPENDED:
                kind = VIRT_SUSPENDED;
                break;
        case VIR_DOMAIN_EVENT_SHUTDOWN:
                kind = VIRT_SHUTDOWN;
                break;
        case VIR_DOMAIN_EVENT_STOPPED:
        case VIR_DOMAIN_EVENT_CRASHED:
                kind = VIRT_STOPPED;
                break;
        default:
                return 0;
        }
        if (virDomainGetUUIDString(dom, uuid) == 0)
                virt_post(arg, kind, uuid,
                          event == VIR_DOMAIN_EVENT_CRASHED ? "panicked" : detail_name(event, detail));
        return 0;
}

static void on_job_completed(virConnectPtr conn, virDomainPtr dom, virTypedParameterPtr params, int n,
                             void *arg)
{
        struct virt *v = arg;
        char uuid[VIR_UUID_STRING_BUFLEN];

        if (virDomainGetUUIDString(dom, uuid) < 0)
                return;
        pthread_mutex_lock(&v->lock);
        for (struct virt_waiter *w = v->waiters; w; w = w->next) {
                if (!streq(w->instance, uuid))
                        continue;
                virt_progress_from_params(params, n, &w->progress);
                w->arrived = true;
                pthread_cond_broadcast(&v->changed);
        }
        pthread_mutex_unlock(&v->lock);
}

static void on_qemu_migration(virConnectPtr conn, virDomainPtr dom, const char *event, long long seconds,
                              unsigned int micros, const char *details, void *arg)
{
        _cleanup_(json_decrefpp) json_t *j = NULL;
        char uuid[VIR_UUID_STRING_BUFLEN];
        const char *status;

        if (!details || json_parse(details, "QEMU's MIGRATION event", &j, NULL) < 0 ||
            virDomainGetUUIDString(dom, uuid) < 0)
                return;
        status = json_get_str(j, "status", "");
        if (streq(status, "completed") || streq(status, "failed") || streq(status, "cancelled"))
                virt_post(arg, VIRT_JOB_ENDED, uuid, status);
}

/* QEMU gives the cause as the C library's text only. libnfs turns every WRITE that the server refuses, for
 * whatever cause, into EFAULT: on NFS "efault" is what a fenced guest stops with, and one that met a full
 * disk as well. */
static const char *cause_name(const char *text, bool nospace)
{
        static const struct {
                int code;
                const char *name;
        } causes[] = {
            {EFAULT, "efault"},       {EACCES, "eacces"}, {EPERM, "eperm"},
            {ESHUTDOWN, "eshutdown"}, {ENOSPC, "enospc"}, {EIO, "eio"},
            {ESTALE, "estale"},       {EROFS, "erofs"},   {ETIMEDOUT, "etimedout"},
        };

        if (nospace)
                return "enospc";
        for (size_t i = 0; i < ARRAY_SIZE(causes); i++) {
                const char *known = strerrordesc_np(causes[i].code); /* untranslated, as libvirt runs QEMU */

                if (known && streq(text, known))
                        return causes[i].name;
        }
        return "other";
}

static void on_qemu_io_error(virConnectPtr conn, virDomainPtr dom, const char *event, long long seconds,
                             unsigned int micros, const char *details, void *arg)
{
        _cleanup_(json_decrefpp) json_t *j = NULL;
        char uuid[VIR_UUID_STRING_BUFLEN];

        if (!details || json_parse(details, "QEMU's BLOCK_IO_ERROR event", &j, NULL) < 0 ||
            virDomainGetUUIDString(dom, uuid) < 0 || !streq(json_get_str(j, "action", ""), "stop"))
                return;
        virt_post(arg, VIRT_IO_ERROR, uuid,
                  cause_name(json_get_str(j, "reason", ""), json_get_bool(j, "nospace", false)));
}

/* QEMU reports SHUTDOWN alike whether the guest had the idea or was asked; only this event tells them apart.
 */
static void on_qemu_powerdown(virConnectPtr conn, virDomainPtr dom, const char *event, long long seconds,
                              unsigned int micros, const char *details, void *arg)
{
        char uuid[VIR_UUID_STRING_BUFLEN];

        if (virDomainGetUUIDString(dom, uuid) == 0)
                virt_post(arg, VIRT_POWERDOWN, uuid, NULL);
}

static void callback_free(void *arg)
{
        virt_unref(arg);
}

static void callback_ref(struct virt *v)
{
        pthread_mutex_lock(&v->lock);
        v->refs++;
        pthread_mutex_unlock(&v->lock);
}

int virt_events_register(struct virt *v, virConnectPtr conn, struct err *err)
{
        static const struct {
                int id;
                virConnectDomainEventGenericCallback call;
        } events[] = {
            {VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle)},
            {VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, VIR_DOMAIN_EVENT_CALLBACK(on_job_completed)},
        };
        static const struct {
                const char *name;
                virConnectDomainQemuMonitorEventCallback call;
        } qemu_events[] = {{"MIGRATION", on_qemu_migration},
                           {"BLOCK_IO_ERROR", on_qemu_io_error},
                           {"POWERDOWN", on_qemu_powerdown}};
        int r = 0;

        for (size_t i = 0; i < VIRT_CALLBACKS_MAX; i++)
                v->callbacks[i] = v->qemu_callbacks[i] = -1;
        for (size_t i = 0; i < ARRAY_SIZE(events) && r == 0; i++) {
                callback_ref(v);
                v->callbacks[i] = virConnectDomainEventRegisterAny(conn, NULL, events[i].id, events[i].call,
                                                                   v, callback_free);
                if (v->callbacks[i] < 0)
                        r = virt_error(err, "libvirt at %s: register for events", v->uri);
        }
        for (size_t i = 0; i < ARRAY_SIZE(qemu_events) && r == 0; i++) {
                callback_ref(v);
                v->qemu_callbacks[i] = virConnectDomainQemuMonitorEventRegister(
                    conn, NULL, qemu_events[i].name, qemu_events[i].call, v, callback_free, 0);
                if (v->qemu_callbacks[i] < 0)
                        r = virt_error(err, "libvirt at %s: register for QEMU's event %s", v->uri,
                                       qemu_events[i].name);
        }
        if (r < 0) {
                virt_unref(v); /* of the callback that was not taken */
                virt_events_deregister(v, conn);
        }
        return r;
}

void virt_events_deregister(struct virt *v, virConnectPtr conn)
{
        for (size_t i = 0; i < VIRT_CALLBACKS_MAX; i++) {
                if (v->callbacks[i] >= 0)
                        virConnectDomainEventDeregisterAny(conn, v->callbacks[i]);
                if (v->qemu_callbacks[i] >= 0)
                        virConnectDomainQemuMonitorEventDeregister(conn, v->qemu_callbacks[i]);
                v->callbacks[i] = v->qemu_callbacks[i] = -1;
        }
}
