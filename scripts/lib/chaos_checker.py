# SPDX-License-Identifier: Apache-2.0
"""The witness outside: what guests said was on disk, and whether it still is.

A guest's writer appends records numbered from 1, and goes on after the highest whole one that it finds at its start. For each
record that its disk has acknowledged it reports (instance, boot, number, sum); the sum covers the boot's id too. From that follows
what may be seen, whatever dies whenever:

  a number belongs to one record      another one of that number means that the first was lost or written over
  boots do not interleave             the numbers of one all lie before or all behind those of another: a boot goes on after all
                                      that was on disk, and what one gets acknowledged from there on another must not have
  (packets may be lost, come twice or late; so none of this looks at the order in which they came)
  what was reported is on the disk    at the end, with the very same sum
"""

import socket
import threading
import time


class Boot:
    def __init__(self, boot, first, at):
        self.id, self.first, self.last = boot, first, first
        self.last_at = at


class Instance:
    """All reports of one instance. Not thread-safe."""

    def __init__(self, name):
        self.name = name
        self.records = {}  # number: (sum, boot, time)
        self.boots = []    # by the time of their first report
        self.overlaps = set()
        self.longest = 0.0  # seconds without a report
        self.longest_at = None
        self.last_at = None
        self.problems = []

    def problem(self, text):
        if len(self.problems) < 20:
            self.problems.append(f"{self.name}: {text}")

    def report(self, boot, number, checksum, at):
        known = self.records.get(number)
        if known and known[:2] == (checksum, boot):
            return  # a packet that came twice
        if known:
            self.problem(f"record {number} was acknowledged to boot {known[1]} with sum {known[0]}, "
                         f"and again to boot {boot} with sum {checksum}: the first is lost")
        entry = next((b for b in self.boots if b.id == boot), None)
        begins = entry is None
        if begins:
            entry = Boot(boot, number, at)
            self.boots.append(entry)
        entry.first, entry.last, entry.last_at = min(entry.first, number), max(entry.last, number), at
        for other in self.boots:
            if other is not entry and entry.first <= other.last and other.first <= entry.last:
                self._interleaved(entry, other, number, begins)
        self.records[number] = (checksum, boot, at)
        if self.last_at is not None and at - self.last_at > self.longest:
            self.longest, self.longest_at = at - self.last_at, self.last_at
        self.last_at = at

    def _interleaved(self, entry, other, number, begins):
        pair = frozenset((entry.id, other.id))
        if pair in self.overlaps:
            return
        self.overlaps.add(pair)
        if begins:
            self.problem(f"boot {entry.id} begins at {number}, but boot {other.id} had {other.last} acknowledged: those are lost")
        else:
            self.problem(f"two guests answer: boot {entry.id} got record {number} acknowledged, "
                         f"boot {other.id} {other.first} to {other.last}")

    def highest(self):
        return max(self.records, default=0)

    def verify(self, on_disk, records=None):
        """on_disk: {number: sum} of the whole records that the guest's disk holds from 1 on, without a gap. records: what
        had been acknowledged before it was read, where the guest writes on."""
        records = self.records if records is None else records
        missing = [n for n in records if n not in on_disk]
        other = [n for n in records if n in on_disk and on_disk[n] != records[n][0]]
        if missing:
            self.problem(f"{len(missing)} acknowledged records are not on the disk, {_some(missing)}; "
                         f"it holds 1 to {max(on_disk, default=0)}")
        if other:
            self.problem(f"{len(other)} acknowledged records were written over, {_some(other)}")


def _some(numbers):
    numbers = sorted(numbers)
    return "such as " + ", ".join(map(str, numbers[:5]))


def parse_list(text):
    """What `fsync-writer --list` printed: {number: sum}, and whether it found nothing bad."""
    on_disk, good = {}, False
    for line in text.splitlines():
        words = line.split()
        if len(words) == 2 and words[0].isdigit():
            on_disk[int(words[0])] = words[1]
        elif len(words) == 3 and words[0].startswith("records="):
            good = words[2] == "bad=0"
    return on_disk, good


class Checker:
    """Hears the packets on a thread of its own. Times are those of the monotonic clock."""

    def __init__(self, address, journal):
        self.lock = threading.Lock()
        self.instances = {}
        self.journal = journal
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind(address)
        self.thread = threading.Thread(target=self._hear, daemon=True)

    def start(self):
        self.thread.start()

    def expect(self, name):
        with self.lock:
            self.instances[name] = Instance(name)

    def _hear(self):
        while True:
            packet = self.socket.recv(512)
            at = time.monotonic()
            words = packet.decode("ascii", "replace").split()
            if len(words) != 4 or not words[2].isdigit():
                continue
            with self.lock:
                instance = self.instances.get(words[0])
                if instance is None:
                    continue
                before = len(instance.problems)
                instance.report(words[1], int(words[2]), words[3], at)
                print(f"{at:.3f} {' '.join(words)}", file=self.journal)
                for text in instance.problems[before:]:
                    print(f"{at:.3f} PROBLEM {text}", file=self.journal, flush=True)

    def since(self, name, at):
        """A record of it was acknowledged after that time."""
        with self.lock:
            last = self.instances[name].last_at
            return last is not None and last > at

    def boot(self, name):
        """The boot that reported last."""
        with self.lock:
            boots = self.instances[name].boots
            return max(boots, key=lambda b: b.last_at).id if boots else None

    def problems(self):
        with self.lock:
            return [text for i in self.instances.values() for text in i.problems]
