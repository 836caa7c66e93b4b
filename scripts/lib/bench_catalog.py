# SPDX-License-Identifier: Apache-2.0
"""scripts/bench catalog: what lists, show and create cost in a catalog of many images."""

import json
import os
import tempfile

from bench_services import Store, make_network
from chaos_lab import run


def suite(results, stores, images, rounds, build, note):
    """In a box (scripts/lib/box), on each of the stores in turn."""
    make_network()
    for kind in stores:
        note(f"{kind}, {images} images:")
        with tempfile.TemporaryDirectory(dir="/var/tmp") as work, Store(kind, work) as store:
            ceph = [store.conf, "wherry"] if kind == "rbd" else []
            for line in run(os.path.join(build, "tests", "bench", "bench-catalog"), store.url, str(images), str(rounds), *ceph,
                            timeout=3600).splitlines():
                f = json.loads(line)
                bar = None if f["limit"] is None else 1.0
                results.add(f"{kind}: {f['name']}", f["value"], f["limit"], f["unit"], bar, f["runs"])
