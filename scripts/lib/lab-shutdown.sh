# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2154 # LAB_NODE is lab-init's
#
# An orderly shutdown of a host, inside the node. hostd asks systemd's manager, over the system bus, whether a shutdown
# is queued. Nodes run without systemd, so one is started for the shutdown: a manager with the bus, and with a unit that
# ends the node's hostd when it is stopped. The manager is told to shut down; from then on it does what it does on any
# machine.

SHUTDOWN_RUN=/run/systemd

shutdown_units() {
        mkdir -p $SHUTDOWN_RUN/system # by this folder programs know that systemd runs
        cat >$SHUTDOWN_RUN/system/dbus.socket <<END
[Unit]
DefaultDependencies=no
[Socket]
ListenStream=/run/dbus/system_bus_socket
END
        cat >$SHUTDOWN_RUN/system/dbus.service <<END
[Unit]
DefaultDependencies=no
Requires=dbus.socket
[Service]
ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile
END
        cat >$SHUTDOWN_RUN/system/hostd.service <<END
[Unit]
DefaultDependencies=no
Requires=dbus.service
After=dbus.service
Conflicts=shutdown.target
Before=shutdown.target
[Service]
Type=oneshot
RemainAfterExit=yes
PassEnvironment=LAB_STORE LAB_HOSTS LAB_BUILD LAB_BARE
ExecStart=/bin/true
ExecStop=$LAB_LIB/lab-init $LAB_NODE stop hostd
TimeoutStopSec=infinity
END
}

# node_shutdown: returns when hostd has ended; its guests are elsewhere then, or have powered off.
node_shutdown() {
        local cgroup old manager status=0
        export XDG_RUNTIME_DIR=$SHUTDOWN_RUN DBUS_SESSION_BUS_ADDRESS=unix:path=/run/dbus/system_bus_socket
        export SYSTEMD_UNIT_PATH=$SHUTDOWN_RUN/system:/usr/lib/systemd/user
        shutdown_units
        # The manager kills what it finds in its control group when it ends. So it gets one of its own.
        old=$(sed -n 's/^0:://p' /proc/self/cgroup)
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
        cgroup=$(mktemp -d /sys/fs/cgroup/wherry-lab-XXXXXX)
        echo $BASHPID >"$cgroup/cgroup.procs"
        /lib/systemd/systemd --user --unit=hostd.service --log-target=console --log-level=notice --show-status=no &
        manager=$!
        wait_until 30 systemctl --user --quiet is-active hostd 2>/dev/null &&
                systemctl --user exit && wait $manager || status=1
        kill -KILL $manager 2>/dev/null || :
        echo $BASHPID >"/sys/fs/cgroup$old/cgroup.procs"
        find "$cgroup" -depth -type d -exec rmdir {} +
        return $status
}
