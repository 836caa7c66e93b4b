# SPDX-License-Identifier: Apache-2.0
"""scripts/bench import: how fast images get into the store, beside Glance, `rbd import`, nfs-cp and qemu-img."""

import ctypes
import json
import mmap
import os
import statistics
import tempfile
import time

from bench_inspect import bench_inspect
from bench_services import ADDRESS, EATMYDATA, Glance, Imaged, Store, TOKEN, make_network
from chaos_lab import Failed, run

MiB = 1 << 20
GiB = 1 << 30
MEMORY_MAX = 64.0  # MiB, of imaged and of the command
MADV_POPULATE_WRITE = 23  # Linux 5.14; Python has no name for it yet
PIECES = 256  # of 4 MiB: the data of each image
COMPRESSIONS = ("plain", "zlib", "zstd")
CLIENT = "10.78.0.2"  # in a network namespace of its own, whose cable counts what it sends


def timed(*argv):
    begun = time.monotonic()
    run(*argv, timeout=600)
    return time.monotonic() - begun


def warm_memory():
    """A virtual machine may have given its free memory back to the host, and gets it again four times slower than memory it has:
    whoever fills the page cache first would pay for it."""
    with open("/proc/meminfo") as f:
        available = next(int(line.split()[1]) * 1024 for line in f if line.startswith("MemAvailable:"))
    with mmap.mmap(-1, min(3 * GiB, available // 2)) as memory:
        memory.madvise(MADV_POPULATE_WRITE)


def warmed(way):
    warm_memory()
    return way()


def medians(rounds, *ways):
    """Of each way, which returns its seconds; they alternate, and the first round does not count."""
    times = [[warmed(way) for way in ways] for _ in range(rounds + 1)][1:]
    return [statistics.median(column) for column in zip(*times)]


class Sources:
    """The images, made once: in memory, so that reading them costs nobody anything."""

    def __init__(self, folder):
        self.raw = os.path.join(folder, "raw")
        self.sparse = os.path.join(folder, "sparse")
        with open(self.raw, "wb") as f:
            for _ in range(PIECES):
                f.write(os.urandom(4 * MiB))
        self.make_sparse()
        disk = os.path.join(folder, "disk")
        self.make_disk(disk)
        self.qcow2 = {c: os.path.join(folder, c + ".qcow2") for c in COMPRESSIONS}
        for compression, path in self.qcow2.items():
            how = [] if compression == "plain" else ["-c", "-o", f"compression_type={compression}"]
            run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-W", "-m", "16", *how, disk, path, timeout=600)
        os.unlink(disk)

    def make_sparse(self):
        """100 GiB that hold the same 1 GiB, 4 MiB here and there."""
        with open(self.raw, "rb") as raw, open(self.sparse, "wb") as f:
            f.truncate(100 * GiB)
            for n in range(PIECES):
                f.seek(n * 400 * MiB)
                f.write(raw.read(4 * MiB))

    def make_disk(self, path):
        """4 GiB with 1 GiB of data, half of which can be compressed away: as a golden image is."""
        with open(self.raw, "rb") as raw, open(path, "wb") as f:
            f.truncate(4 * GiB)
            for n in range(PIECES):
                f.seek(n * 16 * MiB)
                noise = raw.read(2 * MiB)
                f.write(b"".join(noise[at:at + 2048] + bytes([n % 255 + 1]) * 2048 for at in range(0, 2 * MiB, 2048)))


def nfs_remove(server, export, name):
    """Through the server, which keeps open what is removed behind it; libnfs-utils has no command for it."""
    nfs = ctypes.CDLL("libnfs.so.13")
    nfs.nfs_init_context.restype = ctypes.c_void_p
    context = ctypes.c_void_p(nfs.nfs_init_context())
    nfs.nfs_mount(context, server.encode(), export.encode())
    nfs.nfs_unlink(context, name.encode())  # where there is none, there is nothing to remove
    nfs.nfs_destroy_context(context)


class Target:
    """What the peers write to, in the same store; not there before and after each run."""

    def __init__(self, store):
        self.kind, self.ceph = store.kind, store.ceph
        self.path = {"dir": os.path.join(store.work, "peer.raw"), "nfs": f"nfs://{ADDRESS}/export/peer.raw",
                     "rbd": f"rbd:wherry/peer:id=wherry:conf={store.conf}"}[store.kind]

    def clear(self):
        if self.kind == "rbd":
            if "peer" in run("rbd", *self.ceph, "ls", "wherry").split():
                run("rbd", *self.ceph, "rm", "--no-progress", "wherry/peer")
        elif self.kind == "nfs":
            nfs_remove(ADDRESS, "/export", "/peer.raw")
        elif os.path.exists(self.path):
            os.unlink(self.path)

    def convert(self, source, source_format):
        """qemu-img at its best: straight to the storage, out of order, 16 requests, no zeros written."""
        self.clear()
        size = json.loads(run("qemu-img", "info", "--output=json", "-f", source_format, source))["virtual-size"]
        run("qemu-img", "create", "-q", "-f", "raw", self.path, str(size))
        seconds = timed("qemu-img", "convert", "-n", "--target-is-zero", "-W", "-m", "16", "-t", "none", "-f", source_format,
                        "-O", "raw", source, self.path)
        self.clear()
        return seconds

    def copy(self, source):
        """The store's own tool."""
        self.clear()
        if self.kind == "rbd":
            seconds = timed("rbd", *self.ceph, "import", "--no-progress", "--image-feature", "layering", source, "wherry/peer")
        else:
            seconds = timed("nfs-cp", source, self.path)
        self.clear()
        return seconds


class Bench:
    def __init__(self, store, sources, results, rounds, build):
        self.store, self.sources, self.results, self.rounds, self.build = store, sources, results, rounds, build
        self.imaged = Imaged(store, build)
        self.target = Target(store)
        self.idle = self.imaged.memory("VmRSS")
        self.peaks = {"imaged": 0, "wherry image add": 0}

    def note_peak(self, who, peak):
        self.peaks[who] = max(self.peaks[who], peak)

    def put(self):
        self.imaged.peak_reset()
        seconds = self.put_to(self.imaged)
        self.note_peak("imaged", self.imaged.memory())
        return seconds

    def add(self, source, below=()):
        report = os.path.join(self.store.work, "peak")
        self.imaged.peak_reset()
        begun = time.monotonic()
        image = json.loads(run(*below, "time", "--format", "%M", "--output", report, os.path.join(
            self.build, "imaged", "cli", "wherry"), "--url", self.imaged.url, "image", "add", source, "--name", "bench",
            "--json", env={**os.environ, "WHERRY_TOKEN": TOKEN}, timeout=600))
        seconds = time.monotonic() - begun
        self.note_peak("imaged", self.imaged.memory())
        with open(report) as f:
            self.note_peak("wherry image add", int(f.read()) * 1024)
        if image["status"] != "active":
            raise Failed(f"the image is {image['status']}")
        self.imaged.remove(image["id"])
        return seconds

    def report_rate(self, name, ours, peer, bar):
        mb = PIECES * 4 * MiB / 1e6
        self.results.add(f"{self.store.kind}: {name}", mb / ours, mb / peer, "MB/s", bar, self.rounds, higher_is_better=True)

    def bench_raw(self):
        """As they are: all but Glance on a directory leave the image durable, so there its file is synced, too."""
        raw, kind = self.sources.raw, self.store.kind
        peers = []  # name, bar, way
        if kind != "nfs":  # Glance has no driver for it
            glance = Glance(self.store)
            peers.append(("Glance + sync" if kind == "dir" else "Glance", 4.0 if kind == "rbd" else None,
                          lambda: self.put_to(glance, glance.sync if kind == "dir" else None)))
        if kind != "dir":
            peers.append(({"nfs": "nfs-cp", "rbd": "rbd import"}[kind], 0.9, lambda: self.target.copy(raw)))
            peers.append(("qemu-img convert", 0.9 if kind == "nfs" else None, lambda: self.target.convert(raw, "raw")))
        ours, *theirs = medians(self.rounds, self.put, *(way for _, _, way in peers))
        for (name, bar, _), peer in zip(peers, theirs):
            self.report_rate("raw by HTTP / " + name, ours, peer, bar)
        if kind != "nfs":
            glance.end()

    def bench_unsynced(self):
        """Glance leaves its file to the kernel: both without any fsync."""
        imaged, glance = Imaged(self.store, self.build, "imaged-unsynced", 8081, [EATMYDATA]), Glance(self.store, [EATMYDATA])
        ours, peer = medians(self.rounds, lambda: self.put_to(imaged), lambda: self.put_to(glance))
        self.report_rate("raw by HTTP, unsynced / Glance", ours, peer, 4.0)
        glance.end()
        imaged.end()

    def put_to(self, service, sync=None):
        image, seconds = service.put(self.sources.raw)
        seconds += sync(image) if sync else 0
        service.remove(image)
        return seconds

    def bench_qcow2(self):
        for compression, path in self.sources.qcow2.items():
            ours, peer = medians(self.rounds, lambda p=path: self.add(p), lambda p=path: self.target.convert(p, "qcow2"))
            self.results.add(f"{self.store.kind}: qcow2 {compression}, 1 GiB / qemu-img", ours, peer, "s", 1.0, self.rounds)

    def bench_sparse(self):
        sent = {}

        def add(path):
            before = self.wire()
            seconds = self.add(path, ("ip", "netns", "exec", "client"))
            sent[path] = self.wire() - before
            return seconds
        sparse, raw = self.sources.sparse, self.sources.raw
        ours, peer = medians(self.rounds, lambda: add(sparse), lambda: add(raw))
        kind = self.store.kind
        self.results.add(f"{kind}: sparse 100 GiB / its 1 GiB alone", ours, peer, "s", 1 / 1.1, self.rounds)
        self.results.add(f"{kind}: the same, on the wire", sent[sparse] / MiB, sent[raw] / MiB, "MiB", 1 / 1.1, 1)

    def wire(self):
        """Bytes that came over the client's cable."""
        return json.loads(run("ip", "--json", "--statistics", "link", "show", "client0"))[0]["stats64"]["rx"]["bytes"]

    def bench_memory(self):
        for who, peak in self.peaks.items():
            self.results.add(f"{self.store.kind}: {who}, peak memory", peak / MiB, MEMORY_MAX, "MiB", 1.0, 1)
        own = self.peaks["imaged"] - self.idle  # without code and, on rbd, Ceph's libraries
        self.results.add(f"{self.store.kind}: imaged, peak less idle", own / MiB, None, "MiB", None, 1)


def make_client():
    run("ip", "netns", "add", "client")
    run("ip", "link", "add", "client0", "type", "veth", "peer", "name", "eth0", "netns", "client")
    run("ip", "link", "set", "client0", "master", "store0", "up")
    run("ip", "-n", "client", "address", "add", CLIENT + "/24", "dev", "eth0")
    run("ip", "-n", "client", "link", "set", "eth0", "up")


def suite(results, stores, rounds, build, note):
    """In a box (scripts/lib/box), on each of the stores in turn."""
    make_network()
    make_client()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as work:
        note("inspect:")
        bench_inspect(results, build, work, note)
    os.mkdir("/run/sources")
    sources = Sources("/run/sources")
    for kind in stores:
        note(f"{kind}:")
        with tempfile.TemporaryDirectory(dir="/var/tmp") as work, Store(kind, work) as store:
            bench = Bench(store, sources, results, rounds, build)
            bench.bench_raw()
            if kind == "dir":
                bench.bench_unsynced()
            bench.bench_qcow2()
            bench.bench_sparse()
            bench.bench_memory()
