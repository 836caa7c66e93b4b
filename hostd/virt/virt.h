/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"
#include "hostd/domain/domain.h"

/*
 * One libvirtd: connection with keepalive, its event thread, reconnection. Calls block and belong on
 * workers; any thread. Events arrive on the event thread with copied values: the callback only posts them
 * somewhere.
 */
struct virt;

enum virt_event_kind {
        VIRT_CONNECTED,    /* connected (again): everything may have changed, list again */
        VIRT_DISCONNECTED, /* guests are unknown from here on */
        VIRT_STARTED,
        VIRT_RESUMED,   /* vCPUs run; detail: libvirt's reason ("unpaused", "migrated", ...) */
        VIRT_SUSPENDED, /* vCPUs stopped; detail: reason ("migrated", "ioerror", ...) */
        VIRT_SHUTDOWN,  /* the guest powered itself off (or was asked to and did) */
        VIRT_STOPPED, /* any other end; detail: "panicked", "crashed", "destroyed", "migrated", "failed", ...
                       */
        VIRT_IO_ERROR,  /* a disk stopped the guest; detail: libvirt's reason ("eacces"?, "enospc", "other":
                           as it says) */
        VIRT_POWERDOWN, /* somebody on this host pressed the guest's power button, we or another */
        VIRT_JOB_ENDED, /* a migration job ended; detail: "completed", "failed", "cancelled" */
        VIRT_EVENT_KIND_MAX
};
const char *virt_event_name(enum virt_event_kind k);
typedef void (*virt_event_cb)(void *arg, enum virt_event_kind kind, const char *instance,
                              const char *detail);

struct virt_options {
        const char *uri;         /* "qemu:///system" */
        const char *driver_name; /* "wherry.so": libvirtd must have it mapped, else virt_new fails and says
                                    what to configure */
        virt_event_cb event;
        void *arg;
};
int virt_new(const struct virt_options *options, struct virt **ret, struct err *err);
struct virt *virt_free(struct virt *v);

struct virt_host {
        unsigned cpus;
        uint64_t memory; /* bytes */
        char cpu_model[64];
        char libvirt[16], qemu[16];
        bool kvm;                    /* domain type kvm is offered */
        uint32_t qemu_uid, qemu_gid; /* whom it runs QEMU as */
};
int virt_host(struct virt *v, struct virt_host *ret, struct err *err);

struct virt_domain {
        struct domain_lease lease; /* parsed from its XML; only domains with our lease element are listed */
        pid_t pid;                 /* of its QEMU, 0 unknown */
        bool running;              /* else paused (or ending) */
        bool job;                  /* a migration job is in progress */
        char reason[32];           /* of the state, libvirt's word */
};
int virt_list(struct virt *v, struct virt_domain **ret, size_t *ret_n,
              struct err *err); /* *ret freed by the caller */

/* The one domain of that instance; -ENOENT: libvirt knows none. */
int virt_find(struct virt *v, const char *instance, struct virt_domain *ret, struct err *err);

/* Did libvirt's answer get lost? Then what was asked for may be done, be done later, or never. */
bool virt_unanswered(int r);

/* Transient, never autostarted. Returns when the vCPUs run (the gate has said yes). */
int virt_start(struct virt *v, const char *xml, struct err *err);
int virt_shutdown(struct virt *v, const char *instance, struct err *err); /* asks the guest (ACPI) */
int virt_kill(struct virt *v, const char *instance, struct err *err);     /* 0 also when it is not there */
int virt_resume(struct virt *v, const char *instance, struct err *err);
/* The live XML (for destination XML and for saving). Caller frees. */
int virt_xml(struct virt *v, const char *instance, char **ret, struct err *err);
int virt_secret(struct virt *v, const char *usage, const char *key_base64,
                struct err *err); /* defines a ceph secret, ephemeral */

/* Finds QEMU processes of ours from /proc (also those that libvirtd has forgotten): instance → pid. Returns how
 * many processes hang so that nobody can tell whose they are: any of them may be a guest's. */
int virt_processes(struct virt *v, struct virt_domain **ret, size_t *ret_n, struct err *err);
/* SIGKILL by pidfd and wait until it is gone; no libvirt call, so it is safe from within the gate. */
int virt_kill_pid(struct virt *v, pid_t pid, const char *instance, struct err *err);

/* How a guest's last run here ended. */
struct virt_end {
        bool off;           /* by a power-off, which the guest began or was asked for */
        bool pressed;       /* its power button was pressed during that run */
        int64_t pressed_ms; /* how long before the end that was, the last time; 0 where that is not known */
};
/* From libvirt's log of the guest with that name. -ENOENT: there is no log. */
int virt_ended(const char *name, struct virt_end *ret, struct err *err);
void virt_log_ended(const char *text, struct virt_end *ret); /* the same from the log's text */

struct virt_migration {
        const char *instance;
        const char
            *destination; /* libvirt URI as the source's libvirtd reaches it: "qemu+tcp://10.0.0.2/system" */
        const char *migrate_uri; /* "tcp://10.0.0.2" */
        const char *xml;         /* the destination's domain XML */
        uint64_t downtime_ms;    /* 0: QEMU's default */
        bool tls;                /* QEMU encrypts the stream, and each end checks the other's certificate */
};
struct virt_progress {
        char state[16];                                                              /* "running", "none" */
        uint64_t elapsed_ms, transferred, remaining, total, dirty_rate, downtime_ms; /* bytes, bytes/s */
        bool known; /* the figures of an ended job have arrived, and hold */
};
/* Peer-to-peer, live, nothing of the storage copied. Blocks until libvirt is done with it. ret: the figures
 * of the ended job. */
int virt_migrate(struct virt *v, const struct virt_migration *m, struct virt_progress *ret, struct err *err);
int virt_migrate_progress(struct virt *v, const char *instance, struct virt_progress *ret, struct err *err);
int virt_migrate_abort(struct virt *v, const char *instance, struct err *err);

/* Whether QEMU on this host has what an encrypted migration needs. With an address: as its destination,
 * which the source reaches there; NULL: as its source. The error names the file and what to do. Any thread.
 */
int virt_tls_ready(const struct virt_host *host, const char *address, struct err *err);
/* Its parts: the folder that a qemu.conf names, fresh memory; the same check of one folder for one user. */
char *virt_tls_folder(const char *conf);
int virt_tls_check(const char *folder, const char *address, uint32_t uid, uint32_t gid, struct err *err);

/* The serial console as a byte stream between libvirt and fd, until either side ends. */
int virt_console(struct virt *v, const char *instance, int fd, struct err *err);
