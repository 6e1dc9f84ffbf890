#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""F01 to F03, F06, F09: each side is killed, stopped for a while or cut off in each of its states.

A process is told by WHERRY_HOLD_AT to stop itself in a state; then the fault comes, and it goes on
(or does not). Afterwards the guest runs in exactly one place without an error, or a live side is in
a named state out of which `wherry resolve` leads, by what a person can know. Prints what became
of each case, and counts.
"""

import collections
import itertools
import json
import os
import signal
import sys
import time

from cutting_proxy import CuttingProxy
from instances import HostCase, is_soft, is_stopped, main, wait_until

SOURCE_STATES = ["plan", "precopy", "stop_and_copy", "offer", "committed"]
DESTINATION_STATES = ["plan", "precopy", "state", "accepted", "done"]
HYBRID_ONLY = {"source": ["serving"], "destination": ["faulting"]}
FAULTS = ["kill", "stop", "cut"]
# Slower than the guest dirties, with a goal that no round of pre-copy meets.
SLOW = ["--bandwidth", "24M", "--downtime", "1ms"]
GUEST = "zero=20 compressible=40 random=40 hot=16M rate=8000 report=50"
SOFT_GUEST = "zero=50 compressible=25 random=25 hot=1M rate=100 check=2000 report=100"


class HandOverMatrix(HostCase):
    def setUp(self):
        super().setUp()
        self.pki()
        self.tally = collections.Counter()

    def launch(self, side, hold, number):
        a, b = f"a{number}", f"b{number}"
        options = SOFT_GUEST if is_soft() else GUEST
        self.environment.pop("WHERRY_HOLD_AT", None)
        if side == "source":
            self.environment["WHERRY_HOLD_AT"] = hold
        self.a = self.run_vm(a, options=options, memory="32M" if is_soft() else "64M")
        self.environment.pop("WHERRY_HOLD_AT", None)
        if side == "destination":
            self.environment["WHERRY_HOLD_AT"] = hold
        self.b = self.receive_vm(b)
        self.environment.pop("WHERRY_HOLD_AT", None)
        self.a.wait_for_reports(3)
        self.proxy = CuttingProxy(self.port_of(b))
        self.addCleanup(self.proxy.close)

    def state_of(self, instance):
        """What `wherry status` says of it; None where it is gone."""
        if instance.process.poll() is not None:
            return None
        done = self.wherry("status", instance.name, "--json", code=None)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def runs(self, instance):
        state = self.state_of(instance)
        return state is not None and state["state"] == "running"

    def settle(self):
        """Where the VM is when nothing moves by itself any more: (runs on, in doubt on)."""
        def look():
            sides = {"source": self.a, "destination": self.b}
            states = {side: self.state_of(vm) for side, vm in sides.items()}
            running = [side for side, s in states.items() if s and s["state"] == "running"]
            doubt = [side for side, s in states.items() if s and s["state"] in ("in-doubt", "split")]
            moving = any(
                s and s["state"] in ("running", "incoming", "paused", "listening") and
                s.get("job", {}).get("state") == "running" and
                s["job"]["progress"].get("owner_state") not in ("faulting", "serving")
                for s in states.values())
            return running, doubt, moving
        deadline = time.monotonic() + 60
        steady = None
        since = time.monotonic()
        while time.monotonic() < deadline:
            running, doubt, moving = look()
            self.assertLess(len(running), 2, "the guest runs twice")
            if (running, doubt) != steady or moving:
                steady, since = (running, doubt), time.monotonic()
            elif time.monotonic() - since > (1.0 if running else 3.0):
                return steady
            time.sleep(0.1)
        return steady

    def resolve(self, running, doubt):
        """What a person does who can look at both hosts."""
        if running:
            for side in doubt:
                self.wherry("resolve", (self.a if side == "source" else self.b).name, "--keep", running[0])
            return running[0]
        if doubt == ["source", "destination"]:
            self.wherry("resolve", self.b.name, "--keep", "source")
            wait_until("the source to go on", lambda: self.runs(self.a))
            return "source"
        if doubt:
            keep = doubt[0]
            self.wherry("resolve", (self.a if keep == "source" else self.b).name, "--keep", keep)
            wait_until("the kept side to go on", lambda: self.runs(self.a if keep == "source" else self.b))
            return keep
        return "died with its process"

    def case(self, mode, side, hold, fault, number):
        self.launch(side, hold, number)
        held = self.a if side == "source" else self.b
        self.wherry(
            "migrate", self.a.name, "--to", f"127.0.0.1:{self.proxy.port}", "--tls", "pki",
            "--mode", mode, "--detach", *(SLOW if mode == "hybrid" else []))
        wait_until(f"{side} at {hold}", lambda: is_stopped(held.process) or held.process.poll() is not None)
        self.assertIsNone(held.process.poll(), f"{side} ended before {hold}")
        if fault == "kill":
            held.process.send_signal(signal.SIGKILL)
            held.process.wait()
        elif fault == "cut":
            self.proxy.cut()
            held.process.send_signal(signal.SIGCONT)
            time.sleep(0.5)
            self.proxy.mend()
        else:
            time.sleep(1.0)
            held.process.send_signal(signal.SIGCONT)
        running, doubt = self.settle()
        end = self.resolve(running, doubt)
        if end in ("source", "destination"):
            self.assert_goes_on(self.a if end == "source" else self.b)
        elif fault != "kill":
            self.fail(f"nobody has the guest: {self.a.said()} {self.b.said()}")
        how = "by itself" if running and not doubt else "resolved" if doubt else "gone"
        self.tally[(mode, fault, end, how)] += 1
        print(f"{mode:8} {side:12} {hold:14} {fault:5} -> {end}, {how}", flush=True)
        for vm in (self.a, self.b):
            if vm.process.poll() is None:
                vm.process.kill()
                vm.process.wait()

    def test_F01_F03_each_side_fails_in_each_of_its_states(self):
        number = itertools.count()
        for mode in ("precopy", "hybrid"):
            for side, states in (("source", SOURCE_STATES), ("destination", DESTINATION_STATES)):
                more = HYBRID_ONLY[side] if mode == "hybrid" else []
                for hold in states + more:
                    for fault in FAULTS:
                        with self.subTest(mode=mode, side=side, state=hold, fault=fault):
                            self.case(mode, side, hold, fault, next(number))
        print("cases by mode, fault and end:")
        for (mode, fault, end, how), count in sorted(self.tally.items()):
            print(f"  {count:3}  {mode:8} {fault:5} {end}, {how}")
        sys.stdout.flush()


if __name__ == "__main__":
    os.environ.setdefault("WHERRY_HYPERVISOR", "auto")
    main()
