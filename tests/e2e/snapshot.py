#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Snapshots of running VMs, and the VMs that come of them."""

import json
import os
import random
import subprocess
import time

from instances import (
    HYPERVISOR, PATIENCE_S, WHERRY, HostCase, Instance, is_soft, main, wait_until)


class Snapshot(HostCase):
    def setUp(self):
        super().setUp()
        # Its state takes longer to save where guests are slow, and machines loaded.
        self.goal = ["--downtime", "2s"] if is_soft() else []

    def snapshot(self, name, file, *more, code=0):
        return self.wherry("snapshot", name, file, *self.goal, *more, code=code)

    def restore(self, name, file, *more):
        log = self.directory / f"{name}.log"
        log.unlink(missing_ok=True)
        instance = Instance(
            self, name, ["restore", file, "--hypervisor", HYPERVISOR, *more], cwd=self.directory)
        self.instances.append(instance)
        return instance

    def attach(self, name, process):
        """To a VM that was started by hand."""
        instance = Instance.__new__(Instance)
        instance.name, instance.process = name, process
        instance.log = instance.messages = self.directory / f"{name}.log"
        return instance

    def show(self, file):
        return json.loads(self.wherry("image", "show", file, "--json").stdout)

    def kill(self, instance):
        instance.process.kill()
        instance.process.wait()

    def images(self):
        return sorted(path.name for path in self.directory.iterdir() if ".wimg" in path.name)

    def start_snapshot(self, name, file, *more):
        return subprocess.Popen(
            [WHERRY, "snapshot", name, file, *self.goal, *more], env=self.environment,
            cwd=self.directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)

    def test_N01_a_live_snapshot_restored_goes_on_and_so_does_the_guest(self):
        a = self.run_vm("a")
        before = a.wait_for_reports(3)[-1]
        done = self.snapshot("a", "a.wimg", "--live")
        self.assertIn("blackout", done.stdout)
        self.assert_goes_on(a)
        self.wherry("image", "verify", "a.wimg")
        shown = self.show("a.wimg")
        self.assertEqual((shown["extent"], shown["vm_name"]), ("whole", "a"))
        job = self.status("a")["job"]
        self.assertEqual((job["kind"], job["state"]), ("snapshot", "done"))
        self.assertEqual(job["report"]["wire_bytes"], shown["file_bytes"])
        self.kill(a)
        # Under its own name, which is free now.
        again = self.restore("a", "a.wimg")
        self.assert_goes_on_from(again, before)
        self.assertEqual(self.names(), {"a": "running"})

    def test_N01_a_guest_stopped_for_its_snapshot_goes_on(self):
        a = self.run_vm("a")
        before = a.wait_for_reports(3)[-1]
        lines = self.snapshot("a", "a.wimg", "--paused", "--json").stdout.splitlines()
        job = json.loads(lines[-1])
        self.assertEqual((job["state"], job["report"]["rounds"]), ("done", 1))
        self.assert_goes_on(a)
        self.assert_goes_on_from(self.restore("b", "a.wimg"), before)

    def test_N01_a_paused_vm_is_restored_paused(self):
        a = self.run_vm("a")
        before = a.wait_for_reports(2)[-1]
        self.wherry("pause", "a")
        self.snapshot("a", "a.wimg")
        self.assertEqual(self.names(), {"a": "paused"})
        b = self.restore("b", "a.wimg")
        self.assertEqual(self.names(), {"a": "paused", "b": "paused"})
        self.wherry("resume", "b")
        self.assert_goes_on_from(b, before)

    def make_key(self):
        key = self.directory / "key"
        key.write_bytes(bytes(range(32)))
        key.chmod(0o600)
        return key

    def test_N01_a_chain_of_ten_live_increments(self):
        a = self.run_vm("a")
        a.wait_for_reports(3)
        key = self.make_key()
        how = ["--encrypt", key]
        self.snapshot("a", "0.wimg", *how)
        for number in range(1, 11):
            before = a.reports()[-1]
            self.snapshot("a", f"{number}.wimg", "--base", f"{number - 1}.wimg", *how)
        self.assert_goes_on(a)
        self.kill(a)
        self.assertIn("10", self.wherry("image", "verify", "10.wimg", "--key", key).stdout)
        chain = json.loads(
            self.wherry("image", "ls-chain", "10.wimg", "--key", key, "--json").stdout)
        self.assertEqual(len(chain["images"]), 11)
        # Not what the guest reads alone.
        full, last = (os.path.getsize(self.directory / f"{n}.wimg") for n in (0, 10))
        self.assertLess(last, full)
        self.wherry("image", "flatten", "10.wimg", "whole.wimg", "--key", key, *how)
        same = json.loads(self.wherry(
            "image", "diff", "10.wimg", "whole.wimg", "--key", key, "--json").stdout)
        self.assertEqual((same["differing_pages"], same["state_differs"]), (0, False))
        for name, file, lazily in (("b", "10.wimg", []), ("c", "10.wimg", ["--lazy"]),
                                   ("d", "whole.wimg", [])):
            restored = self.restore(name, file, "--key", str(key), *lazily)
            self.assert_goes_on_from(restored, before)
            self.kill(restored)

    def test_N04_what_cannot_be_a_base_is_refused_and_the_vm_goes_on(self):
        a = self.run_vm("a")
        key = self.make_key()
        self.snapshot("a", "plain.wimg")
        self.snapshot("a", "sealed.wimg", "--encrypt", key)
        for file, base, more, complaint in (
                ("x.wimg", "none.wimg", [], "none.wimg"),
                ("x.wimg", "sealed.wimg", [], "written with that key: --encrypt"),
                ("plain.wimg", "plain.wimg", ["--replace"], "cannot be replaced by an image that"),
        ):
            with self.subTest(base=base):
                refused = self.snapshot("a", file, "--base", base, *more, code=1)
                self.assertRegex(refused.stderr, complaint)
        # Elsewhere: it says how it is restored, and so it is.
        (self.directory / "else").mkdir()
        done = self.snapshot("a", "else/x.wimg", "--base", "plain.wimg")
        self.assertIn(f"--bases {self.directory}", done.stderr)
        alone = self.wherry("image", "verify", "else/x.wimg", code=1)
        self.assertIn("the base of", alone.stderr)
        self.wherry("image", "verify", "else/x.wimg", "--bases", self.directory)
        # What is to be encrypted may be based on what is not.
        self.snapshot("a", "x.wimg", "--base", "plain.wimg", "--encrypt", key)
        self.assert_goes_on(a)
        # Its base rolled back: an older image under the same name.
        (self.directory / "sealed.wimg").rename(self.directory / "plain.wimg")
        refused = self.wherry("restore", "x.wimg", "--key", key, "--name", "b", code=1)
        self.assertIn("is not what", refused.stderr)
        self.assertNotIn("b", self.names())

    def test_N04_a_signed_snapshot_is_restored_by_those_who_trust_its_signer(self):
        a = self.run_vm("a")
        before = a.wait_for_reports(2)[-1]
        for name in ("ours", "theirs"):
            subprocess.run(
                ["openssl", "genpkey", "-algorithm", "ed25519", "-out", f"{name}.pem"],
                cwd=self.directory, check=True)
            subprocess.run(
                ["openssl", "pkey", "-in", f"{name}.pem", "-pubout", "-out", f"{name}.pub.pem"],
                cwd=self.directory, check=True)
            (self.directory / f"{name}.pem").chmod(0o600)
        self.snapshot("a", "a.wimg", "--sign", "ours.pem", "--layout", "raw")
        refused = self.wherry(
            "restore", "a.wimg", "--name", "b", "--trust", "theirs.pub.pem", code=1)
        self.assertIn("sign", refused.stderr)
        self.assert_goes_on_from(
            self.restore("b", "a.wimg", "--trust", "ours.pub.pem"), before)

    def test_N06_two_vms_of_one_image_are_two_vms(self):
        a = self.run_vm("a")
        before = a.wait_for_reports(3)[-1]
        self.snapshot("a", "a.wimg")
        starting = [
            subprocess.Popen(
                [WHERRY, "restore", "a.wimg", "--hypervisor", HYPERVISOR, "--name", name,
                 "--serial", f"file:{self.directory / name}.log"],
                env=self.environment, cwd=self.directory, stdin=subprocess.DEVNULL)
            for name in ("b", "c")]
        try:
            wait_until("both", lambda: self.is_up("b") and self.is_up("c"))
            self.assertEqual(self.names(), {"a": "running", "b": "running", "c": "running"})
            for name in ("b", "c"):
                restored = self.attach(name, starting["bc".index(name)])
                self.assert_goes_on_from(restored, before)
                self.snapshot(name, f"{name}.wimg")
            ids = {self.show(f"{name}.wimg")["vm_id"] for name in "abc"}
            self.assertEqual(len(ids), 3)
            # Not a second one of a name that is in use.
            refused = self.wherry("restore", "a.wimg", "--name", "b", code=1)
            self.assertIn("b", refused.stderr)
            refused = self.wherry("restore", "a.wimg", code=1)
            self.assertIn("a", refused.stderr)
        finally:
            for process in starting:
                process.kill()
                process.wait()

    def test_a_file_that_is_there_is_replaced_only_when_told_to(self):
        a = self.run_vm("a")
        a.wait_for_reports(1)
        self.snapshot("a", "a.wimg")
        first = self.show("a.wimg")["image_id"]
        refused = self.snapshot("a", "a.wimg", code=1)
        self.assertIn("--replace", refused.stderr)
        self.assertEqual(self.show("a.wimg")["image_id"], first)
        self.snapshot("a", "a.wimg", "--replace")
        self.assertNotEqual(self.show("a.wimg")["image_id"], first)
        self.assertEqual(self.images(), ["a.wimg"])
        self.snapshot("a", "nowhere/a.wimg", code=1)
        self.assert_goes_on(a)

    def test_one_that_is_cancelled_leaves_nothing_and_the_vm_moves_on(self):
        self.pki()
        a = self.run_vm("a")
        a.wait_for_reports(2)
        b = self.receive_vm("b")
        # Nobody reads its stream: it is under way for as long as that is so.
        with subprocess.Popen(
                [WHERRY, "snapshot", "a", "-", *self.goal], env=self.environment,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as sender:
            wait_until(
                "the snapshot to be under way",
                lambda: self.status("a").get("job", {}).get("state") == "running")
            self.assertEqual(self.status("a")["job"]["kind"], "snapshot")
            self.assertIn("snapshot to a stream", self.wherry("status", "a").stdout)
            refused = self.migrate("a", "b", code=1)
            self.assertIn("cannot be migrated while a snapshot of it is taken", refused.stderr)
            refused = self.snapshot("a", "x.wimg", code=1)
            self.assertIn("while a snapshot of it is taken", refused.stderr)
            self.wherry("pause", "a", code=1)
            self.wherry("cancel", "a")
            wait_until(
                "it to be cancelled", lambda: self.status("a")["job"]["state"] == "cancelled")
            sender.stdout.close()
            said = sender.stderr.read().decode()
        self.assertEqual(sender.returncode, 3, said)
        # A file is gone with its snapshot.
        process = self.start_snapshot("a", "a.wimg")
        time.sleep(0.05)
        self.wherry("cancel", "a", code=None)  # it may be too late
        _, said = process.communicate(timeout=PATIENCE_S)
        self.assertIn(process.returncode, (0, 3), said)
        self.assertEqual(self.images(), [] if process.returncode == 3 else ["a.wimg"])
        self.migrate("a", "b", "--on-stall", "stop")
        self.assert_goes_on(b)

    def test_none_during_a_migration(self):
        self.pki()
        a = self.run_vm("a")
        a.wait_for_reports(1)
        self.receive_vm("b")
        self.wherry(
            "migrate", "a", "--to", f"127.0.0.1:{self.port_of('b')}", "--tls", "pki",
            "--bandwidth", "500K", "--detach")
        refused = self.snapshot("a", "a.wimg", code=1)
        self.assertIn("cannot be snapshotted while it is being migrated", refused.stderr)
        self.assertEqual(self.images(), [])
        self.wherry("cancel", "a")
        wait_until("it to be cancelled", lambda: self.status("a")["job"]["state"] == "cancelled")
        self.snapshot("a", "a.wimg")
        self.assert_goes_on(a)

    def test_N05_a_process_that_is_killed_leaves_the_old_file(self):
        a = self.run_vm("a", memory="32M")
        a.wait_for_reports(1)
        begun = time.monotonic()
        self.snapshot("a", "x.wimg")
        took = time.monotonic() - begun
        seed = random.randrange(1 << 32)
        print(f"seed {seed}, a snapshot takes {took:.2f} s")
        chance = random.Random(seed)
        replaced, left = 0, 0
        last = self.show("x.wimg")["image_id"]
        for _ in range(10 if is_soft() else 50):
            process = self.start_snapshot("a", "x.wimg", "--replace")
            time.sleep(chance.uniform(0, took * 1.2))
            self.kill(a)
            process.communicate(timeout=PATIENCE_S)
            self.wherry("image", "verify", "x.wimg")
            now = self.show("x.wimg")["image_id"]
            replaced += now != last
            last = now
            for name in self.images():
                if name != "x.wimg":
                    left += 1
                    self.assertRegex(name, r"^x\.wimg\.\d+\.new$")
            self.assertLessEqual(len(self.images()), 2)
            self.instances.remove(a)
            a = self.run_vm("a", memory="32M")
            a.wait_for_reports(1)
        print(f"{replaced} were whole before, {left} left a file")
        self.snapshot("a", "x.wimg", "--replace")
        self.assertEqual(self.images(), ["x.wimg"])
        self.assert_goes_on(a)

    def test_N05_a_full_disk_leaves_the_vm_running_and_says_how_much_was_missing(self):
        small = self.directory / "small"
        small.mkdir()
        if os.system(f"mount -t tmpfs -o size=4M none {small} 2>/dev/null") != 0:
            self.skipTest("a file system of its own needs root")
        try:
            a = self.run_vm("a")
            a.wait_for_reports(2)
            for way in ("--live", "--paused"):
                refused = self.snapshot("a", small / "a.wimg", way, code=1)
                self.assertRegex(
                    refused.stderr, r"needs up to [\d.]+ MiB, of which [\d.]+ MiB found no room")
                self.assertEqual(list(small.iterdir()), [])
                self.assert_goes_on(a)
            self.snapshot("a", "a.wimg")
            self.wherry("image", "verify", "a.wimg")
        finally:
            os.system(f"umount -l {small}")

    def test_a_snapshot_streams(self):
        a = self.run_vm("a")
        before = a.wait_for_reports(3)[-1]
        with open(self.directory / "a.wimg", "wb") as file:
            subprocess.run(
                [WHERRY, "snapshot", "a", "-", *self.goal], env=self.environment, stdout=file,
                check=True, timeout=PATIENCE_S)
        self.wherry("image", "verify", "a.wimg")
        self.assert_goes_on_from(self.restore("b", "a.wimg"), before)
        # And straight on: into another VM.
        with subprocess.Popen(
                [WHERRY, "snapshot", "a", "-", *self.goal], env=self.environment,
                stdout=subprocess.PIPE) as sender:
            c = subprocess.Popen(
                [WHERRY, "restore", "-", "--hypervisor", HYPERVISOR, "--name", "c", "--serial",
                 f"file:{self.directory}/c.log"],
                env=self.environment, stdin=sender.stdout)
            self.addCleanup(c.wait)
            self.addCleanup(c.kill)
            sender.stdout.close()
        self.assertEqual(sender.returncode, 0)
        self.assert_goes_on_from(self.attach("c", c), before)
        # One that is cut off, or followed by anything, comes to nothing.
        image = (self.directory / "a.wimg").read_bytes()
        for bad in (image[:len(image) // 2], image[:-4096], image + b"x", b""):
            done = subprocess.run(
                [WHERRY, "restore", "-", "--hypervisor", HYPERVISOR, "--name", "d", "--serial",
                 "none"], env=self.environment, input=bad, capture_output=True,
                timeout=PATIENCE_S)
            self.assertEqual(done.returncode, 1)
            self.assertIn(b"standard input: ", done.stderr)
        # A reader that goes away is no harm to the VM.
        with subprocess.Popen(
                [WHERRY, "snapshot", "a", "-", *self.goal], env=self.environment,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            process.stdout.read(100_000)
            process.stdout.close()
            said = process.stderr.read().decode()
        self.assertEqual(process.returncode, 1, said)
        self.assert_goes_on(a)


if __name__ == "__main__":
    main()
