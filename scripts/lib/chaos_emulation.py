# SPDX-License-Identifier: Apache-2.0
"""A guest that a live move has broken though all that we do for it is in order.

Debian 12's QEMU emulates a processor with a fault: stores of the guest during a live move can miss the mark that has
their page sent again (docs/measured.md). Such a guest stands on its new host with parts of its memory old. KVM marks
pages elsewhere. It counts as broken only if nothing of ours can be the reason: it came by a live move, one QEMU has it,
where the record says, libvirt says that it runs, its disk answers through that QEMU, without an error, its plug is up, and
for half a minute the guest asks for nothing."""

import json
import re
import time

from chaos_lab import Failed, qemus, run

SILENT_SECONDS = 30


def virsh(lab, host, *argv):
    return lab.lab("exec", host, "virsh", "-q", *argv)


def requests(lab, host, domain):
    """How many its disk has done, of any kind."""
    return sum(int(n) for n in re.findall(r"(?:rd_req|wr_req|flush_operations) (\d+)", virsh(lab, host, "domblkstat", domain, "vda")))


def plug_is_up(lab, host, domain):
    tap = virsh(lab, host, "domiflist", domain).split()[0]
    link = json.loads(run("ip", "-n", "wl-" + host, "-j", "link", "show", tap))[0]
    return "UP" in link["flags"] and link.get("master")


def broken(lab, name):
    """Whether emulation broke it: of a guest that has written nothing for long, and whose boot takes no longer."""
    try:
        status, here = lab.show(name)["status"], [q for q in qemus() if q[1] == name]
        if status["state"] != "running" or (status["move"] or {}).get("state") != "done" or len(here) != 1:
            return False
        host, domain = f"h{status['host']}", "wherry-" + name
        if here[0][0] != host or virsh(lab, host, "domstate", domain).strip() != "running":
            return False
        if "<domain type='qemu'" not in virsh(lab, host, "dumpxml", domain) or not plug_is_up(lab, host, domain):
            return False
        before = requests(lab, host, domain)
        disk = re.search(r"^(\S+?):.*\n.*virtio-disk0", virsh(lab, host, "qemu-monitor-command", domain, "--hmp", "info block"), re.M)
        virsh(lab, host, "qemu-monitor-command", domain, "--hmp", f'qemu-io {disk.group(1)} "flush"')
        if "No errors" not in virsh(lab, host, "domblkerror", domain):
            return False
        time.sleep(SILENT_SECONDS)
        return requests(lab, host, domain) == before
    except (Failed, OSError, ValueError, LookupError, AttributeError):
        return False
