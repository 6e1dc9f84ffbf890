#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A guest with the portable CPU profile moves from each backend to each other, or is refused by the
sentence that says what would be lost."""

import json
import os
import sys
import unittest
from pathlib import Path

from instances import GUEST as WORKLOAD
from instances import WHERRY, HostCase, wait_until

BACKENDS = ["kvm", "mshvsim:6.18", "mshvsim:7.2", "mshvsim:7.3", "soft"]
GUEST = "zero=50 compressible=25 random=25 hot=2M rate=2000 check=20000 report=50"
# An interpreter has no rings and no timers; told, because a portable guest cannot see where it is.
SOFT_GUEST = "zero=50 compressible=25 random=25 hot=1M rate=100 check=2000 report=50 ring=0 idle=spin"


def reason_against(backend):
    """Why this machine cannot run guests on it; empty: it can."""
    if backend == "soft":
        module = Path(os.environ.get("WHERRY_SOFT_MODULE") or Path(WHERRY).parent / "wherry_soft.so")
        return "" if module.exists() else "built without Unicorn"
    return "" if os.access("/dev/kvm", os.R_OK | os.W_OK) else "needs /dev/kvm"


OFFERED = [backend for backend in BACKENDS if not reason_against(backend)]
WITH_APIC = [backend for backend in OFFERED if backend != "soft"]
SIMULATORS = [backend for backend in WITH_APIC if backend.startswith("mshvsim")]


def plain(backend):
    """As messages name it: without the simulated kernel."""
    return backend.partition(":")[0]


def refusal(source, destination):
    """What a plan for that pair must say; nothing where the guest must arrive."""
    if (source == "soft") == (destination == "soft"):
        return None
    if destination == "soft":
        return f"the VM uses interrupt controllers (on {plain(source)}), and soft has none here"
    return (f"the VM has lived without interrupt controllers (on soft), and {plain(destination)} "
            "gives each vCPU one, whose state nobody has")


class MatrixCase(HostCase):
    def setUp(self):
        super().setUp()
        self.pki()
        self.memory = "32M"
        self.made = 0

    def fresh_name(self):
        self.made += 1
        return f"vm-{self.made}"

    def start(self, backend, *more, cpu="portable", options=None):
        options = options or (SOFT_GUEST if backend == "soft" else GUEST)
        vm = self.run_vm(
            self.fresh_name(), "--cpu", cpu, *more, options=options, hypervisor=backend)
        vm.wait_for_reports(3)
        return vm

    def move(self, here, backend):
        """The guest goes on at `backend` where it was, and finds nothing wrong."""
        there = self.receive_vm(self.fresh_name(), hypervisor=backend)
        done = self.migrate(here.name, there.name, "--json")
        job = json.loads(done.stdout.splitlines()[-1])
        self.assertIn("the guest sees the portable CPU profile", job["plan"])
        wait_until("the source to let go", lambda: here.name not in self.names())
        before = here.reports()
        cpus = {one["cpu"] for one in before}
        after = wait_until(
            f"reports of all vCPUs on {backend}",
            lambda: there.must_live() or
            ((now := there.reports()) and all(
                sum(one["cpu"] == cpu for one in now) >= 3 for cpu in cpus) and now))
        self.assert_no_errors(before + after)
        for cpu in cpus:
            last = [one for one in before if one["cpu"] == cpu][-1]
            next_ = [one for one in after if one["cpu"] == cpu]
            self.assertGreater(next_[0]["n"], last["n"])
            self.assertGreater(next_[-1]["checked"], last["checked"])
        self.assertEqual(here.process.wait(30), 0)
        return there, job["report"]["blackout_ms"]

    def refuse(self, here, backend, sentence):
        there = self.receive_vm(self.fresh_name(), hypervisor=backend)
        done = self.migrate(here.name, there.name, code=1)
        self.assertIn(sentence, done.stderr)
        self.assertEqual(self.names()[there.name], "listening")
        self.end(there)
        return done.stderr

    def end(self, vm):
        self.wherry("kill", vm.name)  # its process stays a moment to answer questions


class Matrix(MatrixCase):
    def cell(self, here, destination):
        """What the matrix shows, and where the guest is now."""
        sentence = refusal(here.backend, destination)
        if sentence:
            self.refuse(here, destination, sentence)
            self.assert_goes_on(here)
            return "refused", here
        there, blackout = self.move(here, destination)
        there.backend = destination
        return f"{blackout:.0f} ms", there

    def test_every_pair(self):
        cells = {}
        for source in OFFERED:
            for destination in OFFERED:
                with self.subTest(source=source, destination=destination):
                    here = self.start(source)
                    here.backend = source
                    cells[source, destination] = "FAILED"
                    cells[source, destination], there = self.cell(here, destination)
                    self.end(there)
        print("\nfrom \\ to (blackout)" + "".join(f"{name:>14}" for name in OFFERED))
        for source in OFFERED:
            print(f"{source:20}" + "".join(
                f"{cells.get((source, destination), 'FAILED'):>14}" for destination in OFFERED))


class CommandLine(HostCase):
    def test_a_profile_that_does_not_exist_is_a_usage_error(self):
        done = self.wherry(
            "run", "--name", "a", "--kernel", WORKLOAD, "--cpu", "qemu64", code=2)
        self.assertIn("choose host or portable", done.stderr)


@unittest.skipUnless(WITH_APIC, "SKIPPED: moves between kvm and mshvsim: needs /dev/kvm")
class BetweenHypervisors(MatrixCase):
    def test_two_vcpus_go_over_and_back(self):
        here = self.start("kvm", "--cpus", "2", options=GUEST + " cpus=2")
        wait_until("reports of both", lambda: {one["cpu"] for one in here.reports()} == {0, 1})
        for backend in ("mshvsim:7.2", "kvm"):
            here, _ = self.move(here, backend)

    def test_one_guest_goes_around_all(self):
        here = self.start("kvm")
        stations = [stop for simulator in SIMULATORS for stop in (simulator, "kvm")]
        for backend in stations + SIMULATORS + ["kvm"]:
            here, _ = self.move(here, backend)

    def test_a_guest_of_one_kind_is_refused_by_the_other_which_names_the_remedy(self):
        for source, destination in (("kvm", "mshvsim:7.2"), ("mshvsim:7.2", "kvm")):
            with self.subTest(source=source):
                here = self.start(source, cpu="host")
                said = self.refuse(
                    here, destination, "a guest that is to move between kinds of hypervisor must "
                    "be started with `--cpu portable`")
                self.assertEqual(said.count("the guest sees"), 1, said)
                self.assert_goes_on(here)
                self.end(here)


if __name__ == "__main__":
    for name in BACKENDS:
        if name not in OFFERED:
            print(f"SKIPPED: moves from and to {name}: {reason_against(name)}")
    if not OFFERED:
        sys.exit(77)
    unittest.main(verbosity=2)
