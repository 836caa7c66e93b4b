# SPDX-License-Identifier: Apache-2.0
"""A part of scripts/bench import: what `image inspect --quick` costs."""

import json
import os
import statistics
import tarfile

from bench_services import write
from chaos_lab import Failed, run

MiB = 1 << 20
GiB = 1 << 30
QUICK_MS, QUICK_MIB = 5.0, 4.0
RUNS = 9


OVF = """<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
<References><File ovf:href="disk.vmdk" ovf:id="file1"/></References>
<DiskSection><Disk ovf:capacity="107374182400" ovf:diskId="disk1" ovf:fileRef="file1"/></DiskSection>
</Envelope>
"""
OPTIONS = {"qcow2": ("", "cluster_size=2M", "cluster_size=512", "compat=0.10", "extended_l2=on,cluster_size=64k"),
           "vmdk": ("",), "vdi": ("", "static=on"), "vpc": ("", "subformat=fixed"),
           "vhdx": ("", "block_size=1M", "log_size=64M"), "raw": ("",)}
COMPRESSED = {"qcow2": "compression_type=zstd,cluster_size=2M", "vmdk": "subformat=streamOptimized"}


def make_images(folder):
    """Of every format, with the options that make headers and blocks large: 100 GiB each. (name, path)"""
    disk = os.path.join(folder, "disk")
    with open(disk, "wb") as f:
        f.write(os.urandom(4 * MiB))
        f.truncate(100 * GiB)

    def convert(kind, option, *how):
        path = os.path.join(folder, f"{kind} {option}".strip())
        run("qemu-img", "convert", *how, "-f", "raw", "-O", kind, *(["-o", option] if option else []), disk, path)
        return os.path.basename(path), path
    for kind, variants in OPTIONS.items():
        for option in variants:
            yield convert(kind, option)
    for kind, option in COMPRESSED.items():
        yield convert(kind, option, "-c")
    yield "ova", make_ova(folder, os.path.join(folder, "vmdk"))
    yield "iso", make_iso(folder)


def make_ova(folder, vmdk):
    path, ovf = os.path.join(folder, "ova"), os.path.join(folder, "machine.ovf")
    write(ovf, OVF)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        tar.add(ovf, "machine.ovf")
        tar.add(vmdk, "disk.vmdk")
    return path


def make_iso(folder):
    path, tree = os.path.join(folder, "iso"), os.path.join(folder, "tree")
    os.mkdir(tree)
    for n in range(2000):
        write(os.path.join(tree, f"file-{n}-with-a-name-that-takes-some-room"), "x")
    run("xorriso", "-as", "mkisofs", "-quiet", "-J", "-R", "-V", "BENCH", "-o", path, tree)
    return path


def bench_inspect(results, build, work, note):
    """Seconds as the command measures them itself: the image is opened and looked at, and nothing is printed yet."""
    slowest, most = 0.0, 0.0

    def inspect(path, *options):
        answer = json.loads(run(os.path.join(build, "imaged", "cli", "wherry"), "image", "inspect", path, "--json", *options))
        return answer["safe"], answer["cost"]
    for what, path in make_images(work):
        costs = [inspect(path, "--quick") for _ in range(RUNS + 1)][1:]
        safe, full = inspect(path)
        if safe is not True or any(s is not None for s, _ in costs):
            raise Failed(f"{what}: safe is {safe}, quick {costs[0][0]}")
        ms, mib = statistics.median(c["ms"] for _, c in costs), costs[0][1]["bytes"] / MiB
        note(f"    {what}: quick {ms:.2f} ms, {mib:.2f} MiB; in full {full['ms']:.1f} ms, {full['bytes'] / MiB:.2f} MiB")
        slowest, most = max(slowest, ms), max(most, mib)
    results.add("inspect --quick, slowest format", slowest, QUICK_MS, "ms", 1.0, RUNS)
    results.add("inspect --quick, reads most", most, QUICK_MIB, "MiB", 1.0, 1)
