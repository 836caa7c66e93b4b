# SPDX-License-Identifier: Apache-2.0
"""The store is full. Each guest that writes has to stand, `paused: storage full`, and to go on once there is room: the
same QEMU, at the same epoch. So nothing else happens to hosts or guests meanwhile; imaged may still be killed."""

import contextlib
import time

from chaos_lab import Failed, qemus, wait_until

PAUSED_SECONDS = 120  # limits that only a hang meets
RUNS_SECONDS = 300
BURST = 16            # MiB that a guest writes; three of them leave nothing of what the store keeps for its records
FILES = 12            # that a guest keeps of these, so that its own disk is never full


def writes(chaos, name, since):
    return chaos.runs(name) and chaos.checker.since(name, since)


def settled(chaos, name):
    """Nothing that a user asked for is still to be done: a wait that times out withdraws no request."""
    record = chaos.lab.show(name)
    status, move = record["status"], record["move"]
    moved = not move or move["epoch"] != status["epoch"] or move["serial"] == (status["move"] or {}).get("serial")
    return moved and record["restart"] == status["restart"]


def seen(chaos, name):
    """What must not change: (host, instance, pid) of its QEMUs, and its epoch."""
    return [q for q in qemus() if q[1] == name], chaos.lab.show(name)["status"]["epoch"]


def burst(chaos, name):
    """Begins some seconds later, when the store is full."""
    number = chaos.faults["full-store"] % FILES
    try:
        dd = f"dd if=/dev/urandom of=/root/big-{number} bs=1M count={BURST} conv=fsync"
        chaos.lab.ssh(chaos.lab.show(name)["network"]["address"], f"(sleep 6; {dd}) >/dev/null 2>&1 &")
    except Failed as e:
        chaos.say("", name, f"not told to write more: {str(e)[-100:]}")


def to_watch(chaos):
    """The instances that have to stand and to go on: all but those that a user stopped, and whose start was refused."""
    now = time.monotonic()
    names = []
    for name in chaos.user:
        if wait_until(RUNS_SECONDS, lambda name=name: chaos.lab.show(name)["wanted"]) != "running":
            continue
        if chaos.in_time(name, lambda name=name: settled(chaos, name) and writes(chaos, name, now)):
            names.append(name)
        else:
            chaos.problem(f"{name} does not write or is not settled, before the store is filled: "
                          f"{chaos.lab.show(name)['status']}")
    return names


def fill(chaos, event):
    with contextlib.ExitStack() as stack:
        for lock in chaos.user.values():
            stack.enter_context(lock)
        names = to_watch(chaos)
        before = {name: wait_until(RUNS_SECONDS, lambda name=name: seen(chaos, name)) for name in names}
        for name in names:
            burst(chaos, name)
        try:
            chaos.lab.fill_store()
            chaos.faults[event.kind] += 1
            stand(chaos, event, names, before)
        finally:
            chaos.lab.free_store()
            chaos.say("whole", event.target, f"after {event.kind}")
        go_on(chaos, names, before)


def stand(chaos, event, names, before):
    for name in names:
        if wait_until(PAUSED_SECONDS, lambda name=name: chaos.lab.show(name)["status"]["reason"] == "storage full"):
            chaos.say("", name, "paused: storage full")
        else:
            chaos.problem(f"{name} is not paused on a full store: {chaos.lab.show(name)['status']}")
    time.sleep(event.lasts)
    check_same(chaos, names, before, "while the store is full")


def go_on(chaos, names, before):
    now = time.monotonic()
    for name in names:
        if not wait_until(RUNS_SECONDS, lambda name=name: writes(chaos, name, now)):
            chaos.problem(f"{name} does not go on after the store was full: {chaos.lab.show(name)['status']}")
    check_same(chaos, names, before, "after the store was full")


def check_same(chaos, names, before, when):
    for name in names:
        after = wait_until(RUNS_SECONDS, lambda name=name: seen(chaos, name))
        if after != before[name]:
            chaos.problem(f"{name}: another QEMU or epoch {when}: {after}, was {before[name]}")
