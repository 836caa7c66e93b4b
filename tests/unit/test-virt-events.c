/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <libvirt/libvirt-qemu.h>

#include "hostd/virt/internal.h"

/* What libvirt and QEMU tell, as hostd hears it; and what a migration asks of libvirt. The calls are made up. */
#define A "aaaaaaaa-1111-4111-8111-111111111111"

static struct virt v = {.lock = PTHREAD_MUTEX_INITIALIZER,
                        .changed = PTHREAD_COND_INITIALIZER,
                        .event_lock = PTHREAD_MUTEX_INITIALIZER,
                        .refs = 1};
static virConnectDomainEventCallback lifecycle;
static virConnectDomainQemuMonitorEventCallback migration, io_error, powerdown;
static char heard[128];
static unsigned flags; /* of the last migration */
static int refused;    /* its answer */

int __wrap_virConnectDomainEventRegisterAny(virConnectPtr conn, virDomainPtr dom, int id,
                                            virConnectDomainEventGenericCallback call, void *arg,
                                            virFreeCallback done);
int __wrap_virConnectDomainEventRegisterAny(virConnectPtr conn, virDomainPtr dom, int id,
                                            virConnectDomainEventGenericCallback call, void *arg,
                                            virFreeCallback done)
{
        assert_ptr_equal(arg, &v);
        if (id == VIR_DOMAIN_EVENT_ID_LIFECYCLE)
                lifecycle = (virConnectDomainEventCallback)(void (*)(void))call;
        return id;
}

int __wrap_virConnectDomainQemuMonitorEventRegister(virConnectPtr conn, virDomainPtr dom, const char *event,
                                                    virConnectDomainQemuMonitorEventCallback call, void *arg,
                                                    virFreeCallback done, unsigned options);
int __wrap_virConnectDomainQemuMonitorEventRegister(virConnectPtr conn, virDomainPtr dom, const char *event,
                                                    virConnectDomainQemuMonitorEventCallback call, void *arg,
                                                    virFreeCallback done, unsigned options)
{
        if (strcmp(event, "MIGRATION") == 0)
                migration = call;
        else if (strcmp(event, "BLOCK_IO_ERROR") == 0)
                io_error = call;
        else if (strcmp(event, "POWERDOWN") == 0)
                powerdown = call;
        return 1;
}

int __wrap_virDomainGetUUIDString(virDomainPtr dom, char *buf);
int __wrap_virDomainGetUUIDString(virDomainPtr dom, char *buf)
{
        strcpy(buf, A);
        return 0;
}

int __wrap_virt_lookup_own(struct virt *unused, const char *instance, virDomainPtr *ret, struct err *err);
int __wrap_virt_lookup_own(struct virt *unused, const char *instance, virDomainPtr *ret, struct err *err)
{
        return 0;
}

#define LIVE "<domain><type machine='pc-q35-7.2'/><cpu mode='maximum'/><clock offset='utc'/>"
char *__wrap_virDomainGetXMLDesc(virDomainPtr dom, unsigned options);
char *__wrap_virDomainGetXMLDesc(virDomainPtr dom, unsigned options)
{
        assert_int_equal(options, VIR_DOMAIN_XML_MIGRATABLE);
        return strdup(LIVE);
}

int __wrap_virDomainMigrateToURI3(virDomainPtr dom, const char *uri, virTypedParameterPtr params, unsigned n,
                                  unsigned options);
int __wrap_virDomainMigrateToURI3(virDomainPtr dom, const char *uri, virTypedParameterPtr params, unsigned n,
                                  unsigned options)
{
        assert_string_equal(uri, "qemu+tls://h3/system");
        assert_int_equal(n, 2);
        flags = options;
        v.waiters->arrived = true; /* the event with its figures came meanwhile */
        v.waiters->progress.downtime_ms = 30;
        return refused;
}

static void on_event(void *arg, enum virt_event_kind kind, const char *instance, const char *detail)
{
        assert_string_equal(instance, A);
        snprintf(heard, sizeof(heard), "%s %s", virt_event_name(kind), detail ? detail : "");
}

static int begin(void **state)
{
        if (virInitialize() < 0)
                return -1;
        v.event = on_event;
        heard[0] = '\0';
        refused = 0;
        v.uri = (char *)"test";
        return virt_events_register(&v, NULL, NULL);
}

static const char *tell(int event, int detail)
{
        heard[0] = '\0';
        lifecycle(NULL, NULL, event, detail, &v);
        return heard;
}

static void the_life_of_a_guest_is_told_in_libvirts_words(void **state)
{
        assert_string_equal(tell(VIR_DOMAIN_EVENT_STARTED, VIR_DOMAIN_EVENT_STARTED_BOOTED),
                            "started booted");
        assert_string_equal(tell(VIR_DOMAIN_EVENT_STARTED, VIR_DOMAIN_EVENT_STARTED_MIGRATED),
                            "started migrated");
        assert_string_equal(tell(VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_UNPAUSED),
                            "resumed unpaused");
        assert_string_equal(tell(VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_IOERROR),
                            "suspended ioerror");
        assert_string_equal(tell(VIR_DOMAIN_EVENT_SHUTDOWN, VIR_DOMAIN_EVENT_SHUTDOWN_GUEST),
                            "shutdown guest");
        assert_string_equal(tell(VIR_DOMAIN_EVENT_SHUTDOWN, VIR_DOMAIN_EVENT_SHUTDOWN_HOST),
                            "shutdown host");
        assert_string_equal(tell(VIR_DOMAIN_EVENT_STOPPED, VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN),
                            "stopped shutdown");
        assert_string_equal(tell(VIR_DOMAIN_EVENT_STOPPED, VIR_DOMAIN_EVENT_STOPPED_DESTROYED),
                            "stopped destroyed");
        assert_string_equal(tell(VIR_DOMAIN_EVENT_STOPPED, VIR_DOMAIN_EVENT_STOPPED_CRASHED),
                            "stopped crashed");
        assert_string_equal(tell(VIR_DOMAIN_EVENT_STOPPED, VIR_DOMAIN_EVENT_STOPPED_MIGRATED),
                            "stopped migrated");
        assert_string_equal(tell(VIR_DOMAIN_EVENT_STOPPED, VIR_DOMAIN_EVENT_STOPPED_FAILED),
                            "stopped failed");
        assert_string_equal(tell(VIR_DOMAIN_EVENT_STOPPED, 99), "stopped unknown");
        assert_string_equal(tell(VIR_DOMAIN_EVENT_CRASHED, VIR_DOMAIN_EVENT_CRASHED_PANICKED),
                            "stopped panicked");
        assert_string_equal(tell(VIR_DOMAIN_EVENT_DEFINED, 0), "");
        powerdown(NULL, NULL, "POWERDOWN", 0, 0, NULL, &v);
        assert_string_equal(heard, "powerdown ");
}

static const char *stream(const char *details)
{
        heard[0] = '\0';
        migration(NULL, NULL, "MIGRATION", 0, 0, details, &v);
        return heard;
}

static void a_move_has_ended_whichever_way(void **state)
{
        assert_string_equal(stream("{\"status\":\"completed\"}"), "job-ended completed");
        assert_string_equal(stream("{\"status\":\"failed\"}"), "job-ended failed");
        assert_string_equal(stream("{\"status\":\"cancelled\"}"), "job-ended cancelled");
        assert_string_equal(stream("{\"status\":\"active\"}"), "");
        assert_string_equal(stream("{"), "");
        assert_string_equal(stream(NULL), "");
}

static const char *disk(const char *details)
{
        heard[0] = '\0';
        io_error(NULL, NULL, "BLOCK_IO_ERROR", 0, 0, details, &v);
        return heard;
}

/* Only an error that has stopped the guest is one; its cause is told by a name that does not change. */
static void a_disk_error_has_a_name(void **state)
{
        static const struct {
                int code;
                const char *name;
        } causes[] = {{EFAULT, "efault"},       {EACCES, "eacces"}, {EPERM, "eperm"},   {EIO, "eio"},
                      {ESHUTDOWN, "eshutdown"}, {ENOSPC, "enospc"}, {ESTALE, "estale"}, {EROFS, "erofs"},
                      {ETIMEDOUT, "etimedout"}, {EBADF, "other"}};
        char details[200], expected[64];

        for (size_t i = 0; i < ARRAY_SIZE(causes); i++) {
                snprintf(details, sizeof(details), "{\"action\":\"stop\",\"reason\":\"%s\"}",
                         strerrordesc_np(causes[i].code));
                snprintf(expected, sizeof(expected), "io-error %s", causes[i].name);
                assert_string_equal(disk(details), expected);
        }
        assert_string_equal(disk("{\"action\":\"stop\",\"nospace\":true,\"reason\":\"what\"}"),
                            "io-error enospc");
        assert_string_equal(disk("{\"action\":\"report\",\"reason\":\"what\"}"), "");
        assert_string_equal(disk("{\"reason\":\"what\"}"), "");
}

static int migrate(const char *disks, bool tls, struct virt_progress *ret)
{
        char xml[300];
        struct virt_migration m = {.instance = A,
                                   .destination = "qemu+tls://h3/system",
                                   .migrate_uri = "tcp://10.0.0.3",
                                   .xml = xml,
                                   .tls = tls};
        struct err err = {0};

        snprintf(xml, sizeof(xml), "<domain><type machine='q35'/><clock offset='utc'/>%s</domain>", disks);
        return virt_migrate(&v, &m, ret, &err);
}

static void a_move_is_live_and_ends_with_a_disk_error(void **state)
{
        const unsigned always = VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER | VIR_MIGRATE_ABORT_ON_ERROR |
                                VIR_MIGRATE_AUTO_CONVERGE;
        struct virt_progress p;

        assert_int_equal(migrate("<disk type='network' device='disk'/>", false, &p), 0);
        assert_int_equal(flags, always);
        assert_true(p.known);
        assert_int_equal(p.downtime_ms, 30);
        assert_null(v.waiters);
        assert_int_equal(migrate("<disk type='network' device='disk'/>", true, &p), 0);
        assert_int_equal(flags, always | VIR_MIGRATE_TLS);
        assert_int_equal(migrate("<disk type='file' device='disk'/>", false, &p), 0);
        assert_int_equal(flags, always | VIR_MIGRATE_UNSAFE);
        refused = -1;
        assert_true(migrate("", false, &p) < 0);
        assert_null(v.waiters);
}

int main(void)
{
#define test(f) cmocka_unit_test_setup(f, begin)
        const struct CMUnitTest tests[] = {
            test(the_life_of_a_guest_is_told_in_libvirts_words),
            test(a_move_has_ended_whichever_way),
            test(a_disk_error_has_a_name),
            test(a_move_is_live_and_ends_with_a_disk_error),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
