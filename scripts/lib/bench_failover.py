# SPDX-License-Identifier: Apache-2.0
"""scripts/bench failover: from the power-off of a host to its guests' QEMUs running elsewhere."""

import os
import socket
import statistics
import tempfile
import threading
import time

from chaos_lab import Failed, Lab, qemus, run, vcpu_ran, wait_until

MEDIAN_S = {"dir": 3.0, "nfs": 3.0, "rbd": 4.0}
WORST_S = {"dir": 5.0, "nfs": 5.0, "rbd": None}
BEST_ELSEWHERE_S = 26.0  # sanlock with its timeouts at their floor
MANY = 20
MANY_S = 15.0
PHASES = ("detect", "claim", "fence", "start")


def power_off(lab, host, names, limit):
    """Pulls the plug and waits for all of these instances; {name: (seconds, host)}, counted from before the plug is touched."""
    begun = time.monotonic()
    off = threading.Thread(target=lab.lab, args=("power-off", host), daemon=True)
    off.start()
    found = {}
    while len(found) < len(names):
        for where, name, pid in qemus():
            if name in names and name not in found and where != host and vcpu_ran(pid):
                found[name] = (time.monotonic() - begun, where)
        if time.monotonic() - begun > limit:
            raise Failed(f"{lab.store}: {len(names) - len(found)} of {len(names)} instances do not run {limit} s after the loss of {host}")
        time.sleep(0.02)
    off.join()
    return found


def receipt_of(lab, name, old_host, epoch):
    """The receipt of its failover from that host; hostd writes it right after the start."""
    def look():
        for receipt in lab.show(name).get("receipts") or []:
            if receipt["from"] == old_host and receipt["epoch"] > epoch:
                return receipt
        return None
    return wait_until(20, look)


def settle(lab, host):
    lab.lab("power-on", host)
    if not wait_until(60, lab.hosts_up):
        raise Failed(f"{host} does not come back")


def one_round(lab, host):
    before = lab.show("web")
    seconds, where = power_off(lab, host, {"web"}, 60)["web"]
    receipt = receipt_of(lab, "web", int(host[1:]), before["status"]["epoch"])
    if receipt is None:
        raise Failed(f"no receipt for the loss of {host}")
    settle(lab, host)
    return seconds, where, {p: receipt["phases"].get(p + "_ms", 0) / 1000 for p in PHASES}


def bench_one(lab, results, rounds, note):
    lab.run_instance("web", "h1")
    host, times, phases = "h1", [], []
    for n in range(rounds):
        seconds, where, phase = one_round(lab, host)
        note("    round %2d: %.2f s, %s to %s: %s" % (n + 1, seconds, host, where, ", ".join(
            f"{p} {phase[p]:.2f}" for p in PHASES) + f", rest {seconds - sum(phase.values()):.2f}"))
        times.append(seconds)
        phases.append(phase)
        host = where
    store, median, worst = lab.store, statistics.median(times), max(times)
    results.add(f"{store}: failover, median", median, BEST_ELSEWHERE_S, "s", BEST_ELSEWHERE_S / MEDIAN_S[store], rounds)
    results.add(f"{store}: failover, worst", worst, BEST_ELSEWHERE_S, "s",
                BEST_ELSEWHERE_S / WORST_S[store] if WORST_S[store] else None, rounds)
    for p in PHASES:
        results.add(f"{store}: failover, {p}", statistics.median(ph[p] for ph in phases), None, "s", None, rounds)
    results.add(f"{store}: failover, rest", statistics.median(t - sum(ph.values()) for t, ph in zip(times, phases)),
                None, "s", None, rounds)
    lab.wherry("rm", "web")


def booted(address):
    with socket.create_connection((address, 22), 1):
        return True


def bench_many(lab, results, note):
    """All of them on one host that dies."""
    names = {f"many{n}" for n in range(MANY)}
    for name in sorted(names):
        lab.run_instance(name, "h1")
    for name in names:  # a machine that is busy with booting guests would be another question
        address = lab.show(name)["network"]["address"]
        if not wait_until(600, lambda address=address: booted(address), every=1):
            raise Failed(f"{name} did not boot")
    found = power_off(lab, "h1", names, 120)
    times = sorted(t for t, _ in found.values())
    note(f"    {MANY} instances: first {times[0]:.2f} s, median {statistics.median(times):.2f} s, last {times[-1]:.2f} s")
    results.add(f"{lab.store}: failover, last of {MANY}", times[-1], BEST_ELSEWHERE_S, "s", BEST_ELSEWHERE_S / MANY_S, 1)


def suite(results, stores, rounds, build, note):
    """In a box (scripts/lib/box): three hosts on each of the stores in turn."""
    for store in stores:
        note(f"{store}:")
        with tempfile.TemporaryDirectory() as work, Lab(store, 3, build, work, ("--cpus", str(MANY))) as lab:
            lab.add_image()
            if not wait_until(60, lab.hosts_up):
                raise Failed("the lab's hosts did not come up")
            bench_one(lab, results, rounds, note)
            bench_many(lab, results, note)


def ensure_guest(root):
    run(os.path.join(root, "scripts", "guest-images"), "small", timeout=1800)
