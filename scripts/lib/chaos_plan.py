# SPDX-License-Identifier: Apache-2.0
"""What will go wrong, and what users will ask for meanwhile: a timetable that follows from the seed alone."""

import random
from dataclasses import dataclass

# kind: (weight, least and most seconds that it lasts)
FAULTS = {
    "power-off": (5, 3, 12),
    "reboot": (4, 1, 6),  # the seconds from its end to its power-on
    "hang-host": (4, 1, 8),
    "hang-hostd": (3, 1, 8),
    "hang-qemu": (2, 1, 6),
    "kill-hostd": (3, 0, 8),
    "kill-libvirtd": (2, 0, 5),
    "kill-qemu": (2, 0, 0),
    "kill-imaged": (2, 0, 6),
    "cut-network": (3, 2, 10),
    "clash": (2, 4, 10),  # another machine comes up as this host
    "all-off": (1, 1, 4),
    "full-store": (2, 8, 20),  # the seconds for which its guests stand
}
# A directory has no cable and no server.
FAULTS_OF_A_NETWORK = {
    "cut-storage": (4, 2, 10),
    "cut-both": (2, 2, 10),
    "store-off": (1, 1, 5),
    "hang-store": (1, 2, 40),
    "slow-store": (2, 5, 20),  # stands still for longer than a listing may take, again and again
}
# These wait until no host is in trouble.
EVERYWHERE = ("all-off", "full-store", "store-off", "hang-store", "slow-store")
SETTLE = 6    # seconds in which a host that is whole again is left alone
IN_TROUBLE = 2  # hosts at a time
REQUESTS = {"migrate": 5, "restart": 2, "restart --force": 2, "stop and start": 2, "run and rm": 2}


@dataclass
class Event:
    at: float  # seconds from the begin
    kind: str
    target: str  # a host, "all", "ctl" or an instance
    lasts: float = 0.0
    to: str = ""  # host that a migration asks for


def faults(store, seconds, seed, hosts):
    rng = random.Random(f"faults {seed}")
    kinds = dict(FAULTS)
    if store != "dir":
        kinds.update(FAULTS_OF_A_NETWORK)
    busy = dict.fromkeys(hosts, 0.0)
    ctl_busy = 0.0
    events = []
    t = rng.uniform(1, 4)
    while t < seconds:
        kind = rng.choices(list(kinds), [w for w, _, _ in kinds.values()])[0]
        lasts = round(rng.uniform(*kinds[kind][1:]), 1)
        host = rng.choice(hosts)
        step = rng.uniform(2, 8)
        if kind in EVERYWHERE:
            t = max(t, *busy.values())
            busy = dict.fromkeys(hosts, t + lasts + 2 * SETTLE)
            target = "all"
        elif kind == "kill-imaged":
            t = max(t, ctl_busy)
            ctl_busy = t + lasts + SETTLE
            target = "ctl"
        else:
            # The host's own turn, and that not too many are in trouble.
            t = max(t, busy[host], sorted(busy.values())[-IN_TROUBLE])
            busy[host] = t + lasts + SETTLE
            target = host
        if t < seconds:
            events.append(Event(round(t, 1), kind, target, lasts))
        t += step
    return events


def requests(seconds, seed, hosts, instances):
    rng = random.Random(f"requests {seed}")
    events = []
    t = rng.uniform(2, 6)
    while t < seconds:
        kind = rng.choices(list(REQUESTS), list(REQUESTS.values()))[0]
        events.append(Event(round(t, 1), kind, rng.choice(instances), round(rng.uniform(0, 3), 1), rng.choice(hosts)))
        t += rng.uniform(4, 12)
    return events
