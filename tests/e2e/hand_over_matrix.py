#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""F01 to F03, F09: each side is killed, stopped for a while or cut off in each of its states, in both
modes, with each arbiter.

A process is told by WHERRY_HOLD_AT to stop itself in a state; then the fault comes, and it goes on
(or does not). Afterwards the guest runs in exactly one place without an error; or a live side is in
a named state, out of which `wherry resolve` leads, by what a person can know; or it was killed with
the process that had it. Prints what became of each case, and counts.
"""

import collections
import itertools
import json
import shutil
import signal
import socket
import subprocess
import sys
import time

from cutting_proxy import CuttingProxy
from instances import HostCase, is_soft, is_stopped, main, skip, wait_until

SOURCE_STATES = ["plan", "precopy", "stop_and_copy", "offer", "committed"]
DESTINATION_STATES = ["plan", "precopy", "state", "accepted", "done"]
HYBRID_ONLY = {"source": ["serving"], "destination": ["faulting"]}
# Where who has the VM is, or may be, the arbiter's to say. A source goes through `committed` only
# where it reads of it before the destination's word comes.
AT_THE_ARBITER = ["offer", "serving", "accepted", "faulting", "done"]
FAULTS = ["kill", "stop", "cut"]
# Slower than the guest dirties, with a goal that no round of pre-copy meets; and what is missing
# does not all come before a fault does.
SLOW = ["--bandwidth", "24M", "--downtime", "1ms", "--postcopy-bandwidth", "4M"]
SLOW_SOFT = ["--bandwidth", "1M", "--downtime", "1ms", "--postcopy-bandwidth", "200K"]
GUEST = "zero=20 compressible=40 random=40 hot=16M rate=8000 report=50"
SOFT_GUEST = "zero=50 compressible=25 random=25 hot=1M rate=600 check=2000 report=100"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class HandOverMatrix(HostCase):
    def setUp(self):
        super().setUp()
        self.pki()
        self.tally = collections.Counter()
        self.numbers = itertools.count()

    def file_arbiter(self):
        directory = self.directory / "arbiter"
        self.wherry("arbiter", "init", directory)
        return f"file:{directory}"

    def etcd_arbiter(self):
        if shutil.which("etcd") is None:
            skip(self, "hand-over matrix with etcd", "etcd-server is not installed")
        address = f"127.0.0.1:{free_port()}"
        client, peer = f"https://{address}", f"http://127.0.0.1:{free_port()}"
        certificates = self.odd_pki("both")  # its gateway is a client of its own
        log = open(self.directory / "etcd.log", "wb")
        self.addCleanup(log.close)
        server = subprocess.Popen(
            ["etcd", "--data-dir", self.directory / "etcd", "--listen-client-urls", client,
             "--advertise-client-urls", client, "--listen-peer-urls", peer,
             "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
             "--client-cert-auth", "--trusted-ca-file", certificates / "ca-cert.pem",
             "--cert-file", certificates / "server-cert.pem",
             "--key-file", certificates / "server-key.pem"],
            stdout=log, stderr=subprocess.STDOUT)

        def end():
            server.kill()
            server.wait()
        self.addCleanup(end)

        def answers():
            try:
                socket.create_connection(address.split(":")).close()
                return True
            except OSError:
                return False
        wait_until("etcd to answer", answers)
        return f"etcd:{address}?tls={self.directory / 'pki'}"

    def launch(self, case):
        number = next(self.numbers)
        options = SOFT_GUEST if is_soft() else GUEST
        with self.holding_at(case.state if case.side == "source" else None):
            self.a = self.run_vm(
                f"a{number}", options=options, memory="32M" if is_soft() else "64M")
        with self.holding_at(case.state if case.side == "destination" else None):
            self.b = self.receive_vm(f"b{number}")
        self.a.wait_for_reports(3)
        self.proxy = CuttingProxy(self.port_of(self.b.name))
        self.addCleanup(self.proxy.close)

    def instance(self, side):
        return self.a if side == "source" else self.b

    def state_of(self, instance):
        """What `wherry status` says of it; None where it is gone."""
        if instance.process.poll() is not None:
            return None
        done = self.wherry("status", instance.name, "--json", code=None)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def settle(self):
        """Where the VM is when nothing moves by itself any more: (runs on, in doubt on, waits for a
        lost side on)."""
        steady = since = None
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            # In this order: a source that was seen to run before its guest moved proves nothing.
            states = {side: self.state_of(self.instance(side)) for side in ("destination", "source")}
            running = [side for side, s in states.items() if s and s["state"] == "running"]
            doubt = [side for side, s in states.items() if s and s["state"] in ("in-doubt", "split")]
            waits = [side for side, s in states.items()
                     if s and "is not connected" in s.get("explanation", "")]
            self.assertLess(len(running), 2, "the guest runs twice")
            moving = any(
                s and s.get("job", {}).get("state") == "running" and side not in waits + doubt
                for side, s in states.items())
            if (running, doubt, waits) != steady or moving:
                steady, since = (running, doubt, waits), time.monotonic()
            elif time.monotonic() - since > (1.0 if running and not waits else 3.0):
                return steady
            time.sleep(0.1)
        self.fail(f"it does not come to rest: {states}")

    def resolve(self, case, running, doubt):
        """What a person does who can look at both hosts. Returns who has the VM then, if anyone."""
        keep = running[0] if running else None
        if doubt and not keep:
            gone = [side for side in ("source", "destination")
                    if self.instance(side).process.poll() is not None]
            # Where pages are missing at the destination, it has no guest of its own.
            keep = "source" if case.mode == "hybrid" or "source" not in gone else "destination"
        for side in sorted(doubt):  # first the side that may be kept against its will
            fenced = ["--fenced"] if case.is_shared() and side == keep == "source" else []
            self.wherry("resolve", self.instance(side).name, "--keep", keep, *fenced)
        if keep and self.instance(keep).process.poll() is None:
            wait_until(
                f"the {keep} to go on",
                lambda: (self.state_of(self.instance(keep)) or {}).get("state") == "running")
            return keep
        return None

    def run_case(self, case):
        self.launch(case)
        held = self.instance(case.side)
        slow = SLOW_SOFT if is_soft() else SLOW
        mode = ["--mode", "hybrid", *slow] if case.mode == "hybrid" else ["--on-stall", "stop"]
        self.wherry(
            "migrate", self.a.name, "--to", f"127.0.0.1:{self.proxy.port}", "--tls", "pki",
            "--arbiter", case.arbiter, *mode, "--detach")
        wait_until(
            f"the {case.side} at {case.state}",
            lambda: is_stopped(held.process) or held.process.poll() is not None)
        self.assertIsNone(held.process.poll(), f"it ended before: {held.said()}")
        if case.fault == "kill":
            held.process.send_signal(signal.SIGKILL)
            held.process.wait()
        elif case.fault == "cut":
            self.proxy.cut()
            held.process.send_signal(signal.SIGCONT)
            time.sleep(0.5)
            self.proxy.mend()
        else:
            time.sleep(1.0)
            held.process.send_signal(signal.SIGCONT)
        running, doubt, waits = self.settle()
        if waits and case.fault == "kill" and case.mode == "hybrid":
            return "half of it was killed", "named"
        self.assertEqual(waits, [], f"{self.a.said()} {self.b.said()}")
        end = self.resolve(case, running, doubt)
        if end is None:
            self.assertTrue(case.may_kill_the_guest(), f"gone: {self.a.said()} {self.b.said()}")
            return "killed with its process", "resolved" if doubt else "by itself"
        self.assert_goes_on(self.instance(end))
        return end, "resolved" if doubt else "by itself"

    def run_cases(self, arbiter, states_wanted):
        for mode, side in itertools.product(("precopy", "hybrid"), ("source", "destination")):
            states = SOURCE_STATES if side == "source" else DESTINATION_STATES
            for state in states + (HYBRID_ONLY[side] if mode == "hybrid" else []):
                if state not in states_wanted:
                    continue
                for fault in FAULTS:
                    case = Case(arbiter, mode, side, state, fault)
                    with self.subTest(case=case):
                        end, how = self.run_case(case)
                        self.tally[(mode, fault, end, how)] += 1
                        print(f"{case} -> {end}, {how}", flush=True)
                    for vm in (self.a, self.b):
                        if vm.process.poll() is None:
                            vm.process.kill()
                            vm.process.wait()
        print(f"cases with {arbiter.partition(':')[0]} by mode, fault and end:")
        for (mode, fault, end, how), count in sorted(self.tally.items()):
            print(f"  {count:3}  {mode:8} {fault:5} {end}, {how}")
        sys.stdout.flush()

    def test_F01_F03_F09_each_side_fails_in_each_of_its_states(self):
        states = SOURCE_STATES + DESTINATION_STATES + ["serving", "faulting"]
        self.run_cases("local", states)

    def test_F01_F03_F09_with_a_directory_as_arbiter(self):
        self.run_cases(self.file_arbiter(), AT_THE_ARBITER)

    def test_F01_F03_F09_with_etcd_as_arbiter_by_tls(self):
        self.run_cases(self.etcd_arbiter(), AT_THE_ARBITER)


class Case(collections.namedtuple("Case", "arbiter mode side state fault")):
    def is_shared(self):
        return self.arbiter != "local"

    def may_kill_the_guest(self):
        """Whether the process that was killed had it, or the only whole copy of it."""
        if self.fault != "kill":
            return False
        if self.side == "destination":
            return self.state in ("done", "faulting")
        before = self.state in ("plan", "precopy", "stop_and_copy")
        return before or (self.state == "offer" and self.mode == "hybrid")

    def __str__(self):
        name = self.arbiter.partition(":")[0]
        return f"{name:5} {self.mode:8} {self.side:12} {self.state:14} {self.fault:5}"


if __name__ == "__main__":
    main()
