#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""F06: processes that are started again in the middle of a hand-over find out by themselves which
side has the VM; where they cannot, a person is heard."""

import signal
import socket

from cutting_proxy import CuttingProxy
from instances import (
    GUEST, HYPERVISOR, HostCase, Instance, is_soft, is_stopped, main, wait_until)


class Restart(HostCase):
    def setUp(self):
        super().setUp()
        self.pki()

    def begin(self, side, hold):
        """A migration from a to b, in which that side has stopped itself in that state."""
        with self.holding_at(hold if side == "source" else None):
            self.a = self.run_vm("a")
        with self.holding_at(hold if side == "destination" else None):
            self.b = self.receive_vm("b")
        self.port = self.port_of("b")
        self.a.wait_for_reports(3)
        self.wherry(
            "migrate", "a", "--to", f"127.0.0.1:{self.port}", "--tls", "pki", "--mode", "precopy",
            "--on-stall", "stop", "--detach")
        held = self.a if side == "source" else self.b
        wait_until(f"the {side} at {hold}", lambda: is_stopped(held.process))

    def kill(self, instance):
        instance.process.send_signal(signal.SIGKILL)
        instance.process.wait()

    def receive_again(self):
        """At the address that the source knows."""
        instance = Instance(self, "b", [
            "receive", "--listen", f"127.0.0.1:{self.port}", "--hypervisor", HYPERVISOR,
            "--tls", str(self.directory / "pki")])
        self.instances.append(instance)
        return instance

    def run_to_its_end(self):
        """`wherry run` of a VM that turns out to be the destination's: it ends by itself, and well."""
        done = self.wherry(
            "run", "--name", "a", "--kernel", GUEST, "--memory", self.memory, "--hypervisor",
            HYPERVISOR, "--serial", "none")
        self.assertIn("the destination has the VM", done.stderr)

    def test_F06_a_source_that_died_after_the_commit_hears_that_the_vm_runs_there(self):
        self.begin("source", "committed")
        self.kill(self.a)
        wait_until("the guest to run there", lambda: self.names().get("b") == "running")
        self.run_to_its_end()
        self.assert_goes_on(self.b)
        self.assertEqual(self.names(), {"b": "running"})

    def die_while_running(self):
        """The destination, with the guest that it runs."""
        wait_until("the guest to run there", lambda: self.names().get("b") == "running")
        self.b.wait_for_reports()
        self.kill(self.b)

    def assert_is_asked_again(self, instance):
        """It listens where the VM arrived, for sources that ask and for nobody else."""
        self.assertIn(f"listens on 127.0.0.1:{self.port}", instance.said())
        self.run_vm("c").wait_for_reports()
        turned_away = self.wherry(
            "migrate", "c", "--to", f"127.0.0.1:{self.port}", "--tls", "pki", code=1)
        self.assertIn("b has had its VM, and takes no other in", turned_away.stderr)
        stranger = self.wherry(
            "migrate", "c", "--to", f"127.0.0.1:{self.port}", "--insecure", code=None)
        self.assertNotEqual(stranger.returncode, 0)
        self.assertEqual(self.status("c")["state"], "running")

    def test_F06_a_vm_that_is_booted_again_where_it_came_tells_a_source_that_died(self):
        self.begin("source", "committed")
        self.kill(self.a)
        self.die_while_running()
        again = self.run_vm("b")
        self.run_to_its_end()
        self.assert_is_asked_again(again)
        self.assert_goes_on(again)
        # It is a VM like any other.
        d = self.receive_vm("d")
        self.migrate("b", "d", "--on-stall", "stop")
        self.assertEqual(again.process.wait(30), 0, again.said())
        self.assert_goes_on(d)

    def test_F06_a_vm_that_is_booted_again_where_it_came_tells_a_source_that_lives(self):
        self.begin("source", "committed")
        self.die_while_running()
        again = self.run_vm("b")
        self.a.process.send_signal(signal.SIGCONT)
        self.assertEqual(self.a.process.wait(60), 0, self.a.said())
        self.assert_goes_on(again)
        self.assertEqual(self.names(), {"b": "running"})

    def test_F06_a_vm_that_is_booted_again_needs_no_address(self):
        self.begin("source", "committed")
        self.kill(self.a)
        self.die_while_running()
        with socket.create_server(("127.0.0.1", self.port)):
            again = self.run_vm("b")
            self.assert_goes_on(again)
        self.assertIn(f"finds nobody at 127.0.0.1:{self.port}", again.said())
        self.assertIn("--keep destination", again.said())

    def test_F02_a_person_does_not_take_back_what_the_arbiter_has_given_away(self):
        in_doubt = 4
        arbiter = self.directory / "arbiter"
        self.wherry("arbiter", "init", arbiter)
        with self.holding_at("offer"):
            self.a = self.run_vm("a")
        with self.holding_at("accepted"):
            self.b = self.receive_vm("b")
        proxy = CuttingProxy(self.port_of("b"))
        self.addCleanup(proxy.close)
        self.a.wait_for_reports(3)
        self.wherry(
            "migrate", "a", "--to", f"127.0.0.1:{proxy.port}", "--tls", "pki", "--mode", "precopy",
            "--on-stall", "stop", "--arbiter", f"file:{arbiter}", "--detach")
        for instance in (self.a, self.b):
            wait_until("both sides at the offer", lambda: is_stopped(instance.process))
        proxy.cut()
        self.b.process.send_signal(signal.SIGCONT)
        wait_until("the guest to run there", lambda: self.names().get("b") == "running")
        # The source can reach neither of them.
        away = arbiter.rename(self.directory / "away")
        self.a.process.send_signal(signal.SIGCONT)
        wait_until("the source to be in doubt", lambda: self.status("a")["state"] == "in-doubt")
        heard = self.wherry("resolve", "a", "--keep", "source", code=in_doubt)
        self.assertIn("is not carried out yet", heard.stderr)
        self.assertEqual(self.names().get("b"), "running")
        away.rename(arbiter)
        wait_until(
            "the source to have heard of it",
            lambda: "the arbiter has committed the VM to the destination" in self.wherry(
                "resolve", "a", "--keep", "source", code=None).stderr)
        self.wherry("resolve", "a", "--keep", "destination")
        self.assertEqual(self.a.process.wait(60), 0, self.a.said())
        self.assert_goes_on(self.b)
        self.assertEqual(self.names(), {"b": "running"})

    def test_F02_without_an_arbiter_that_is_gone_a_person_decides(self):
        arbiter = self.directory / "arbiter"
        self.wherry("arbiter", "init", arbiter)
        pairs = {keep: self.offer_and_accept(keep, arbiter) for keep in ("source", "destination")}
        arbiter.rename(self.directory / "away")
        for source, destination in pairs.values():
            for instance in (source, destination):
                instance.process.send_signal(signal.SIGCONT)
        for source, destination in pairs.values():
            for instance in (source, destination):
                wait_until(
                    f"{instance.name} to be in doubt", lambda: "wherry resolve --no-arbiter" in
                    self.status(instance.name).get("explanation", ""))
        plain = self.wherry("resolve", pairs["source"][0].name, "--keep", "source", code=None)
        self.assertNotEqual(plain.returncode, 0)
        for keep, (source, destination) in pairs.items():
            with self.subTest(keep=keep):
                self.decide_without_arbiter(keep, source, destination)

    def offer_and_accept(self, name, arbiter):
        """Two sides, the one about to hear of the other, and both about to ask the arbiter."""
        with self.holding_at("offer"):
            source = self.run_vm(f"a-{name}")
        with self.holding_at("accepted"):
            destination = self.receive_vm(f"b-{name}")
        source.wait_for_reports(3)
        self.migrate(
            source.name, destination.name, "--mode", "precopy", "--on-stall", "stop", "--arbiter",
            f"file:{arbiter}", "--detach")
        for instance in (source, destination):
            wait_until("both sides at the offer", lambda: is_stopped(instance.process))
        return source, destination

    def decide_without_arbiter(self, keep, source, destination):
        """First on the side that is not kept."""
        kept, left = (source, destination) if keep == "source" else (destination, source)
        for instance in (left, kept):
            self.wherry("resolve", instance.name, "--keep", keep, "--no-arbiter")
        self.assert_goes_on(kept)
        self.assertEqual(left.process.wait(60), 0 if keep == "destination" else 1, left.said())
        self.assertEqual(self.names().get(kept.name), "running")
        self.assertNotIn(left.name, self.names())

    def begin_postcopy(self):
        """A migration from a to b; many pages are missing at b, which has stopped itself, for the
        whole test."""
        slowly = self.write_faster_than_precopy() + ["--postcopy-bandwidth", "100K"]
        self.a = self.run_vm("a")
        self.a.wait_for_reports(2)
        self.b, proxy = self.migrate_until_serving("a", "b", *slowly)
        return proxy

    def test_F06_a_source_that_serves_hears_that_the_vm_was_booted_again(self):
        """What it has is a half of the guest: named, and kept until a person decides."""
        proxy = self.begin_postcopy()
        self.kill(self.b)
        again = self.run_vm("b")
        wait_until("the source to hear of it", lambda: self.status("a")["state"] == "split")
        self.assert_goes_on(again)
        self.wherry("salvage", "a", "a.wimg")
        self.assertEqual(self.a.process.wait(30), 0, self.a.said())
        self.assert_goes_on(again)
        proxy.close()

    def die_while_serving(self):
        proxy = self.begin_postcopy()
        self.kill(self.a)
        return proxy

    def test_F02_a_source_that_died_serving_ends_when_the_vm_is_booted_again(self):
        proxy = self.die_while_serving()
        self.kill(self.b)
        again = self.run_vm("b")
        self.run_to_its_end()
        self.assert_goes_on(again)
        proxy.close()

    def test_F02_a_source_that_died_serving_is_named_and_given_up_by_a_person(self):
        proxy = self.die_while_serving()
        self.b.process.send_signal(signal.SIGCONT)
        again = self.run_vm("a")
        wait_until("both to know", lambda: self.status("a")["state"] == "split"
                   and self.status("b")["state"] == "split")
        self.assertIn("only its name is here", self.status("a")["explanation"])
        refused = self.wherry("resolve", "a", "--keep", "source", code=None)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("is connected", refused.stderr)
        self.wherry("resolve", "a", "--keep", "destination")
        self.assertEqual(again.process.wait(30), 0, again.said())
        # What there is of the guest stands still, for a person to write down or to end.
        seen = len(self.b.reports())
        written = self.wherry("salvage", "b", "b.wimg", code=None)
        self.assertEqual(len(self.b.reports()), seen)
        if written.returncode != 0:
            self.assertIn("does not let go of it", written.stderr)
            self.assertIn("end this VM (wherry kill), and boot it again", written.stderr)
            self.wherry("kill", "b")
        self.assertEqual(self.b.process.wait(30), 0, self.b.said())
        self.assertEqual(len(self.b.reports()), seen)
        self.assertEqual(self.names(), {})
        proxy.close()

    def test_F06_a_source_that_died_with_its_offer_open_commits_and_the_guest_lives(self):
        self.begin("source", "offer")
        self.kill(self.a)
        wait_until("the copy to be in doubt", lambda: self.status("b")["state"] == "in-doubt")
        self.run_to_its_end()
        self.assert_goes_on(self.b)

    def test_F06_a_destination_that_died_before_it_ran_the_guest_gives_it_back(self):
        self.begin("destination", "accepted")
        wait_until("the source to have committed", lambda: self.status("a")["state"] != "running")
        self.kill(self.b)
        wait_until("the source to be in doubt", lambda: self.status("a")["state"] == "in-doubt")
        again = self.receive_again()
        wait_until("the source to go on", lambda: self.status("a")["state"] == "running")
        self.assert_goes_on(self.a)
        wait_until(
            "the migration to be over", lambda: self.status("a")["job"]["state"] == "failed")
        # It is the place where the guest may still go.
        self.migrate("a", "b", "--on-stall", "stop")
        self.assert_goes_on(again)

    def test_F06_both_died_and_the_vm_is_booted_where_it_came_from(self):
        self.begin("destination", "accepted")
        self.kill(self.b)
        self.kill(self.a)
        again = self.run_vm("a")
        self.assertEqual(self.status("a")["state"], "in-doubt")
        self.assertEqual(self.status("a")["job"]["kind"], "settle")
        self.receive_again()
        wait_until("the source to be booted", lambda: self.status("a")["state"] == "running")
        self.assert_goes_on(again)
        self.migrate("a", "b", "--on-stall", "stop")
        self.assertEqual(self.names(), {"b": "running"})

    def test_F06_a_person_decides_while_the_other_side_is_gone(self):
        self.begin("destination", "accepted")
        self.kill(self.b)
        self.kill(self.a)
        again = self.run_vm("a")
        wait_until(
            "a sentence that says what is waited for",
            lambda: "refused" in self.status("a")["explanation"])
        self.wherry("resolve", "a", "--keep", "source")
        wait_until("the source to be booted", lambda: self.status("a")["state"] == "running")
        self.assert_goes_on(again)

    def test_F06_a_restart_in_doubt_can_be_ended_and_asked_again(self):
        self.begin("destination", "accepted")
        self.kill(self.b)
        self.kill(self.a)
        again = self.run_vm("a")
        again.process.send_signal(signal.SIGTERM)
        self.assertEqual(again.process.wait(30), 4, again.said())
        once_more = self.run_vm("a")
        self.wherry("resolve", "a", "--keep", "destination")
        self.assertEqual(once_more.process.wait(30), 0, once_more.said())


if __name__ == "__main__":
    main()
