# SPDX-License-Identifier: Apache-2.0
"""A lab, its guests as the kernel shows them, and the ways to hurt it. Runs in a box (scripts/lib/box)."""

import json
import os
import re
import subprocess
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
LAB = os.path.join(ROOT, "scripts", "lab")
BOX = os.path.join(ROOT, "scripts", "lib", "box")
LOGS = "/var/tmp/wherry-lab"
STORE = LOGS + "/store"  # the directory, or what its server keeps


class Failed(Exception):
    pass


def run(*argv, timeout=180, **kw):
    """Its standard output; Failed says why where there is none."""
    try:
        r = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
                           timeout=timeout, **kw)
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(argv)}: no end after {timeout} s") from None
    if r.returncode != 0:
        raise Failed(f"{' '.join(argv)}: exit {r.returncode}: {(r.stderr or r.stdout).strip()[-600:]}")
    return r.stdout


def wait_until(seconds, holds, every=0.1):
    """The first true answer, or None when the time is over; a question that Failed is asked again."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            answer = holds()
            if answer:
                return answer
        except (Failed, OSError, ValueError, KeyError):
            pass
        if time.monotonic() > deadline:
            return None
        time.sleep(every)


def qemus():
    """(host, instance, pid) of every guest's QEMU, from /proc."""
    hosts = {}
    for name in os.listdir("/run/netns"):
        if re.fullmatch(r"wl-h\d", name):
            try:
                hosts[f"net:[{os.stat('/run/netns/' + name).st_ino}]"] = name[3:]
            except OSError:
                pass  # its plug was just pulled
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm") as f:
                if not f.read().startswith("qemu-system"):
                    continue
            with open(f"/proc/{pid}/cmdline") as f:
                guest = re.search(r"\0guest=wherry-([^,\0]+)", f.read())
            host = hosts.get(os.readlink(f"/proc/{pid}/ns/net"))
        except OSError:
            continue  # it has just ended
        if guest and host:
            found.append((host, guest.group(1), int(pid)))
    return found


def vcpu_ran(pid):
    """Its first vCPU was given time; that of a QEMU which waits for the gate sleeps."""
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/stat") as f:
                name, _, rest = f.read().partition(") ")
            if "(CPU 0/" in name:
                return int(rest.split()[11]) > 0
    except OSError:
        pass
    return False


class Lab:
    """Up while the `with` lasts. room: a size such as "2g"; the store is then one that fill_store() can fill."""

    def __init__(self, store, hosts, build, work, up=(), room=None):
        self.store, self.build, self.work, self.up = store, build, work, up
        self.room = room if store != "rbd" else None
        self.hosts = [f"h{n}" for n in range(1, hosts + 1)]
        self.key = os.path.join(work, "key")

    def __enter__(self):
        if self.room:
            os.makedirs(STORE)
            run("mount", "-t", "tmpfs", "-o", f"mode=755,size={self.room}", "wherry-store", STORE)
        self.lab("up", "--store", self.store, "--hosts", str(len(self.hosts)), "--build", self.build, *self.up)
        for line in self.lab("env").splitlines():
            setting = re.match(r"export (\w+)='?([^']*)'?", line)
            if setting:
                os.environ[setting.group(1)] = setting.group(2)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", self.key)
        return self

    def __exit__(self, *_):
        try:
            if self.room:
                run("umount", "--lazy", STORE)
            self.lab("down")
        except Failed:
            pass  # the box ends what is left

    def lab(self, *argv):
        return run(LAB, *argv)

    def wherry(self, *argv, timeout=180):
        return run(os.path.join(self.build, "imaged", "cli", "wherry"), *argv, timeout=timeout)

    def add_image(self):
        image = run(os.path.join(ROOT, "scripts", "guest-images"), "small", "--list").strip()
        self.wherry("image", "add", image, "--name", "small")

    def run_instance(self, name, host, *options):
        self.wherry("run", "small", "--name", name, "--host", host, "--memory", "128M", "--disk", "512M",
                    "--ssh-key", self.key + ".pub", *options)

    def show(self, name):
        return json.loads(self.wherry("show", name, "--json"))

    def host_records(self):
        answer = json.loads(self.wherry("host", "list", "--json"))
        return answer if isinstance(answer, list) else answer["hosts"]

    def hosts_up(self):
        return all(h["alive"] and h["state"] == "up" for h in self.host_records())

    def status(self):
        return json.loads(self.lab("status", "--json"))

    def ssh(self, address, command, timeout=120):
        return run("ssh", "-q", "-i", self.key, "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
                   "-o", "StrictHostKeyChecking=accept-new", "-o", "UserKnownHostsFile=" + os.path.join(self.work, "known-hosts"),
                   "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=6",
                   "root@" + address, command, timeout=timeout)

    def bring_up(self, *argv):
        """A daemon that finds no storage when it starts ends, and its unit (Restart=always) starts it again each second."""
        deadline = time.monotonic() + 120
        while True:
            try:
                return self.lab(*argv)
            except Failed as e:
                if "died while starting" not in str(e) or time.monotonic() > deadline:
                    raise
            time.sleep(1)

    # What can be done to it; each returns what undoes it, or None.

    def power_off(self, host):
        self.lab("power-off", host)
        return lambda: self.bring_up("power-on", host)

    def reboot(self, host):
        """The first half of it: the host goes down in order."""
        trouble = None
        try:
            self.lab("shutdown", host)
        except Failed as e:
            trouble = e

        def on():
            if trouble:
                try:
                    self.lab("power-off", host)
                except Failed:
                    pass  # it was off
            self.bring_up("power-on", host)
            if trouble:
                raise trouble
        return on

    def hang(self, host, *what):
        self.lab("pause", host, *what)

        def resume():
            try:
                self.lab("resume", host, *what)
            except Failed as e:
                if "nothing of" not in str(e):  # hostd has ended the guests of a host that hung for too long
                    raise
        return resume

    def kill(self, node, daemon):
        self.lab("kill", node, daemon)
        return lambda: self.bring_up("start", node, daemon)

    def cut(self, host, *links):
        for link in links:
            self.lab("cut", host, link)
        return lambda: self.lab("heal", host)

    def kill_qemu(self, host):
        here = sorted(q for q in qemus() if q[0] == host)
        if not here:
            raise Failed(f"nothing of qemu runs on {host}")
        os.kill(here[0][2], 9)

    def all_off(self):
        for host in self.hosts:
            self.lab("power-off", host)

        def on():
            for host in reversed(self.hosts):
                self.bring_up("power-on", host)
        return on

    def fill_store(self):
        """No byte of room is left: the file system below a directory or an export shrinks to what is on it.
        free_store() ends that, also where this failed half-way."""
        def shrunk():
            fs = os.statvfs(STORE)
            run("mount", "-o", f"remount,size={(fs.f_blocks - fs.f_bfree) * fs.f_frsize}", STORE)
            return True
        if self.store == "rbd":
            self.quota(1)
        elif not wait_until(30, shrunk):
            raise Failed("the store cannot be filled")

    def free_store(self):
        if self.store == "rbd":
            self.quota(0)
        else:
            run("mount", "-o", f"remount,size={self.room}", STORE)

    def quota(self, most):
        def set_quota():
            self.lab("exec", "store", "ceph", "--conf", STORE + "/ceph.conf", "--connect-timeout", "20",
                     "osd", "pool", "set-quota", "wherry", "max_bytes", str(most))
            return True
        if not wait_until(120, set_quota):
            raise Failed(f"the pool's quota cannot be set to {most}")

    def slow_store(self):
        """The server stands still for 1.4 s in every 2 s: longer than a listing may take, shorter than a death."""
        over = threading.Event()
        error = []

        def stutter():
            while not over.is_set():
                try:
                    self.lab("pause", "store")
                    time.sleep(1.4)
                    self.lab("resume", "store")
                except Failed as e:
                    error.append(e)
                    return
                over.wait(0.6)
        thread = threading.Thread(target=stutter)
        thread.start()

        def undo():
            over.set()
            thread.join()
            if error:
                raise error[0]
        return undo

    def clash(self, host):
        """Another machine, the next host, runs a hostd that says it is `host`: same name, same number, its own address."""
        other = self.hosts[self.hosts.index(host) - 1]
        address = f"10.77.1.{other[1:]}"
        with open(f"/run/wherry-lab/{host}/hostd.conf") as f:
            text = f.read()
        text = re.sub(r"(?m)^(address) = .*", rf"\1 = {address}", text)
        text = re.sub(r"(?m)^(listen) = .*", rf"\1 = {address}:7999", text)
        text = re.sub(r"(?m)^(gate_socket) = .*", r"\1 = /run/wherry/clash.sock", text)
        path = os.path.join(self.work, "clash.conf")
        with open(path, "w") as f:
            f.write(text)
        with open(f"{LOGS}/{other}/log/clash.log", "a") as log:
            clone = subprocess.Popen([LAB, "exec", other, os.path.join(self.build, "hostd", "hostd"), "--config", path],
                                     stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

        def undo():
            if clone.poll() is None:
                os.killpg(clone.pid, 9)
            clone.wait()
        return undo

    def hurt(self, kind, target):
        """Does the fault of that kind (chaos_plan.FAULTS); full-store is chaos_full's."""
        if kind == "clash":
            return self.clash(target)
        if kind == "hang-store":
            return self.hang("store")
        if kind == "slow-store":
            return self.slow_store()
        if kind == "reboot":
            return self.reboot(target)
        if kind in ("power-off", "store-off"):
            return self.power_off("store" if kind == "store-off" else target)
        if kind == "all-off":
            return self.all_off()
        if kind == "kill-qemu":
            return self.kill_qemu(target)
        verb, what = kind.split("-")
        if verb == "hang":
            return self.hang(target, *([] if what == "host" else [what]))
        if verb == "cut":
            return self.cut(target, *(("network", "storage") if what == "both" else (what,)))
        return self.kill(target, what)
