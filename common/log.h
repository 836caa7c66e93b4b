/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <syslog.h>

/*
 * Lines to standard error, which systemd's journal takes; each starts with "<priority>" when standard error
 * is not a terminal. Any thread. Never pass a key, token or password. Say which host, instance or image:
 * "instance web1: ...". The level is the one process-wide setting of this module (it is what syslog's
 * setlogmask is, too).
 */
void log_level(int max_priority); /* LOG_DEBUG shows all; default LOG_INFO */
void log_at(int priority, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_at(LOG_WARNING, __VA_ARGS__)
#define log_error(...) log_at(LOG_ERR, __VA_ARGS__)
