"""Processes, network namespaces and CPU time: what a measurement needs of the machine."""

import ctypes
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

PROXY_CPU = 0
LOAD_CPU = 1
RR_PRIORITY = 10
PR_SET_PDEATHSIG = 1
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    """Something that the run needs did not work; the text says what to do."""


class Processes:
    """The processes of one run. They end with it, even if it is killed; none other is touched."""

    def __init__(self):
        self._all = []

    def start(self, arguments, cpu, namespace=None, log=None, **options):
        """Starts a process on one CPU, in real time as it measures, in a network namespace."""
        out = open(log, "ab") if log else subprocess.DEVNULL
        process = subprocess.Popen(
            [str(argument) for argument in arguments],
            stdin=subprocess.DEVNULL,
            stdout=options.pop("stdout", out),
            stderr=out,
            preexec_fn=lambda: _prepare(cpu, namespace),
            **options,
        )
        self._all.append(process)
        return process

    def stop(self, process):
        """Ends one process."""
        self._all.remove(process)
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def stop_all(self):
        """Ends all that are left, the last first."""
        for process in reversed(list(self._all)):
            self.stop(process)


def _prepare(cpu, namespace):
    """In the child, before the program: dies with its parent, enters the namespace, takes its CPU."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if namespace:
        namespace.enter()
    os.sched_setaffinity(0, {cpu})
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(RR_PRIORITY))
    except PermissionError:
        os.nice(-15 if os.geteuid() == 0 else 0)


class Namespace:
    """A network namespace of the run's own, held by a process that does nothing."""

    def __init__(self, name):
        self.name = name
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sleep", "infinity"],
            preexec_fn=lambda: _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
        )
        own = os.stat("/proc/self/ns/net").st_ino
        wait(lambda: os.stat(self.path).st_ino != own, f"network namespace {name}")
        self.run("ip", "link", "set", "lo", "up")

    @property
    def path(self):
        return f"/proc/{self._holder.pid}/ns/net"

    def enter(self):
        """Moves the calling process into it."""
        with open(self.path) as namespace:
            if _libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"entering {self.path}")

    def run(self, *arguments, stdin=None):
        """Runs a command in it."""
        result = subprocess.run(
            arguments, input=stdin, text=True, capture_output=True, preexec_fn=self.enter
        )
        if result.returncode != 0:
            raise Failed(f"{' '.join(arguments)}: {result.stderr.strip()}")

    def connect_to(self, other, own_address, other_address):
        """Joins two namespaces by a veth pair."""
        ends = [(self, "to-peer", own_address), (other, "to-peer", other_address)]
        self.run("ip", "link", "add", "to-peer", "type", "veth",
                 "peer", "name", "to-peer", "netns", str(other._holder.pid))
        for namespace, link, address in ends:
            namespace.run("ip", "address", "add", f"{address}/24", "dev", link)
            namespace.run("ip", "link", "set", link, "up")

    def capture(self, outbound_port, inbound_port, exempt_ports):
        """Leads TCP connections of this namespace through its proxy, as a sidecar has it: all but
        those with the proxy's marks (1 outbound, 2 inbound) and those over loopback."""
        ports = ", ".join(str(port) for port in exempt_ports)
        self.run("nft", "-f", "-", stdin=f"""
            table inet capture {{
                chain outbound {{
                    type nat hook output priority -100;
                    oifname "lo" return
                    meta mark {{ 1, 2 }} return
                    meta l4proto tcp tcp dport != {{ {ports} }} redirect to :{outbound_port}
                }}
                chain inbound {{
                    type nat hook prerouting priority -100;
                    iifname "lo" return
                    meta l4proto tcp tcp dport != {{ {ports} }} redirect to :{inbound_port}
                }}
            }}""")

    def close(self):
        """Lets it go; the kernel removes it with its links."""
        self._holder.kill()
        self._holder.wait()


def wait(condition, what, seconds=15):
    """Waits for a condition; an error while it is not met yet counts as no."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if condition():
                return
        except OSError:
            pass
        time.sleep(0.02)
    raise Failed(f"{what} did not come up within {seconds} s")


def fetch(namespace, address, path="/", host="echo"):
    """The whole answer to a GET, status line included, asked from inside a namespace; empty if
    there is none."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            namespace.enter()
            with socket.create_connection(address, timeout=2) as connection:
                request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
                connection.sendall(request.encode())
                while data := connection.recv(1 << 16):
                    os.write(writer, data)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read().decode(errors="replace")
    os.waitpid(child, 0)
    return answer


def answers(namespace, address, path="/", host="echo"):
    """Whether a GET is answered by 200."""
    return fetch(namespace, address, path, host).split(" ")[1:2] == ["200"]


def cpu_microseconds(process):
    """CPU time of all threads of a process; work that the kernel does in their name is in it."""
    total = 0
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1000


def resident_mebibytes(process):
    """Memory of a process that is in RAM."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    kibibytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return int(kibibytes) / 1024
