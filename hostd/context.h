/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

#include "common/util.h"
#include "hostd/config.h"
#include "hostd/virt/virt.h"
#include "imaged/store/store.h"

struct events;
struct gate;
struct guests;
struct http_server;
struct plug;
struct ring;
struct self;
struct tasks;

/*
 * The handles of one hostd: set before any thread uses them, constant afterwards. What changes lies behind
 * them, each part with its own lock. Threads block as they like; nobody holds a lock while calling the
 * storage, libvirt or another host.
 *
 *   beat      writes the counter every 0.5 s                                  (ring/beat.c)
 *   watch     reads the neighbours' counters, the own host record             (ring/watch.c)
 *   takeover  one for each dead host whose record this one won                (ring/takeover.c)
 *   plug      cuts guests off the network, tells where they are                (plug/plug.c)
 *   guest     one for each instance that concerns this host                   (guests/loop.c)
 *   gate      one for each question of the lock driver                        (gate-socket.c,
 * guests/answer.c) http      one for each connection                                         (api.c) events
 * writes what happened to the storage                             (events.c) lift      one now and then:
 * what earlier fences left on the storage       (ring/lift.c) main      waits for signals, scans now and
 * then                           (hostd.c, scan.c)
 */
struct context {
        const struct config *config;
        struct store *store;
        struct store *pulse; /* a second handle, for heartbeats only: never waits behind other work */
        struct virt *virt;
        struct virt_host capacity;
        char nonce[UUID_LEN + 1]; /* of this run of hostd */
        unsigned number;
        bool kvm;
        char *rbd_secret; /* usage name of the libvirt secret; NULL unless rbd */
        struct self *self;
        struct tasks *tasks;
        struct events *events;
        struct guests *guests;
        struct ring *ring;
        struct plug *plug;
        struct gate *gate;
        struct http_server *http;
};
