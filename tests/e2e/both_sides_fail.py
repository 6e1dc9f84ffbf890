#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""F02: both processes of a migration die at once, in chosen states of theirs.

Each is told by WHERRY_HOLD_AT to stop itself in a state; then both are killed. Their guest went with
them. What is left are two journals (and a shared arbiter's record): whatever a person then does, in
whatever order, at most one side takes the VM for its own, and `wherry resolve` leads to one that
does.
"""

import signal
import time

from instances import HostCase, is_soft, is_stopped, main, wait_until

# Where each of them stops (None: wherever it is when the other has), and what the destination has
# on its disk then: whether it may ever have run the guest.
CASES = [
    ("precopy", "precopy", None, "never ran"),
    ("precopy", "offer", None, None),
    ("precopy", None, "accepted", "never ran"),
    ("precopy", "committed", "accepted", "never ran"),
    ("precopy", "committed", "done", "ran"),
    ("precopy", None, "done", "ran"),
    ("hybrid", "serving", "faulting", "ran"),
    ("hybrid", None, "faulting", "ran"),
]
# Slower than the guest dirties, with a goal that no round of pre-copy meets.
SLOW = ["--bandwidth", "24M", "--downtime", "1ms"]
SLOW_SOFT = ["--bandwidth", "1M", "--downtime", "1ms"]


class BothSidesFail(HostCase):
    def setUp(self):
        super().setUp()
        self.pki()
        if not is_soft():
            self.guest_options = "zero=20 compressible=40 random=40 hot=16M rate=8000 report=50"
        self.arbiter = self.directory / "arbiter"
        self.wherry("arbiter", "init", self.arbiter)

    def kill_both(self, number, mode, arbiter, source_at, destination_at):
        """The names of two sides that died in these states."""
        a, b = f"a{number}", f"b{number}"
        with self.holding_at(source_at):
            source = self.run_vm(a, memory="32M" if is_soft() else "64M")
        with self.holding_at(destination_at):
            destination = self.receive_vm(b)
        source.wait_for_reports(2)
        slow = SLOW_SOFT if is_soft() else SLOW
        self.migrate(
            a, b, "--mode", mode, "--arbiter", arbiter, "--detach",
            *(slow if mode == "hybrid" else []))
        held = [vm for vm, at in ((source, source_at), (destination, destination_at)) if at]
        # One that is stopped may keep the other from ever coming so far: then that is where it is.
        wait_until("a side to stop itself", lambda: any(is_stopped(vm.process) for vm in held))
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline and not all(is_stopped(vm.process) for vm in held):
            time.sleep(0.02)
        for vm in (source, destination):
            vm.process.send_signal(signal.SIGKILL)
        for vm in (source, destination):
            vm.process.wait()
        return a, b

    def claims(self, name):
        """What `wherry run` there takes the VM that died for: its own, in doubt, or none of it."""
        messages = self.directory / f"{name}.messages"
        before = len(messages.read_text(errors="replace"))
        try:
            vm = self.run_vm(name, memory="32M" if is_soft() else "64M")
        except AssertionError:
            said = messages.read_text(errors="replace")[before:]
            self.assertIn(name, said)
            return "refused"
        vm.process.kill()
        vm.process.wait()
        said = messages.read_text(errors="replace")[before:]
        if "is being found out" in said:
            return "in doubt"
        return "its own" if "it is booted again" in said else "none of it"

    def resolve(self, name, keep, *more):
        done = self.wherry("resolve", name, "--keep", keep, *more, code=None)
        return done.returncode == 0

    def case(self, number, arbiter, mode, source_at, destination_at, past):
        a, b = self.kill_both(number, mode, arbiter, source_at, destination_at)
        at_source, at_destination = self.claims(a), self.claims(b)
        print(f"{mode:8} {source_at or '-':10} {destination_at or '-':10} "
              f"{arbiter.partition(':')[0]:6} source: {at_source}, destination: {at_destination}",
              flush=True)
        self.assertNotEqual(at_source, "its own")  # it has not been taken back
        self.assertIn(at_destination, ("its own", "none of it"))
        if past is not None:
            self.assertEqual(at_destination, "its own" if past == "ran" else "none of it")
        if source_at == "precopy":
            self.assertEqual(at_source, "none of it")  # it was never offered, and has no journal
            return
        is_over_there = at_destination == "its own"
        # One that stopped itself in `done` had said so before.
        self.assertIn(at_source, ("in doubt", "none of it") if is_over_there else ("in doubt",))
        if is_over_there and mode == "hybrid":
            self.decide_where_half_the_memory_was_there(a, b, arbiter)
        elif is_over_there:
            self.decide_for_the_destination(a, b, at_source, arbiter)
        else:
            self.decide_for_the_source(a, b)

    def decide_for_the_destination(self, a, b, at_source, arbiter):
        self.assertFalse(self.resolve(b, "destination"))  # there is no doubt there
        if at_source == "in doubt":
            if arbiter != "local":
                self.assertFalse(self.resolve(a, "source"), "against what the arbiter says")
            self.assertTrue(self.resolve(a, "destination"))
        self.assertFalse(self.resolve(a, "source"), "after it was decided")
        self.assertEqual((self.claims(a), self.claims(b)), ("none of it", "its own"))

    def decide_where_half_the_memory_was_there(self, a, b, arbiter):
        """It is booted where it ran last: of the source's half only the name is left, which a
        person gives up."""
        if arbiter != "local":
            refused = self.wherry("resolve", a, "--keep", "source", code=1)
            self.assertIn("--fenced", refused.stderr)
        self.assertTrue(self.resolve(a, "destination"))
        self.assertFalse(self.resolve(a, "source"), "after it was decided")
        self.assertEqual((self.claims(a), self.claims(b)), ("none of it", "its own"))

    def decide_for_the_source(self, a, b):
        self.assertFalse(self.resolve(b, "destination"), "its copy went with its process")
        self.assertTrue(self.resolve(a, "source"))
        self.assertFalse(self.resolve(a, "destination"), "after it was decided")
        self.assertEqual((self.claims(a), self.claims(b)), ("its own", "none of it"))

    def test_F02_at_most_one_side_takes_the_vm_for_its_own_and_resolve_ends_it(self):
        number = 0
        for arbiter in ("local", f"file:{self.arbiter}"):
            for case in CASES:
                number += 1
                with self.subTest(arbiter=arbiter, case=case):
                    self.case(number, arbiter, *case)

    def test_F02_a_destination_that_was_fenced_off_does_not_boot_the_vm_again(self):
        a, b = self.kill_both(1, "hybrid", f"file:{self.arbiter}", "serving", "faulting")
        self.assertEqual((self.claims(a), self.claims(b)), ("in doubt", "its own"))
        self.assertTrue(self.resolve(a, "source", "--fenced"))
        self.assertEqual((self.claims(a), self.claims(b)), ("its own", "refused"))


if __name__ == "__main__":
    main()
