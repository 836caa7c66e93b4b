/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "imaged/daemon.h"

/* What happened, for people: the last 256 of every writer, in one record a writer. */
struct events;

struct event {
        const char *kind;            /* "instance-created", ... */
        const char *instance, *name; /* NULL where it is about none */
        const char *text;
        unsigned host; /* that it is meant for, said where there is no text; 0: none */
};

int events_new(struct store *store, struct events **ret, struct err *err);
struct events *events_free(struct events *ev);
void events_stop(struct events *ev); /* ends those who wait for news */

/* Best effort: a store that does not answer is logged. Any thread. */
void event_post(struct events *ev, const struct event *e);

/* GET /v1/events */
int events_on_list(struct http_request *req, void *userdata, struct err *err);
