#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a migration is said to come to, before anything of the VM is moved."""

import json
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


if __name__ == "__main__":
    main()
