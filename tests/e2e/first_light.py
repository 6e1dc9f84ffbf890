#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The main job through the command line, and what surrounds it."""

import json
import signal
import subprocess
import unittest

from instances import GUEST, WHERRY, HostCase, is_soft, main, wait_until


class FirstLight(HostCase):
    def test_a_running_guest_moves_and_its_output_goes_on(self):
        self.pki()
        a = self.run_vm("a")
        a.wait_for_reports(3)
        self.receive_vm("b")
        moved = self.migrate("a", "b", "--json")
        last = json.loads(moved.stdout.splitlines()[-1])
        self.assertEqual(last["state"], "done")
        self.assertGreater(last["report"]["blackout_ms"], 0)
        self.assertEqual(self.names(), {"b": "running"})
        self.assertEqual(a.process.wait(30), 0)
        b = self.instances[-1]
        arrived = b.wait_for_reports(5)
        self.assert_no_errors(a.reports() + arrived)
        numbers = [report["n"] for report in a.reports() + arrived]
        # A line may be cut between the two logs; then both halves together hold it.
        text = a.log.read_text() + b.log.read_text()
        for number in range(numbers[0], numbers[-1] + 1):
            self.assertIn(f"wherry-guest report n={number} ", text)

    def test_C12_a_guest_moves_over_one_two_and_eight_streams(self):
        self.pki()
        source = self.run_vm("vm1")
        source.wait_for_reports(2)
        for streams in (1, 2, 8):
            target = self.receive_vm(f"vm{streams}-there")
            moved = self.migrate(
                source.name, target.name, "--json", "--streams", str(streams))
            last = json.loads(moved.stdout.splitlines()[-1])
            self.assertEqual((last["state"], last["report"]["streams"]), ("done", streams))
            self.assertEqual(source.process.wait(30), 0)
            self.assert_goes_on(target)
            source = target
        self.wherry("migrate", source.name, "--to", "x:1", "--tls", "pki", "--streams", "17", code=2)

    def test_C02_C03_a_guest_checks_every_page_at_the_destination(self):
        self.pki()
        self.run_vm("a").wait_for_reports(3)
        b = self.receive_vm("b")
        self.migrate("a", "b")
        first = b.wait_for_reports()[0]["sweeps"]
        wait_until("a whole sweep", lambda: b.reports()[-1]["sweeps"] >= first + 2)
        self.assert_no_errors(b.reports())

    def test_C01_C04_memory_of_one_kind_and_a_guest_that_does_nothing(self):
        self.pki()
        for name, options in {
                "idle": "zero=100 touch=0 check-zero=0 hot=1M rate=0 check=0 report=100",
                "zero": "zero=90 random=10 hot=1M rate=100 check=2000 report=100",
                "random": "zero=0 compressible=0 random=100 hot=1M rate=100 check=2000 report=100",
        }.items():
            with self.subTest(memory=name):
                ring = " ring=0" if "ring=0" in self.guest_options else ""
                self.run_vm(name, options=options + ring).wait_for_reports(2)
                there = self.receive_vm(f"{name}-there")
                self.migrate(name, there.name)
                self.assert_no_errors(there.wait_for_reports(3))

    def test_C08_a_paused_guest_moves_paused(self):
        self.pki()
        self.run_vm("a").wait_for_reports(2)
        self.wherry("pause", "a")
        self.assertEqual(self.names(), {"a": "paused"})
        b = self.receive_vm("b")
        self.migrate("a", "b")
        self.assertEqual(self.names(), {"b": "paused"})
        self.assertEqual(b.reports(), [])
        self.wherry("resume", "b")
        self.assert_goes_on(b)

    def test_insecure_works_only_when_typed_and_warns_both_sides(self):
        a = self.run_vm("a")
        a.wait_for_reports()
        self.wherry("migrate", "a", "--to", "127.0.0.1:1", code=2)
        b = self.receive_vm("b", tls=None)
        self.migrate("a", "b", tls=None)
        self.assertIn("WARNING", a.said())
        self.assertIn("WARNING", b.said())
        self.assert_goes_on(b)


class Jobs(HostCase):
    def test_X01_X02_cancel_leaves_the_vm_running_here(self):
        self.pki()
        a = self.run_vm("a")
        a.wait_for_reports(2)
        b = self.receive_vm("b")
        to = f"127.0.0.1:{self.port_of('b')}"
        # So slow that only the cancel can end it.
        started = self.wherry(
            "migrate", "a", "--to", to, "--tls", "pki", "--bandwidth", "1M", "--detach", "--json")
        job = json.loads(started.stdout)
        self.assertEqual((job["state"], job["commit_point"]), ("running", "before"))
        wait_until("pages to flow", lambda: self.status("a").get("job", {}).get("progress", {}).get("wire_bytes", 0) > 0)
        self.wherry("pause", "a", code=1)
        self.wherry("cancel", "a")
        self.wherry("cancel", "a")  # it says what there is to say, and changes nothing
        self.assertEqual(self.status("a")["job"]["state"], "cancelled")
        self.assert_goes_on(a)
        wait_until("the destination to go", lambda: b.process.poll() is not None)
        self.assertEqual(self.names(), {"a": "running"})
        self.receive_vm("c")
        self.migrate("a", "c")
        self.assert_goes_on(self.instances[-1])
        late = self.wherry("cancel", "c", code=1)
        self.assertIn("too late", late.stderr)
        self.assert_goes_on(self.instances[-1])

    def test_X04_the_first_interrupt_of_the_client_cancels(self):
        self.pki()
        a = self.run_vm("a")
        a.wait_for_reports(2)
        self.receive_vm("b")
        client = subprocess.Popen(
            [WHERRY, "migrate", "a", "--to", f"127.0.0.1:{self.port_of('b')}", "--tls", "pki",
             "--bandwidth", "1M"],
            env=self.environment, cwd=self.directory, stderr=subprocess.PIPE, text=True)
        wait_until("pages to flow", lambda: self.status("a").get("job", {}).get("progress", {}).get("wire_bytes", 0) > 0)
        client.send_signal(signal.SIGINT)
        _, said = client.communicate(timeout=60)
        self.assertEqual(client.returncode, 3, said)
        self.assert_goes_on(a)

    def test_X04_a_job_outlives_its_client(self):
        self.pki()
        self.run_vm("a").wait_for_reports(2)
        b = self.receive_vm("b")
        client = subprocess.Popen(
            [WHERRY, "migrate", "a", "--to", f"127.0.0.1:{self.port_of('b')}", "--tls", "pki",
             "--bandwidth", "40M"],
            env=self.environment, cwd=self.directory)
        wait_until("the job", lambda: self.status("a").get("job"))
        client.kill()
        client.wait()
        self.assert_goes_on(b)
        wait_until("the source to go", lambda: self.names() == {"b": "running"})
        self.assertEqual(self.status("b")["job"]["state"], "done")


class CommandLine(HostCase):
    def test_every_verb_has_help_with_an_example(self):
        for verb in (["run"], ["receive"], ["migrate"], ["ps"], ["status"], ["pause"], ["resume"],
                     ["cancel"], ["kill"], ["resolve"], ["pki", "init"], ["pki", "issue"],
                     ["arbiter", "init"],
                     ["demo"]):
            with self.subTest(verb=verb):
                self.assertIn("Example: wherry", self.wherry(*verb, "--help").stdout)

    def test_usage_errors_end_with_2(self):
        for arguments in ([], ["fly"], ["run"], ["migrate", "a"],
                          ["run", "--name", "a", "--kernel", GUEST, "--memory", "1.5G"],
                          ["run", "--name", "a", "--kernel", GUEST, "--hypervisor", "xen"],
                          ["receive", "--name", "a", "--listen", "nowhere", "--insecure"]):
            with self.subTest(arguments=arguments):
                self.wherry(*arguments, code=2)

    def test_a_name_in_use_is_refused(self):
        self.run_vm("a")
        done = self.wherry(
            "run", "--name", "a", "--kernel", GUEST, "--memory", "32M", code=1)
        self.assertIn("in use", done.stderr)

    def test_kill_ends_a_vm_and_frees_its_name(self):
        a = self.run_vm("a")
        self.wherry("kill", "a")
        self.assertEqual(a.process.wait(30), 0)
        self.assertEqual(self.names(), {})
        self.run_vm("a")

    def test_a_vm_comes_back_under_its_name_at_once(self):
        self.pki()
        self.run_vm("a")
        self.receive_vm("b")
        self.migrate("a", "b")
        self.receive_vm("a")  # its last process may not have ended
        self.migrate("b", "a")
        self.assertEqual(self.names().get("a"), "running")

    def test_a_guest_that_ends_itself_ends_its_process(self):
        a = self.run_vm("a", options=self.guest_options + " exit-after=300")
        self.assertEqual(a.process.wait(60), 0)
        self.assertEqual(self.names(), {})

    def test_a_guest_that_finds_damage_is_told_apart(self):
        a = self.run_vm(
            "a", options=self.guest_options + " exit-after=6000 fault=stale fault-after=300")
        self.assertEqual(a.process.wait(60), 1)
        self.assertIn("wherry-guest error", a.log.read_text())

    @unittest.skipIf(is_soft(), "SKIPPED: four vCPUs: Unicorn has one")
    def test_four_vcpus_move(self):
        self.pki()
        self.run_vm("a", "--cpus", "4", options=self.guest_options + " cpus=4").wait_for_reports(8)
        b = self.receive_vm("b")
        self.migrate("a", "b")
        wait_until("reports of all", lambda: {r["cpu"] for r in b.reports()} == {0, 1, 2, 3})
        self.assert_goes_on(b)


if __name__ == "__main__":
    main()
