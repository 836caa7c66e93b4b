/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <libvirt/libvirt.h>
#include <pthread.h>

#include "hostd/virt/virt.h"

/* What the files virt*.c share: the connection, and how libvirt's errors become ours. */

#define VIRT_CALLBACKS_MAX 4

/* A migration that waits for the figures of its job, which arrive as an event. */
struct virt_waiter {
        struct virt_waiter *next;
        const char *instance;
        struct virt_progress progress;
        bool arrived;
};

struct virt {
        /* fixed after virt_new() */
        char *uri, *driver_name;
        pthread_t keeper; /* connects again */
        struct cmdlines *cmdlines;

        pthread_mutex_t lock; /* guards the following */
        pthread_cond_t changed;
        virConnectPtr conn; /* NULL while there is none */
        unsigned generation;
        bool lost, stop;
        unsigned refs; /* the owner's, and one for each callback that libvirt may still call */
        struct virt_waiter *waiters;

        /* guards event and arg: held while the callback runs, so that after virt_free() none does. libvirt's
         * own locks are never taken under it. */
        pthread_mutex_t event_lock;
        virt_event_cb event;
        void *arg;

        /* only the thread that opens and closes connections: virt_new(), then the keeper, then virt_free()
         */
        int callbacks[VIRT_CALLBACKS_MAX], qemu_callbacks[VIRT_CALLBACKS_MAX];
};

void virt_connect_freep(virConnectPtr *c);
void virt_domain_freep(virDomainPtr *d);

/* The connection with a reference of its own; -ENOTCONN while there is none. Any thread. */
int virt_conn(struct virt *v, virConnectPtr *ret, struct err *err);
/* The domain whose UUID is the instance's; -ENOENT. */
int virt_lookup(struct virt *v, const char *instance, virDomainPtr *ret, struct err *err);
/* The same over a connection of its own, for a call that may take long. libvirtd works on five calls of a client
 * at the same time, and hears nothing else from it meanwhile: it would take hostd for dead after 30 s.
 * virt_conn_own() returns what virt_daemon_check() says. */
int virt_conn_own(struct virt *v, virConnectPtr *ret, struct err *err);
int virt_lookup_own(struct virt *v, const char *instance, virDomainPtr *ret, struct err *err);
/* This thread's last libvirt error as a -errno, with "what: text" in err. Call at once after the failure. */
int virt_error(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Passes one event on. Any thread. */
void virt_post(struct virt *v, enum virt_event_kind kind, const char *instance, const char *detail);

/* events.c: registers and removes the callbacks of a new connection. */
int virt_events_register(struct virt *v, virConnectPtr conn, struct err *err);
void virt_events_deregister(struct virt *v, virConnectPtr conn);
struct virt *virt_unref(struct virt *v);

/* cmdline.c: which guest of ours a process is. 1: the instance in ret; 0: another process; -ESRCH: it has ended
 * or is ending; -ETIMEDOUT: it cannot be told, as the process does not let its memory be read. Any thread. */
struct cmdlines *cmdlines_new(void);
struct cmdlines *cmdlines_free(struct cmdlines *c);
int cmdline_instance(struct cmdlines *c, pid_t pid, char ret[UUID_LEN + 1]);

/* daemon.c: 0 where the libvirtd behind uri has the lock driver loaded, its PID where an upgrade has replaced the
 * driver's file since; else -ENOEXEC and what to configure. */
int virt_daemon_check(const char *uri, const char *driver_name, struct err *err);

/* migrate.c */
/* See there: `wanted` with the machine type and CPU that the running guest has. */
int virt_destination_xml(const char *live, const char *wanted, char **ret, struct err *err);
void virt_progress_from_params(const virTypedParameter *params, int n, struct virt_progress *ret);

/* The text between two marks, from libvirt's own XML: "<key>" and "</key>". *ret is the caller's; NULL where
 * there is none. */
char *virt_xml_between(const char *xml, const char *from, const char *to);
/* Our lease in a domain's XML; -ENOENT: a guest that is not ours. */
int virt_xml_lease(const char *xml, struct domain_lease *ret, struct err *err);
