#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a migration is said to come to, before anything of the VM is moved."""

import json
import re
import resource
import subprocess

from instances import WHERRY, HostCase, main, wait_until


class Estimate(HostCase):
    def setUp(self):
        super().setUp()
        self.pki()
        self.source = self.run_vm("a")
        self.source.wait_for_reports(2)

    def estimate(self, name, *more):
        said = self.wherry("estimate", name, "--for", "1s", "--json", *more)
        job = json.loads(said.stdout)
        self.assertEqual((job["kind"], job["state"]), ("estimate", "done"))
        return job["estimate"]

    def start_estimate(self, name):
        """One that goes on until it is cancelled."""
        process = subprocess.Popen(
            [WHERRY, "estimate", name, "--for", "1m"], env=self.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.addCleanup(process.stderr.close)
        wait_until(
            "the guest to be watched",
            lambda: self.status(name).get("job", {}).get("progress", {}).get("elapsed_ms", 0) > 0)
        return process

    def test_a_running_guest_is_predicted_and_goes_on(self):
        said = self.estimate("a")
        self.assertIn(said["recommended"], ["precopy", "throttle", "hybrid"])
        self.assertEqual([way["way"] for way in said["ways"]], ["precopy", "throttle", "hybrid"])
        self.assertEqual(said["rate_source"], "this-host")
        memory = self.status("a")["memory_bytes"]
        self.assertLessEqual(said["raw_page_bytes"] + said["zero_page_bytes"], memory)
        self.assertGreater(said["ways"][0]["p50"]["wire_bytes"], 0)
        self.assertGreater(said["written_bytes"], 0)
        self.assert_goes_on(self.source)

    def test_people_are_told_what_is_recommended_why_and_where_the_rate_is_from(self):
        said = self.wherry("estimate", "a", "--for", "500ms", "--bandwidth", "50M").stdout
        for part in ["recommended", "why", "precopy", "throttle", "hybrid", "50.0 MiB/s, by --bandw"]:
            self.assertIn(part, said)
        self.assertIn("estimate of a migration", self.wherry("status", "a").stdout)
        self.wherry("estimate", "a", "--for", "3", code=2)
        refused = self.wherry("estimate", "a", "--for", "1ms", code=1)
        self.assertIn("500 ms to a minute", refused.stderr)

    def test_one_job_at_a_time_and_a_cancel_ends_it(self):
        self.receive_vm("b")
        watching = self.start_estimate("a")
        for refused in [self.migrate("a", "b", code=1), self.wherry("estimate", "a", code=1)]:
            self.assertIn("an estimate watches it", refused.stderr)
        self.wherry("cancel", "a")
        self.assertEqual(watching.wait(30), 3)
        self.assert_goes_on(self.source)
        self.migrate("a", "b", "--bandwidth", "1M", "--detach")
        refused = self.wherry("estimate", "a", code=1)
        self.assertIn("is being migrated", refused.stderr)
        self.wherry("cancel", "a")
        self.estimate("a")
        self.assert_goes_on(self.source)

    def test_V08_the_bytes_are_within_the_prediction_and_all_stand_side_by_side(self):
        said = self.estimate("a")
        way = next(way for way in said["ways"] if way["way"] == said["recommended"])
        self.receive_vm("b")
        moved = json.loads(self.migrate("a", "b", "--json").stdout.splitlines()[-1])
        report = moved["report"]
        for quantity in ["total_ms", "wire_bytes", "blackout_ms"]:
            print(f"V08 {quantity}: estimate p50 {way['p50'][quantity]:.4g}, "
                  f"p95 {way['p95'][quantity]:.4g}; "
                  f"after the first pass {report['predicted_first'][quantity]:.4g}; "
                  f"before the blackout {report['predicted_last'][quantity]:.4g}; "
                  f"actual {report[quantity]:.4g}")
        # Times are the machine's affair; how much memory there is to send is not. A quarter on top
        # of the p95 is for a guest that writes more than it did while it was watched.
        self.assertGreater(report["wire_bytes"], way["p50"]["wire_bytes"] / 2)
        self.assertLess(report["wire_bytes"], way["p95"]["wire_bytes"] * 1.25)
        self.assertGreater(report["wire_bytes"], report["predicted_last"]["wire_bytes"] / 2)
        self.assertLess(report["wire_bytes"], report["predicted_last"]["wire_bytes"] * 2)
        self.assertEqual(self.estimate("b")["rate_source"], "last-migration")
        self.receive_vm("c")
        told = self.migrate("b", "c").stdout
        self.assertRegex(told, r"total time .*\(predicted .* before the blackout\)")


def limit_address_space():
    """Less than the VM needs, with what a VMM takes besides."""
    resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))


def without_amounts(text):
    """What a host has left is not the same a moment later."""
    return re.sub(r"\d+ MiB", "MiB", text)


class EstimateTo(HostCase):
    """With a destination, which is asked and the link to it measured."""

    def setUp(self):
        super().setUp()
        self.pki()
        self.source = self.run_vm("a")
        self.source.wait_for_reports(1)

    def estimate(self, destination, *more, code=0, tls="pki"):
        security = ["--tls", self.directory / tls] if tls else ["--insecure"]
        return self.wherry(
            "estimate", "a", "--for", "500ms", "--to", f"127.0.0.1:{self.port_of(destination)}",
            *security, *more, code=code)

    def job(self, destination, *more, **how):
        return json.loads(self.estimate(destination, "--json", *more, **how).stdout)

    def test_the_destination_is_asked_and_goes_on_waiting_and_takes_the_vm(self):
        self.receive_vm("b")
        before = self.status("b")
        for _ in range(2):
            job = self.job("b")
            self.assertEqual(job["state"], "done")
            said = job["estimate"]
            self.assertEqual(said["rate_source"], "probe")
            probe = said["probe"]
            self.assertEqual(probe.get("objections", []), [])
            self.assertTrue(probe["findings"])
            self.assertEqual(job["plan"][:len(probe["findings"])], probe["findings"])
            self.assertGreater(probe["rate_p50"], 0)
            self.assertGreaterEqual(probe["rate_p50"], said["wire_rate_p50"])
            self.assertLessEqual(probe["sent_bytes"], 256 << 20)
            for quantity in ["connect_ms", "plan_ms", "round_trip_ms", "measuring_ms"]:
                self.assertGreater(probe[quantity], 0)
            opening = probe["connect_ms"] + probe["plan_ms"]
            self.assertGreater(said["ways"][0]["p50"]["total_ms"], opening)
            print(f"estimate --to: rate {probe['rate_p50'] / (1 << 20):.0f} MiB/s, slowest "
                  f"{probe['rate_p95'] / (1 << 20):.0f}; {probe['measuring_ms']:.0f} ms")
        self.assertEqual(self.status("b"), before)
        self.assertEqual(self.names()["b"], "listening")
        said = self.estimate("b").stdout
        for part in ["destination", "reached in", "over one connection", "recommended"]:
            self.assertIn(part, said)
        self.migrate("a", "b")
        self.assertEqual(self.names(), {"b": "running"})

    def test_a_limit_holds_for_the_probe(self):
        self.receive_vm("b")
        probe = self.job("b", "--bandwidth", "2M")["estimate"]["probe"]
        self.assertLess(probe["sent_bytes"], 4 << 20)

    def test_a_refusal_is_told_in_the_words_of_a_migration(self):
        self.wherry("kill", "a")
        self.source.process.wait()
        self.source = self.run_vm(
            "a", memory="4G", options="zero=100 touch=0 check-zero=0 hot=1M")
        self.source.wait_for_reports(1)
        self.receive_vm("b", preexec=limit_address_space)
        job = self.job("b")
        self.assertEqual(job["state"], "done")
        said = job["estimate"]
        self.assertEqual(said["recommended"], "")
        objections = said["probe"]["objections"]
        self.assertTrue(objections)
        self.assertIn("would be refused", said["why"])
        self.assertEqual(
            [line for line in job["plan"] if line.startswith("would be refused: ")],
            [f"would be refused: {objection}" for objection in objections])
        self.assertIn("would be refused:", self.estimate("b").stdout)
        refused = self.migrate("a", "b", code=1).stderr
        for objection in objections:
            self.assertIn(without_amounts(objection), without_amounts(refused))
        self.assert_goes_on(self.source)

    def test_who_cannot_be_asked_is_named_with_cause_and_remedy(self):
        leaving = self.receive_vm("b")
        port = self.port_of("b")
        leaving.process.terminate()
        leaving.process.wait()
        gone = self.wherry(
            "estimate", "a", "--to", f"127.0.0.1:{port}", "--tls", "pki", "--connect-timeout",
            "500ms", code=1)
        self.assertIn(f"127.0.0.1:{port}", gone.stderr)
        self.assertIn("start `wherry receive` there, or estimate without --to", gone.stderr)
        self.assertEqual(len(gone.stderr.splitlines()), 1)
        self.assertIn("--tls DIR", self.wherry("estimate", "a", "--to", "h:1", code=None).stderr)
        self.wherry("pki", "init", "others", "--host", "localhost,127.0.0.1")
        self.receive_vm("c")
        self.assertIn("certificate", self.estimate("c", tls="others", code=1).stderr)
        self.assertEqual(self.names()["c"], "listening")
        self.assert_goes_on(self.source)

    def test_a_destination_that_takes_a_vm_in_is_not_measured(self):
        self.run_vm("c").wait_for_reports(1)
        self.receive_vm("b")
        self.migrate("c", "b", "--bandwidth", "1M", "--detach")
        wait_until("the other VM to arrive", lambda: self.status("b")["state"] == "incoming")
        busy = self.estimate("b", code=1)
        self.assertIn("a VM is arriving here", busy.stderr)
        self.assertIn("ask again afterwards", busy.stderr)
        self.wherry("cancel", "c")

    def test_a_migration_that_begins_ends_the_probe(self):
        self.run_vm("c").wait_for_reports(1)
        self.receive_vm("b")
        held = self.estimating("b")
        self.migrate("c", "b")
        if held.wait(60) != 0:  # else it was over just then
            self.assertIn("a VM has begun to arrive here", held.stderr.read())
        self.assertEqual(self.names()["b"], "running")
        self.assert_goes_on(self.source)

    def test_a_cancel_ends_the_probe(self):
        self.receive_vm("b")
        held = self.estimating("b")
        self.wherry("cancel", "a")
        self.assertEqual(held.wait(30), 3)
        self.assert_goes_on(self.source)
        self.migrate("a", "b")

    def estimating(self, destination):
        """An estimate under way: the destination has judged, and the link is being measured."""
        process = subprocess.Popen(
            [WHERRY, "estimate", "a", "--for", "3s", "--bandwidth", "1M", "--to",
             f"127.0.0.1:{self.port_of(destination)}", "--tls", self.directory / "pki"],
            env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.addCleanup(process.stderr.close)
        wait_until("the destination to be asked", lambda: self.status("a").get("job", {}).get("plan"))
        return process


if __name__ == "__main__":
    main()
