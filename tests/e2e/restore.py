# SPDX-License-Identifier: Apache-2.0
"""Guests that go on from an image: at once or before, once, twice and as clones."""

import os
import re
import signal
import struct
import subprocess
from pathlib import Path

from instances import GUEST, HYPERVISOR, Instance, HostCase, is_soft, is_stopped, main, wait_until

BLOCK = 4096
CHUNK = 3


def chunks_of(file):
    """Where the payload of each chunk begins (docs/image-format.md)."""
    data = Path(file).read_bytes()
    index_at = struct.unpack_from("<Q", data, len(data) - BLOCK + 32)[0]
    length = struct.unpack_from("<Q", data, index_at + 16)[0]
    found = []
    for entry in range(index_at + BLOCK, index_at + BLOCK + length, 64):
        offset, kind, _, table = struct.unpack_from("<QHHI", data, entry)
        if kind == CHUNK:
            found.append(offset + (80 + table + BLOCK - 1) // BLOCK * BLOCK)
    return found


def flip_all(file):
    """One bit of each chunk, in place."""
    places = chunks_of(file)
    with open(file, "r+b") as image:
        for at in places:
            image.seek(at)
            byte = image.read(1)[0]
            image.seek(at)
            image.write(bytes([byte ^ 1]))


class Restore(HostCase):
    def make_image(self, memory=None):
        """a.wimg, and the guest's last report before."""
        self.file = self.directory / "a.wimg"
        log = self.directory / "before.log"
        subprocess.run(
            [os.environ["WHERRY_MAKE_IMAGE"], HYPERVISOR, memory or self.memory, GUEST,
             self.guest_options, log, self.file], check=True, cwd=self.directory)
        before = Instance.__new__(Instance)
        before.log = log
        return before.reports()[-1]

    def restore(self, name, *more):
        instance = Instance(
            self, name, ["restore", str(self.file), "--hypervisor", HYPERVISOR, *more])
        self.instances.append(instance)
        return instance

    def assert_counts_on(self, instance, before):
        """It works where it was, has checked every page since, and found none wrong."""
        wait_until("two sweeps of all memory", lambda: (
            reports := instance.reports()) and reports[-1]["sweeps"] >= before["sweeps"] + 2
            or instance.must_live())
        reports = instance.reports()
        self.assertGreater(reports[0]["n"], before["n"])
        self.assertGreaterEqual(reports[0]["checked"], before["checked"])
        self.assert_no_errors(reports)

    def generation(self, instance):
        """What the guest said last of its generation id: the id, and how often it was told."""
        found = re.findall(
            r"generation_low=0x([0-9a-f]+) generation_high=0x([0-9a-f]+) "
            r"generation_events=(\d+)\r?\n", instance.log.read_text(errors="replace"))
        low, high, events = found[-1]
        return struct.pack("<QQ", int(low, 16), int(high, 16)).hex(), int(events)

    def assert_generation(self, instance, told):
        """The guest sees what `status` says, and was told `told` times. Returns the id."""
        said = self.status(instance.name)["generation_id"]
        wanted = (said, 0 if is_soft() else told)
        wait_until(f"{wanted} in {instance.name}", lambda: (
            instance.reports() and self.generation(instance) == wanted) or instance.must_live())
        return said

    def missing(self, name):
        return self.status(name)["restoring"].get("missing_bytes", 0)

    def await_whole(self, name):
        wait_until(f"all memory of {name}", lambda: self.missing(name) == 0)

    def test_N02_a_guest_counts_on_eagerly_lazily_and_without_prefetch(self):
        before = self.make_image()
        for number, how in enumerate(([], ["--lazy"], ["--lazy", "--prefetch", "off"])):
            with self.subTest(how=how):
                name = f"r{number}"
                instance = self.restore(name, *how)
                self.assert_counts_on(instance, before)
                if how:
                    restoring = self.status(name)["restoring"]
                    self.assertGreater(restoring["image_bytes"], 0)
                    self.assertEqual(restoring["prefetch"], "off" if "off" in how else "on")
                    # It has looked at all pages but those that it does not check.
                    if "off" in how:
                        self.assertGreater(restoring["waits"]["count"], 0)
                    else:
                        self.await_whole(name)
                self.wherry("kill", name)
                instance.process.wait()
                self.assertEqual(instance.process.returncode, 0)

    def test_N02_paused_it_waits_and_tells_what_is_to_come(self):
        before = self.make_image()
        instance = self.restore("r", "--lazy", "--prefetch", "off", "--paused")
        vm = self.status("r")
        self.assertEqual(vm["state"], "paused")
        self.assertIn("are still in", vm["explanation"])
        self.assertEqual(vm["restoring"]["missing_bytes"], vm["restoring"]["image_bytes"])
        self.wherry("resume", "r")
        self.assert_counts_on(instance, before)
        instance.process.send_signal(signal.SIGTERM)
        self.assertEqual(instance.process.wait(), 0)

    def test_N06_one_image_is_restored_twice_at_once(self):
        before = self.make_image()
        first = self.restore("r1", "--lazy")
        second = self.restore("r2", "--lazy", "--prefetch", "off")
        wait_until("r1 has reported", first.reports)
        said = first.log.read_bytes()
        self.assertIn("in use", self.wherry(
            "restore", self.file, "--lazy", "--name", "r1", "--hypervisor", HYPERVISOR,
            "--serial", f"file:{first.log}", code=1).stderr)
        self.assertTrue(first.log.read_bytes().startswith(said))
        for instance in (first, second):
            self.assert_counts_on(instance, before)
        self.assertNotEqual(self.status("r1")["vm_id"], self.status("r2")["vm_id"])

    def test_N06_each_vm_of_an_image_has_a_generation_id_of_its_own_and_keeps_it(self):
        self.make_image()
        before = Instance.__new__(Instance)
        before.log = self.directory / "before.log"
        first, told = self.generation(before)
        self.assertEqual(told, 0)
        ids = [first]
        for number, how in enumerate(
                (["--lazy"], ["--lazy", "--prefetch", "off", "--paused"], ["--paused"], [])):
            instance = self.restore(f"r{number}", *how)
            if "--paused" in how:
                waiting = self.status(instance.name)["generation_id"]
                self.wherry("resume", instance.name)
                self.assertEqual(self.status(instance.name)["generation_id"], waiting)
            ids.append(self.assert_generation(instance, told=1))
            if number < 3:
                self.wherry("kill", instance.name)
        self.pki()
        there = self.receive_vm("t")
        self.migrate(instance.name, "t", "--on-stall", "stop")
        self.assertEqual(self.assert_generation(there, told=1), ids[-1])
        # A VM of a snapshot of a new VM is another one again.
        self.wherry("snapshot", "t", "again.wimg", "--base", self.file)
        self.file = self.directory / "again.wimg"
        ids.append(self.assert_generation(self.restore("s"), told=2))
        self.assertEqual(len(set(ids)), len(ids), ids)

    def test_N07_a_vm_that_is_migrated_while_it_is_restored_moves_once_it_is_whole(self):
        before = self.make_image()
        self.pki()
        self.restore("r", "--lazy", "--prefetch", "off", "--paused")
        self.assertGreater(self.missing("r"), 0)
        there = self.receive_vm("t")
        self.migrate("r", "t", "--on-stall", "stop")
        self.wherry("resume", "t")
        self.assert_counts_on(there, before)

    def test_N07_a_snapshot_of_a_vm_that_is_being_restored_is_of_the_whole_vm(self):
        before = self.make_image()
        self.restore("r", "--lazy", "--prefetch", "off", "--paused")
        self.assertGreater(self.missing("r"), 0)
        self.wherry("snapshot", "r", "again.wimg")
        self.assertEqual(self.missing("r"), 0)
        self.wherry("kill", "r")
        self.file = self.directory / "again.wimg"
        self.wherry("image", "verify", str(self.file))
        there = self.restore("s", "--lazy")
        self.wherry("resume", "s")
        self.assert_counts_on(there, before)

    def test_N07_a_migration_that_waits_for_the_image_can_be_cancelled(self):
        before = self.make_image(None if is_soft() else "256M")
        self.pki()
        with self.holding_at("waiting-for-image"):
            here = self.restore("r", "--lazy", "--prefetch", "off")
        there = self.receive_vm("t")
        migration = self.begin("migrate", "r", "--to", f"127.0.0.1:{self.port_of('t')}", "--tls",
                               "pki", "--on-stall", "stop")
        wait_until("the job to wait", lambda: is_stopped(here.process))
        cancel = self.begin("cancel", "r")
        here.process.send_signal(signal.SIGCONT)
        cancel.wait()
        migration.wait()
        # All memory may have come before the word did: then it was the migration's to hear it.
        self.assertIn(migration.returncode, (0, 3))
        self.assert_counts_on(here if migration.returncode == 3 else there, before)

    def test_N07_a_migration_whose_image_is_wrong_fails_and_the_vm_stays(self):
        self.make_image()
        self.restore("r", "--lazy", "--prefetch", "off", "--paused")
        flip_all(self.file)
        failed = self.wherry("migrate", "r", "--to", "127.0.0.1:1", "--insecure", code=1)
        self.assertRegex(failed.stderr + failed.stdout, "waiting for the image: .*its digest does")
        self.assertEqual(self.status("r")["state"], "image-error")
        self.wherry("kill", "r")

    def begin(self, *arguments):
        return subprocess.Popen(
            [os.environ["WHERRY"], *arguments], env=self.environment, cwd=self.directory,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def damaged_vm(self):
        before = self.make_image()
        instance = self.restore("r", "--lazy", "--prefetch", "off", "--paused")
        flip_all(self.file)
        self.wherry("resume", "r")
        wait_until("the VM to stop", lambda: self.status("r")["state"] == "image-error")
        return instance, before

    def test_a_vm_whose_image_is_wrong_stops_and_goes_on_once_it_is_right(self):
        instance, before = self.damaged_vm()
        vm = self.status("r")
        self.assertRegex(vm["explanation"], r"a\.wimg: section \d+ \(chunk of pages\): its digest")
        self.assertEqual(vm["restoring"]["failure"]["code"], "corrupted")
        self.assertIn("its digest does not match", instance.said())
        self.assertEqual(self.names()["r"], "image-error")
        self.assertIn("digest", self.wherry("resume", "r", code=1).stderr)
        refused = self.wherry("migrate", "r", "--to", "127.0.0.1:1", "--insecure", code=1)
        self.assertIn("stands still", refused.stderr)
        self.wherry("pause", "r")
        self.assert_no_errors(instance.reports())
        flip_all(self.file)
        self.wherry("resume", "r")
        self.assert_counts_on(instance, before)
        self.assertEqual(self.status("r")["state"], "running")

    def test_a_vm_whose_image_is_wrong_can_be_killed(self):
        for end in (lambda vm: self.wherry("kill", "r"),
                    lambda vm: vm.process.send_signal(signal.SIGTERM)):
            instance, _ = self.damaged_vm()
            end(instance)
            self.assertEqual(instance.process.wait(), 0)
            self.assertEqual(self.names(), {})
            self.assert_no_errors(instance.reports())
            for file in ("a.wimg", "before.log", "r.log"):
                (self.directory / file).unlink(missing_ok=True)

    def test_the_order_of_touches_is_kept_beside_the_image(self):
        before = self.make_image()
        order = Path(f"{self.file}.order")
        # Without prefetch the first: a guest that is slow may touch nothing before it is there.
        for name, how in (("r1", ["--prefetch", "off"]), ("r2", [])):
            instance = self.restore(name, "--lazy", *how)
            self.assert_counts_on(instance, before)
            self.wherry("kill", name)
            self.assertEqual(instance.process.wait(), 0)
            self.assertEqual(order.read_bytes()[:8], b"WHERRYOR")
        order.write_bytes(b"nonsense")
        self.assert_counts_on(self.restore("r3", "--lazy"), before)

    def test_N03_an_encrypted_image_is_restored_with_its_key_alone(self):
        before = self.make_image()
        key = self.directory / "key"
        key.write_bytes(bytes(range(32)))
        key.chmod(0o600)
        plain, self.file = self.file, self.directory / "sealed.wimg"
        self.wherry("image", "convert", plain, self.file, "--encrypt", key)
        refused = self.wherry("restore", self.file, "--name", "r", code=1)
        self.assertIn("it is encrypted: --key KEYFILE", refused.stderr)
        for number, how in enumerate(([], ["--lazy"])):
            instance = self.restore(f"r{number}", "--key", str(key), *how)
            self.assert_counts_on(instance, before)
            self.wherry("kill", instance.name)
        parent = self.begin(
            "restore", str(self.file), "--clone", "2", "--key", str(key),
            "--hypervisor", HYPERVISOR)
        wait_until("two VMs", lambda: list(self.names().values()) == ["running"] * 2)
        parent.send_signal(signal.SIGTERM)
        self.assertEqual(parent.wait(), 0)

    def test_N08_clones_are_vms_of_their_own(self):
        before = self.make_image()
        image = self.wherry("image", "show", self.file, "--json").stdout
        parent = subprocess.Popen(
            [os.environ["WHERRY"], "restore", str(self.file), "--clone", "3", "--name", "c",
             "--hypervisor", HYPERVISOR, "--serial", f"file:{self.directory}/%n.log"],
            env=self.environment, cwd=self.directory)
        try:
            names = ["c-1", "c-2", "c-3"]
            wait_until("three VMs", lambda: self.names() == dict.fromkeys(names, "running"))
            ids = {self.status(name)["vm_id"] for name in names}
            self.assertEqual(len(ids), 3)
            self.assertEqual(len({self.status(name)["generation_id"] for name in names}), 3)
            self.assertFalse([one for one in ids if one in image])
            for name in names:
                clone = Instance.__new__(Instance)
                clone.name, clone.process = name, parent
                clone.log = self.directory / f"{name}.log"
                self.assert_counts_on(clone, before)
            self.wherry("kill", "c-2")
            wait_until("two VMs", lambda: sorted(self.names()) == ["c-1", "c-3"])
            parent.send_signal(signal.SIGTERM)
            self.assertEqual(parent.wait(), 0)
            self.assertEqual(self.names(), {})
        finally:
            parent.kill()


if __name__ == "__main__":
    main()
