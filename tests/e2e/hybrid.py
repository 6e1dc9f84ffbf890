#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Hybrid post-copy through the command line: a guest that goes on before its memory is all there."""

import json
import signal
import time

from instances import HostCase, is_soft, main, wait_until


class Hybrid(HostCase):
    def setUp(self):
        super().setUp()
        self.slowly = self.write_faster_than_precopy()
        # So that a guest on a busy host touches pages before they have all been pushed.
        self.late = ["--postcopy-bandwidth", "4M" if is_soft() else "40M"]
        self.pki()
        self.a = self.run_vm("a")
        self.a.wait_for_reports(3)

    def receive_held(self, *more):
        return self.migrate_until_faulting("a", "b", *self.slowly, *more)

    def progress(self, name):
        return self.status(name).get("job", {}).get("progress", {})

    def assert_a_whole_sweep(self, instance):
        first = instance.wait_for_reports()[-1]["sweeps"]
        wait_until("a whole sweep", lambda: instance.reports()[-1]["sweeps"] >= first + 2)
        self.assert_no_errors(instance.reports())

    def test_V04_P01_a_guest_goes_on_before_its_memory_is_all_there(self):
        b = self.receive_vm("b")
        done = self.migrate("a", "b", *self.slowly, *self.late, "--json")
        last = json.loads(done.stdout.splitlines()[-1])
        self.assertEqual(last["state"], "done")
        self.assertNotIn("made again", str(last["report"].get("notes")))  # one connection for all
        faults = last["report"]["faults"]
        self.assertGreater(faults["count"], 0)
        self.assertGreaterEqual(faults["longest_ms"], faults["p99_ms"])
        self.assertEqual(self.names(), {"b": "running"})
        self.assert_a_whole_sweep(b)
        self.assertEqual(self.a.process.wait(30), 0)
        # It can move on, in either way.
        c = self.receive_vm("c")
        self.migrate("b", "c", *self.slowly)
        self.assert_a_whole_sweep(c)
        d = self.receive_vm("d")
        self.migrate("c", "d", "--on-stall", "stop")
        self.assert_a_whole_sweep(d)

    def test_V04_P01_a_person_lets_it_go_on_there_in_the_middle_of_the_first_pass(self):
        b = self.receive_vm("b")
        # Minutes, and then a stall that would leave it here. What is left would fit in no blackout,
        # or the guest would rather be stopped for it.
        self.migrate(
            "a", "b", "--bandwidth", "100K", "--downtime", "1ms", *self.late,
            "--on-stall", "abort", "--detach")
        wait_until("pages on the wire", lambda: self.progress("a").get("wire_bytes", 0) > 0)
        job = json.loads(self.wherry("postcopy", "a", "--json").stdout)
        self.assertEqual((job["kind"], job["state"]), ("migrate", "running"))
        wait_until("the source to go", lambda: self.names() == {"b": "running"})
        self.assertEqual(self.a.process.wait(30), 0)
        self.assert_a_whole_sweep(b)
        wait_until("its report", lambda: self.status("b")["job"]["state"] == "done")
        report = self.status("b")["job"]["report"]
        self.assertGreater(report["faults"]["count"], 0)
        self.assertEqual(report.get("notes", []), [])

    def test_P01_what_cannot_go_on_there_is_refused_and_the_reason_named(self):
        refused = self.wherry("postcopy", "a", code=1)
        self.assertIn("not being migrated", refused.stderr)
        self.assertIn("--mode hybrid", refused.stderr)
        self.wherry("postcopy", "nobody", code=1)
        b, _ = self.receive_held("--postcopy-bandwidth", "100K")
        late = self.wherry("postcopy", "a", "--json", code=1)
        self.assertIn("in post-copy already", late.stderr)
        b.process.send_signal(signal.SIGCONT)
        wait_until("the VM to be there", lambda: self.status("b")["state"] == "running")
        other_side = self.wherry("postcopy", "b", code=1)
        self.assertIn("for its source to say", other_side.stderr)

    def test_P02_P03_the_network_goes_and_comes_back_as_often_as_it_likes(self):
        # Slowly enough for pages to be missing still when the network goes.
        b, proxy = self.receive_held("--postcopy-bandwidth", "1M" if is_soft() else "20M")
        proxy.cut()
        b.process.send_signal(signal.SIGCONT)
        wait_until("a state with a name", lambda: self.progress("b").get("missing_bytes", 0) > 0)
        self.assertEqual(self.status("b")["state"], "running")
        self.assertEqual(self.progress("a").get("owner_state"), "serving")
        # Also in the middle of coming back.
        for _ in range(5):
            proxy.mend()
            time.sleep(0.15)
            proxy.cut()
            time.sleep(0.1)
        proxy.mend()
        wait_until("the source to go", lambda: self.names() == {"b": "running"})
        self.assert_a_whole_sweep(b)

    def test_P04_a_destination_that_dies_leaves_a_named_state(self):
        b, _ = self.receive_held()
        b.process.send_signal(signal.SIGKILL)
        b.process.wait()
        seen = len(self.a.reports())
        wait_until(
            "the source to say what it waits for",
            lambda: "the destination is not connected" in self.status("a").get("explanation", ""))
        self.assertEqual(len(self.a.reports()), seen, "a guest that was given up runs again")

    def test_P04_a_source_that_dies_is_missed_by_name(self):
        # So slowly that what is under way when the source dies is not all that is missing.
        b, _ = self.receive_held("--postcopy-bandwidth", "100K")
        self.a.process.send_signal(signal.SIGKILL)
        self.a.process.wait()
        b.process.send_signal(signal.SIGCONT)
        wait_until(
            "the destination to say what it waits for",
            lambda: "the source is not connected" in self.status("b").get("explanation", ""))
        self.assertGreater(self.progress("b")["missing_bytes"], 0)
        self.wherry("kill", "b")
        self.assertEqual(b.process.wait(30), 0, b.said())


if __name__ == "__main__":
    main()
