# SPDX-License-Identifier: Apache-2.0
"""Checks that heartbeat.awk, follow_console and the watch over the lab host find what they must find.

Needs busybox only, not QEMU."""

import contextlib
import io
import shutil
import subprocess
import tempfile
from pathlib import Path
from unittest import mock

import lab_host

HERE = Path(__file__).resolve().parent


class Console:
    """A well-behaved guest's console of 120 heartbeats; each case spoils a copy in one way."""

    def __init__(self):
        self.lines = []
        for n in range(1, 121):
            self.lines.append(f"{5 + n / 10:.2f} heartbeat n={n} uptime={n / 10:.2f}\r")
            if n % 50 == 0:
                self.lines.append(f"{5 + n / 10:.2f} dmesg lines=300 complaints=0\r")

    def index(self, n):
        return next(i for i, line in enumerate(self.lines) if f" n={n} " in line)

    def shifted(self, n, wall, uptime):
        """From heartbeat n on, the observer's and the guest's clock are ahead by so many seconds."""
        for i in range(self.index(n), len(self.lines)):
            words = self.lines[i].split(" ")
            words[0] = f"{float(words[0]) + wall:.2f}"
            if words[1] == "heartbeat":
                words[3] = f"uptime={float(words[3].strip().removeprefix('uptime=')) + uptime:.2f}\r"
            self.lines[i] = " ".join(words)
        return self.lines

    def without(self, n):
        del self.lines[self.index(n)]
        return self.lines

    def with_line(self, n, line):
        self.lines.insert(self.index(n), line)
        return self.lines

    def replaced(self, old, new):
        return [line.replace(old, new) for line in self.lines]


# name: (console, what heartbeat.awk says; None when the console is good)
CASES = {
    "a good console": (Console().lines, None),
    "a blackout within the limit": (Console().shifted(60, 0.8, 0.8), None),
    "a clock that stood still within the limit": (Console().shifted(60, 0.8, 0.0), None),
    "a gap on the guest's clock": (Console().shifted(60, 1.2, 1.2), "gap of 1.3 s on the guest's clock"),
    "a gap that the guest's clock hides": (Console().shifted(60, 1.5, 0.0), "gap of 1.6 s, 0.1 s on"),
    "a clock that goes back": (Console().shifted(60, 0.0, -0.5), "the guest's clock went back"),
    "a lost heartbeat": (Console().without(60), "heartbeat 61 follows 59"),
    "a heartbeat seen twice": (Console().with_line(60, "11.00 heartbeat n=59 uptime=5.90\r"), "59 follows 59"),
    "a damaged heartbeat": (Console().replaced("n=60 uptime", "n=6 [    5.1] BUG: uptime"), "damaged heartbeat"),
    "a guest that started again": (Console().with_line(60, "11.00 heartbeat n=1 uptime=2.00\r"), "1 follows 59"),
    "too few heartbeats": (Console().lines[:40], "only 40 heartbeats"),
    "no heartbeat at all": ([], "only 0 heartbeats"),
    "a complaint in the kernel log": (Console().replaced("complaints=0", "complaints=2"), "kernel complains"),
    "a complaint on the console": (Console().with_line(60, "11.00 watchdog: BUG: soft lockup - CPU#1"), "complaint"),
    "no report at the end": (Console().lines[:-22], "no report on the kernel log after heartbeat 60"),
}


def check_heartbeat_case(name, lines, expected):
    done = subprocess.run(
        ["busybox", "awk", "-f", HERE / "heartbeat.awk", "-v", "min_beats=90", "-v", "max_gap=1", "-v", "report_after=60"],
        input="".join(f"{line}\n" for line in lines), capture_output=True, text=True, timeout=30,
    )
    right = done.returncode == 0 if expected is None else done.returncode == 1 and expected in done.stdout
    print(f"{'ok' if right else 'WRONG'}: {name}")
    if not right:
        print(f"  expected {expected or 'no finding'}; exit code {done.returncode}:\n{done.stdout}{done.stderr}")
    return right


def check_follow_console():
    """A line that begins in one file and ends in the next is one line."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "first.log"), Path(folder, "second.log")
        first.write_text("heartbeat n=1 uptime=1.00\nheartbeat n=2 up")
        with subprocess.Popen(["busybox", "sh", HERE / "follow_console", first, second],
                              stdout=subprocess.PIPE, text=True) as follower:
            begun = follower.stdout.readline()
            second.write_text("time=1.10\n")
            joined = follower.stdout.readline()
            follower.kill()
    right = begun.endswith(" heartbeat n=1 uptime=1.00\n") and joined.endswith(" heartbeat n=2 uptime=1.10\n")
    print(f"{'ok' if right else 'WRONG'}: a line split over two consoles is joined")
    if not right:
        print(f"  got {begun!r} and {joined!r}")
    return right


ALIVE = "echo lab host alive cpu=0 1.0; echo lab host alive cpu=1 1.0"
# name: (what the lab host does, time limit, lab_host.run's result, how often the lab host was started)
HOSTS = {
    "a scenario that succeeds": (f"{ALIVE}; echo LAB FINISHED code=0; exec sleep 9", 9, 0, 1),
    "a scenario that fails is not tried again": (f"{ALIVE}; echo LAB FINISHED code=3; exec sleep 9", 9, 3, 1),
    "a host that dies": (ALIVE, 9, lab_host.HOST_DIED, 1),
    "a scenario that lasts too long is not tried again":
        (f"while :; do {ALIVE}; sleep 0.1; done", 3, lab_host.TIMED_OUT, 1),
    "a host with one silent CPU is started afresh":
        (f"{ALIVE}; while :; do echo lab host alive cpu=0 2.0; sleep 0.1; done", 30, lab_host.HOST_HUNG, 3),
    "a host that never comes up is started afresh": ("echo booting; exec sleep 30", 30, lab_host.HOST_HUNG, 3),
    "a hung host that recovers": (f'{ALIVE}; [ -e "$0.1" ] && echo LAB FINISHED code=0; exec sleep 30', 30, 0, 2),
    "the time limit counts all attempts": (f"{ALIVE}; exec sleep 30", 1.5, lab_host.TIMED_OUT, 2),
}


def check_host_case(name, does, limit_s, expected, starts):
    with tempfile.TemporaryDirectory() as folder:
        marks = Path(folder, "start")
        count = 'i=0; while [ -e "$0.$i" ]; do i=$((i + 1)); done; : >"$0.$i"'
        output = io.TextIOWrapper(io.BytesIO())
        with mock.patch.multiple(lab_host, SILENCE_S=1.0, BOOT_S=1.0), \
                contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()):
            code = lab_host.run(["busybox", "sh", "-c", f"{count}; {does}", marks], limit_s)
        started = len(list(Path(folder).iterdir()))
    right = code == expected and started == starts
    print(f"{'ok' if right else 'WRONG'}: {name}")
    if not right:
        print(f"  code {code}, expected {expected}; {started} starts, expected {starts}")
    return right


def main():
    if not shutil.which("busybox"):
        print("SKIPPED: lab: package busybox-static is not installed")
        return 77
    results = [check_heartbeat_case(name, *case) for name, case in CASES.items()]
    results.append(check_follow_console())
    results += [check_host_case(name, *case) for name, case in HOSTS.items()]
    return 0 if all(results) else 1
