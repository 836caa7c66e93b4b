/* SPDX-License-Identifier: Apache-2.0 */
#include "hostd/shutdown.h"

#include <stdlib.h>
#include <string.h>

#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>

#include "common/log.h"
#include "common/util.h"

/*
 * systemd's manager is "stopping" from the moment at which a job for shutdown.target is queued. So this
 * tells a reboot from `systemctl stop hostd`, which looks the same from inside: a SIGTERM.
 */
bool shutdown_queued(void)
{
        _cleanup_(freep) char *state = NULL;
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus *bus = NULL;
        bool queued;
        int r;

        if (sd_booted() <= 0)
                return false;
        r = sd_bus_open_system(&bus);
        if (r >= 0)
                r = sd_bus_get_property_string(bus, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                                               "org.freedesktop.systemd1.Manager", "SystemState", &e,
                                               &state);
        if (r < 0)
                log_warn("whether this host goes down is not known, systemd does not say: %s",
                         e.message ? e.message : strerror(-r));
        queued = r >= 0 && streq(state, "stopping");
        sd_bus_error_free(&e);
        sd_bus_unref(bus);
        return queued;
}
