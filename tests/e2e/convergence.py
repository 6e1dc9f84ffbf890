#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A guest that dirties faster than the link carries, and what a user can ask for then."""

import json
import time
import unittest

from cutting_proxy import CuttingProxy
from instances import HostCase, hypervisor_in_use, main, wait_until

HOT_GUEST = "zero=50 compressible=25 random=25 hot=64M rate=max report=100"
needs_kvm = unittest.skipIf(
    hypervisor_in_use() == "soft",
    "SKIPPED: a guest faster than the link: an interpreted one dirties too little")


class Convergence(HostCase):
    def setUp(self):
        super().setUp()
        self.pki()

    def start(self, options=HOT_GUEST):
        self.source = self.run_vm("a", options=options)
        self.source.wait_for_reports(2)
        self.destination = self.receive_vm("b")

    def job(self):
        return self.status("a")["job"]

    def wait_for_pages(self):
        wait_until("pages on the wire", lambda: self.job()["progress"].get("wire_bytes", 0) > 0)

    def dirtied_in(self, instance, reports):
        """Pages a report interval dirtied, over the next reports."""
        first = instance.wait_for_reports(1)[-1]["n"]
        seen = wait_until(
            "more reports",
            lambda: (now := instance.reports()) and now[-1]["n"] >= first + reports and now)
        self.assert_no_errors(seen)
        return (seen[-1]["checked"] - seen[-1 - reports]["checked"]) / reports

    @needs_kvm
    def test_V07_a_guest_too_fast_is_slowed_down_and_free_again_at_the_destination(self):
        self.start()
        job = json.loads(self.migrate(
            "a", "b", "--bandwidth", "30M", "--downtime", "20ms", "--on-stall", "throttle",
            "--json").stdout.splitlines()[-1])
        self.assertEqual(job["state"], "done")
        self.assertRegex(" ".join(job["report"]["notes"]), r"slowed down by \d+ %")
        self.assert_goes_on(self.destination)

    @needs_kvm
    def test_V02_one_that_must_not_be_slowed_down_stays_and_the_way_out_is_named(self):
        self.start()
        refused = self.migrate(
            "a", "b", "--bandwidth", "30M", "--downtime", "20ms", "--on-stall", "abort", code=1)
        self.assertIn("does not converge", refused.stderr)
        self.assertIn("--downtime", refused.stderr)
        self.assertIn("--on-stall stop accepts any blackout", refused.stderr)
        self.assert_goes_on(self.source)

    @needs_kvm
    def test_V07_cancelling_a_slowed_down_migration_frees_the_guest(self):
        self.start()
        before = self.dirtied_in(self.source, 5)
        self.migrate(
            "a", "b", "--bandwidth", "30M", "--downtime", "20ms", "--on-stall", "throttle",
            "--detach")
        wait_until(
            "the guest to be slowed down",
            lambda: self.job()["progress"].get("throttle_percent", 0) >= 50)
        self.wherry("cancel", "a")
        self.assertEqual(self.job()["progress"]["throttle_percent"], 0)
        # A tenth would be the guest slowed down; what else runs here takes less.
        wait_until("the guest at its old pace", lambda: self.dirtied_in(self.source, 5) > before / 4)

    @needs_kvm
    def test_V06_a_link_that_gets_slow_and_fast_again_is_lived_with(self):
        self.start(options="zero=20 compressible=40 random=40 hot=32M rate=6000 report=100")
        proxy = CuttingProxy(self.port_of("b"))
        self.addCleanup(proxy.close)
        proxy.slow_down(60 << 20)  # more than the guest dirties
        self.migrate_through(proxy, "--downtime", "20ms", "--on-stall", "throttle", "--detach")
        self.wait_for_pages()
        proxy.slow_down(4 << 20)  # far less
        wait_until(
            "the guest to be slowed down",
            lambda: self.job()["progress"].get("throttle_percent", 0) > 0)
        self.assertEqual(self.names()["a"], "running")
        proxy.slow_down(None)
        wait_until("the VM at the destination", lambda: self.names() == {"b": "running"})
        self.assert_goes_on(self.destination)

    def migrate_through(self, proxy, *more):
        self.wherry("migrate", "a", "--to", f"127.0.0.1:{proxy.port}", "--tls", "pki", *more)

    def test_a_deadline_ends_it_on_time_and_the_guest_goes_on(self):
        self.start(options=None)
        begun = time.monotonic()
        refused = self.migrate("a", "b", "--bandwidth", "1M", "--deadline", "1500ms", code=1)
        self.assertIn("the deadline of 1500 ms has passed", refused.stderr)
        self.assertLess(time.monotonic() - begun, 60)  # it would take minutes
        self.assert_goes_on(self.source)
        self.assertEqual(self.names(), {"a": "running"})

    def test_what_was_asked_for_can_be_changed_under_way(self):
        self.start(options=None)
        self.migrate("a", "b", "--bandwidth", "1M", "--detach")
        self.wait_for_pages()
        refused = self.wherry("set", "a", "bandwidth=12", code=1)
        self.assertIn("bandwidth", refused.stderr)
        for wrong in ["bandwidth", "colour=red", "downtime=5", "bandwidth=fast"]:
            self.wherry("set", "a", wrong, code=2)
        self.wherry("set", "a", "bandwidth=none", "downtime=2s", "on-stall=stop", "deadline=10m")
        wait_until("the VM at the destination", lambda: self.names() == {"b": "running"})
        self.assert_goes_on(self.destination)
        late = self.wherry("set", "b", "bandwidth=1M", code=1)
        self.assertIn("not being migrated", late.stderr)


if __name__ == "__main__":
    main()
