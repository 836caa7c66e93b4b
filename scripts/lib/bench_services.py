# SPDX-License-Identifier: Apache-2.0
"""A store with imaged and Glance on it, for scripts/bench import and catalog. Runs in a box (scripts/lib/box)."""

import contextlib
import json
import os
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from chaos_lab import Failed, ROOT, run, wait_until

ADDRESS = "10.78.0.1"
TOKEN = "the-token-of-this-benchmark"
EATMYDATA = "eatmydata"  # fsync and its kin do nothing below it

PASTE = """[pipeline:glance-api]
pipeline = unauthenticated-context rootapp
[composite:rootapp]
paste.composite_factory = glance.api:root_app_factory
/: apiversions
/v2: apiv2app
[app:apiversions]
paste.app_factory = glance.api.versions:create_resource
[app:apiv2app]
paste.app_factory = glance.api.v2.router:API.factory
[filter:unauthenticated-context]
paste.filter_factory = glance.api.middleware.context:UnauthenticatedContextMiddleware.factory
"""


def write(path, text):
    with open(path, "w") as f:
        f.write(text)
    return path


def make_network():
    """An address that is not the loopback's, which NFS servers want; once a box."""
    run("ip", "link", "add", "store0", "type", "bridge")
    run("ip", "address", "add", ADDRESS + "/24", "dev", "store0")
    run("ip", "link", "set", "store0", "up")


class Store(contextlib.ExitStack):
    """Its servers are up while the `with` lasts; `work` is an empty folder on the disk."""

    def __init__(self, kind, work):
        super().__init__()
        self.kind, self.work = kind, work
        self.state = os.path.join(work, kind)
        self.conf = os.path.join(self.state, "ceph.conf")
        self.url = {"dir": "dir:" + self.state, "nfs": f"nfs://{ADDRESS}/export", "rbd": "rbd:wherry"}[kind]
        self.ceph = ["--conf", self.conf, "--id", "wherry"]

    def __enter__(self):
        os.mkdir(self.state)
        if self.kind != "dir":
            server = os.path.join(ROOT, "scripts", "lib", {"nfs": "nfs-server", "rbd": "ceph-server"}[self.kind])
            run(server, "start", self.state, ADDRESS)
            self.callback(run, server, "stop", self.state)
        return self

    def settings(self):
        extra = f"ceph_conf = {self.conf}\nceph_user = wherry\n" if self.kind == "rbd" else ""
        return f"[store]\nurl = {self.url}\n{extra}"


class Service:
    """Speaks the Image API at self.url; the process is self.pid."""

    def __init__(self, store, name, port, argv):
        self.url = f"http://{ADDRESS}:{port}"
        self.log = os.path.join(store.work, f"{store.kind}-{name}.log")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.pid = self.process.pid
        store.callback(self.end)
        if not wait_until(60, self.serves, every=0.05):
            with open(self.log) as log:
                raise Failed(f"{name} does not start: {log.read()[-600:]}")

    def serves(self):
        if self.process.poll() is not None:
            raise Failed(f"exit {self.process.returncode}")
        self.call("GET", "/v2/images?limit=1")
        return True

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def call(self, method, path, body=None):
        request = urllib.request.Request(self.url + path, method=method, headers={
            "X-Auth-Token": TOKEN, "Content-Type": "application/json"},
            data=None if body is None else json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
        except urllib.error.HTTPError as e:
            raise Failed(f"{method} {path}: {e.code} {e.read()[:300].decode(errors='replace')}") from None
        return json.loads(text) if text else None

    def put(self, path):
        """The image's id, active, and the seconds that the same client took for the same file."""
        made = self.call("POST", "/v2/images", {"name": "bench", "disk_format": "raw", "container_format": "bare"})
        begun = time.monotonic()
        run("curl", "--silent", "--show-error", "--fail", "--header", "Expect:", "--header", f"X-Auth-Token: {TOKEN}",
            "--header", "Content-Type: application/octet-stream", "--upload-file", path,
            f"{self.url}/v2/images/{made['id']}/file", timeout=600)
        seconds = time.monotonic() - begun
        found = self.call("GET", f"/v2/images/{made['id']}")
        if found["status"] != "active" or found["size"] != os.path.getsize(path):
            raise Failed(f"{self.url}: the image is {found['status']}, {found['size']} bytes")
        return made["id"], seconds

    def peak_reset(self):
        write(f"/proc/{self.pid}/clear_refs", "5")

    def memory(self, what="VmHWM"):
        """Bytes, at their highest since then; now: VmRSS."""
        with open(f"/proc/{self.pid}/status") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith(what + ":"))


class Imaged(Service):
    def __init__(self, store, build, name="imaged", port=8080, below=()):
        token = write(os.path.join(store.work, "token"), TOKEN + "\n")
        conf = write(os.path.join(store.work, name + ".conf"), store.settings() +
                     f"[api]\nlisten = {ADDRESS}:{port}\ntoken_file = {token}\n[images]\nundelete_seconds = 0\n")
        os.chmod(token, 0o600)
        super().__init__(store, name, port, [*below, os.path.join(build, "imaged", "imaged"), "--config", conf])

    def remove(self, image):
        self.call("DELETE", f"/v2/images/{image}?purge=true")


class Glance(Service):
    """As Debian runs it (eventlet's server), without Keystone, with sqlite for a database."""

    def __init__(self, store, below=()):
        self.folder = tempfile.mkdtemp(dir=store.work)
        backend = {"dir": f"stores = file\ndefault_store = file\nfilesystem_store_datadir = {self.folder}\n",
                   "rbd": f"stores = rbd\ndefault_store = rbd\nrbd_store_ceph_conf = {store.conf}\n"
                          "rbd_store_user = wherry\nrbd_store_pool = wherry\n"}[store.kind]
        paste = write(os.path.join(store.work, "glance-paste.ini"), PASTE)
        conf = write(os.path.join(store.work, "glance.conf"), f"""[DEFAULT]
bind_host = {ADDRESS}
bind_port = 9292
workers = 0
node_staging_uri = file://{self.folder}/staging
[database]
connection = sqlite:///{self.folder}/glance.sqlite
[paste_deploy]
config_file = {paste}
[oslo_concurrency]
lock_path = {self.folder}
[glance_store]
{backend}""")
        main = ["/usr/bin/python3", "-c", "import sys; from glance.cmd.{0} import main; sys.exit(main())"]
        run(*(word.format("manage") for word in main), "--config-file", conf, "db_sync", timeout=180)
        super().__init__(store, "glance", 9292, [*below, *(word.format("api") for word in main), "--config-file", conf])

    def remove(self, image):
        self.call("DELETE", f"/v2/images/{image}")

    def sync(self, image):
        """Makes a file durable, which Glance does not; the seconds."""
        begun = time.monotonic()
        run("sync", os.path.join(self.folder, image))
        return time.monotonic() - begun
