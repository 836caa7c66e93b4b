/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>

#include "imaged/daemon.h"

/*
 * What this imaged knows about the hosts: their records, and who is alive. A host is alive while its
 * heartbeat counter moved within ALIVE_MS by this process's own clock. One thread of its own looks. The
 * calls: any thread.
 */
struct hosts;

int hosts_new(struct imaged *im, struct hosts **ret, struct err *err);
struct hosts *hosts_free(struct hosts *h);

bool hosts_alive(struct hosts *h, unsigned number);
/* "http://10.0.0.1:8081" in fresh memory; NULL: no such host. */
char *hosts_api(struct hosts *h, unsigned number);
/* The number for a host's number or name. */
int hosts_number(struct hosts *h, const char *name, unsigned *ret, struct err *err);

/* All of them for the planner, nothing used; names are copies. */
struct planner_host;
int hosts_view(struct hosts *h, struct planner_host **ret, size_t *ret_n, struct err *err);
void hosts_view_free(struct planner_host *view, size_t n);
/* A copy of its record, the caller's; NULL: no such host. */
json_t *hosts_record(struct hosts *h, unsigned number);
/* This imaged has changed that record: what it says from now on need not wait for the next look. */
void hosts_changed(struct hosts *h, unsigned number, const json_t *record);

/* Tells a host's hostd to look at an instance now; best effort, in the background. */
void hosts_nudge(struct hosts *h, unsigned number, const char *instance);
