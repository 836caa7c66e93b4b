/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/http-server.h"
#include "hostd/config.h"
#include "hostd/gate-socket.h"
#include "hostd/virt/virt.h"
#include "imaged/store/store.h"
#include "migrate/planner.h"
#include "migrate/watch.h"

struct guest;
struct events;
struct lift_proof;

/*
 * Everything that one hostd is. Each thread blocks as it likes; nobody holds a lock while calling the
 * storage, libvirt or another host.
 *
 *   beat      writes the counter every 0.5 s                                  (ring/join.c)
 *   watch     reads the neighbours' counters, the own host record             (ring/watch.c)
 *   takeover  one for each dead host whose record this one won                (ring/takeover.c)
 *   guest     one for each instance that concerns this host                   (guests/loop.c)
 *   gate      one for each question of the lock driver                        (gate-socket.c,
 * guests/answer.c) http      one for each connection                                         (api.c) events
 * writes what happened to the storage                             (events.c) lift      one now and then:
 * what earlier fences left on the storage       (ring/lift.c) main      waits for signals, scans now and
 * then                           (manager.c)
 */
struct manager {
        /* set before any thread starts, constant afterwards */
        const struct config *config;
        struct store *store;
        struct store *pulse; /* a second handle, for heartbeats only: never waits behind other work */
        struct virt *virt;
        struct virt_host capacity;
        struct gate *gate;
        struct http_server *http;
        struct events *events;
        char nonce[UUID_LEN + 1]; /* of this run of hostd */
        unsigned number;
        bool kvm;
        char *rbd_secret; /* usage name of the libvirt secret; NULL unless rbd */

        /* any thread */
        atomic_bool quit;
        atomic_bool beat_quit; /* later: while a thread is still at work, the host is alive */
        atomic_bool virt_connected;
        atomic_int_least64_t own_write_ms; /* when the last heartbeat reached the storage */
        atomic_uint_least64_t epoch;       /* of the own host record */
        atomic_int fence; /* the store's: 1 holds, 0 does not: nobody is failed over; negative: not tried */

        /* lock */
        pthread_mutex_t lock;
        pthread_cond_t idle; /* signalled when a guest or takeover ends, and at quit; CLOCK_MONOTONIC */
        struct guest **guests;
        size_t n_guests;
        pthread_mutex_t
            fence_lock;      /* one self-test at a time; held during it, and nothing waits for its holder */
        unsigned *takeovers; /* numbers of the dead hosts being worked on */
        size_t n_takeovers;
        bool rescan;        /* look at everything now */
        bool secret_due;    /* libvirtd was started anew: it has forgotten the key that QEMU needs */
        unsigned n_threads; /* detached ones still running */

        /* main, which starts it, and the lift thread while there is one */
        int64_t lift_ms;     /* when the last one was started */
        atomic_bool lifting; /* there is one */
        bool lift_refused;   /* this user has not the right to it, and that was said */
        struct lift_proof *lift_proofs;
        size_t n_lift_proofs;

        pthread_t beat_thread, watch_thread;
        bool beat_running, watch_running;
};

int manager_new(const struct config *config, struct manager **ret, struct err *err);
/* Until SIGTERM or SIGINT. */
int manager_run(struct manager *m, struct err *err);
struct manager *manager_free(struct manager *m);

/* Whether this hostd may start anything: its heartbeats arrive. */
bool manager_trusted(struct manager *m);

/* Looks at that instance soon; makes its guest when there is none. Any thread, never blocks. */
void manager_wake(struct manager *m, const char *instance);

/* Starts a detached thread that manager_free() waits for. */
int manager_spawn(struct manager *m, void (*run)(void *arg), void *arg);

/* ring/join.c: joining the ring, the heartbeat, the orderly end */
int host_join(struct manager *m, bool first, struct err *err);
void host_leave(struct manager *m);
int host_beat_start(struct manager *m, struct err *err);
/* A host's record by number, for its addresses. The caller drops *ret. */
int host_record(struct manager *m, unsigned number, json_t **ret, struct err *err);
/* POST /v1/look on that host. to_start: it is to start it, so it says no where it could start nothing. */
int host_look(struct manager *m, unsigned number, const char *instance, bool to_start, struct err *err);
/* 0, or why this host can start nothing now. */
int host_can_start(struct manager *m, struct err *err);

/* ring/watch.c, ring/takeover.c */
int watcher_start(struct manager *m, struct err *err);
void takeover_start(struct manager *m, unsigned dead);

/*
 * ring/selftest.c: tries the store's fence, which decides whether this host may act on anybody's death, and
 * writes the verdict into the own host record. Returns 1 it holds, 0 it does not, negative could not be
 * tried (then what was known before stays). Blocks for seconds; one at a time, any thread.
 */
#define FENCE_TEXT 512
int fence_test(struct manager *m, char ret_text[FENCE_TEXT]);

/* What else this host's user of the storage lacks, appended to the array `list`: {"code","text","advice"}.
 * The log has it once, after the first fence_test() that could be tried. */
int fence_findings(struct manager *m, json_t *list, struct err *err);

/* ring/lift.c: from time to time, on a thread of its own. lift_answer: what another host asks for it,
 * POST /v1/ended; the caller drops *ret. */
void lift_start(struct manager *m);
int lift_answer(struct manager *m, const char *instance, const char *start, json_t **ret, struct err *err);

/* events.c: what happened, for people; never blocks, drops the oldest when the storage is away for long */
int events_new(struct manager *m, struct events **ret, struct err *err);
struct events *events_free(struct events *e);
void event_add(struct manager *m, const char *kind, const char *instance, const char *name, const char *fmt,
               ...) __attribute__((format(printf, 5, 6)));

/* secret.c: rbd: gives libvirt the key that QEMU needs; nothing to do elsewhere */
int manager_secret(struct manager *m, struct err *err);

/* api.c */
int api_listen(struct manager *m, struct err *err); /* http_server_start() then serves */

/* dhcp.c: one file a guest in dnsmasq's hosts folder; failing to write it is logged, not fatal (the seed has
 * the address too) */
void dhcp_add(struct manager *m, const char *instance, const char *name, const char *mac,
              const char *address);
void dhcp_remove(struct manager *m, const char *instance);
/* Looks at every instance that has a file there: whoever left it may have been killed before he took it
 * away. */
void dhcp_scan(struct manager *m);
