#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The network goes for good in post-copy: both halves of the VM are written, joined and restored."""

import ctypes
import hashlib
import json
import os
import signal
import struct
from pathlib import Path

from instances import HYPERVISOR, HostCase, Instance, is_soft, main, skip, wait_until

BLOCK = 4096

xxh3_64 = ctypes.CDLL("libxxhash.so.0").XXH3_64bits
xxh3_64.restype = ctypes.c_uint64

def root_of(path):
    """The root digest of an image, by docs/image-format.md alone; every section's is looked at."""
    file = Path(path).read_bytes()
    trailer = file[-BLOCK:]
    assert b"xxh3-64" in file[:BLOCK]
    magic, at, length = struct.unpack_from("<8s24xQQ", trailer)
    assert (magic, length) == (b"WHERRYIE", len(file))
    head = file[at:at + 80]
    (payload_length,) = struct.unpack_from("<Q", head, 16)
    index = file[at + BLOCK:at + BLOCK + payload_length]
    for begin in range(0, len(index), 64):
        offset, _, _, table, payload, _, digest = struct.unpack_from("<QHHIQQ32s", index, begin)
        front = -(-(80 + table) // BLOCK) * BLOCK
        contents = file[offset + 80:offset + 80 + table]
        contents += file[offset + front:offset + front + payload]
        # A number there, and little-endian here, with zeros up to the length of the other kind.
        assert xxh3_64(contents, ctypes.c_size_t(len(contents))).to_bytes(32, "little") == digest
    root = hashlib.sha256(file[:BLOCK] + head + index).digest()
    assert root == trailer[48:80]
    return root.hex()


class Salvage(HostCase):
    def setUp(self):
        super().setUp()
        # What follows the guest comes so slowly that much is missing for the whole test.
        self.slowly = self.write_faster_than_precopy() + ["--postcopy-bandwidth", "100K"]
        self.pki()
        self.a = self.run_vm("a")
        self.a.wait_for_reports(3)

    def split(self, *more, source="a", destination="b"):
        """The guest runs on the destination with pages missing, and the network is gone."""
        b, proxy = self.migrate_until_serving(source, destination, *self.slowly, *more)
        proxy.cut()
        b.process.send_signal(signal.SIGCONT)
        wait_until(
            "both sides to have noticed",
            lambda: "is not connected" in self.status(source).get("explanation", "")
            and "is not connected" in self.status(destination).get("explanation", ""))
        return b

    def salvage(self, instance, file):
        done = self.wherry("salvage", instance.name, file)
        self.assertIn("wherry image join", done.stdout)
        self.assertEqual(instance.process.wait(30), 0, instance.said())

    def salvage_destination(self, b, file="d.wimg"):
        """Not every hypervisor lets go of a vCPU that waits for a page: then the test ends here."""
        done = self.wherry("salvage", b.name, file, code=None)
        if "does not let go of it here" in done.stderr:
            # Nothing is lost, and nothing was given up.
            self.assertEqual(self.status(b.name)["state"], "running")
            self.assertFalse((self.directory / file).exists())
            skip(
                self, "the destination's half, written and joined",
                f"{HYPERVISOR} does not let go of a vCPU that waits for a page")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(b.process.wait(30), 0, b.said())

    def restore(self, name, file, *more):
        instance = Instance(
            self, name, ["restore", file, "--hypervisor", HYPERVISOR, *more],
            cwd=self.directory)
        self.instances.append(instance)
        return instance

    def show(self, file):
        return json.loads(self.wherry("image", "show", file, "--json").stdout)

    def test_P04_both_halves_make_the_guest_as_it_is(self):
        generation = self.status("a")["generation_id"]
        b = self.split()
        self.salvage_destination(b)
        self.salvage(self.a, "s.wimg")
        before = (b.reports() or self.a.reports())[-1]
        source, destination = self.show("s.wimg"), self.show("d.wimg")
        self.assertEqual(source["extent"], "source-half")
        self.assertEqual(destination["extent"], "destination-half")
        self.assertGreater(destination["absent_bytes"], 0)
        self.assertEqual(source["migration_id"], destination["migration_id"])
        self.assertEqual(source["epoch"], destination["epoch"])
        refused = self.wherry("restore", "d.wimg", "--name", "c", code=1)
        self.assertIn("the destination's half", refused.stderr)
        for pair in (("d.wimg", "s.wimg"), ("s.wimg", "s.wimg")):
            self.assertIn("half comes", self.wherry("image", "join", *pair, "x", code=1).stderr)
        self.wherry("image", "join", "s.wimg", "d.wimg", "c.wimg")
        self.wherry("image", "verify", "c.wimg")
        self.assertEqual(root_of(self.directory / "c.wimg"), self.show("c.wimg")["root_digest"])
        self.assertIn(
            "is there already",
            self.wherry("image", "join", "s.wimg", "d.wimg", "c.wimg", code=1).stderr)
        # The same of halves that were put away encrypted.
        key = self.directory / "key"
        key.write_bytes(bytes(range(32)))
        key.chmod(0o600)
        for half in ("s", "d"):
            self.wherry("image", "convert", f"{half}.wimg", f"{half}2.wimg", "--encrypt", key)
        self.assertIn("--key", self.wherry(
            "image", "join", "s2.wimg", "d2.wimg", "c2.wimg", code=1).stderr)
        self.wherry("image", "join", "s2.wimg", "d2.wimg", "c2.wimg", "--key", key,
                    "--layout", "raw")
        same = json.loads(self.wherry("image", "diff", "c.wimg", "c2.wimg", "--json").stdout)
        self.assertEqual((same["differing_pages"], same["state_differs"]), (0, False))
        # The names of both sides remember that the VM was salvaged.
        self.assertIn(
            "never runs again from here",
            self.wherry("run", "--name", "a", "--kernel", os.environ["WHERRY_GUEST"], code=1).stderr)
        c = self.restore("c", "c.wimg")
        self.assert_goes_on_from(c, before)
        self.assertEqual(self.status("c")["generation_id"], generation)  # it is the VM itself
        self.assertEqual(self.names(), {"c": "running"})
        # It moves on as any VM.
        d = self.receive_vm("d")
        self.migrate("c", "d", "--on-stall", "stop")
        self.assert_goes_on(d)

    def test_P04_the_sources_half_is_the_guest_as_it_was_at_the_switch(self):
        b = self.split()
        b.process.kill()
        b.process.wait()
        before = self.a.reports()[-1]
        self.salvage(self.a, "s.wimg")
        refused = self.wherry("restore", "s.wimg", "--name", "c", code=1)
        self.assertIn("--as-of-switch", refused.stderr)
        c = self.restore("c", "s.wimg", "--as-of-switch", "--paused")
        self.assertIn("as it was when it was handed over", c.said())
        self.assertEqual(self.names(), {"c": "paused"})
        self.wherry("resume", "c")
        self.assert_goes_on_from(c, before)
        # And once more where it has been since: not under a name that knows better.
        c.process.kill()
        c.process.wait()
        again = self.wherry("restore", "s.wimg", "--name", "c", "--as-of-switch", code=1)
        self.assertIn("has been 3 on this host since", again.stderr)

    def test_P04_a_shared_arbiter_lets_an_image_be_restored_once(self):
        arbiter = self.directory / "arbiter"
        arbiter.mkdir()
        (arbiter / "wherry-arbiter").touch()
        b = self.split("--arbiter", f"file:{arbiter}")
        b.process.kill()
        b.process.wait()
        self.salvage(self.a, "s.wimg")
        before = self.a.reports()[-1]
        c = self.restore("c", "s.wimg", "--as-of-switch")
        records = sorted((arbiter / self.show("s.wimg")["vm_id"]).iterdir())
        self.assertIn("RECLAIMED", records[-1].read_text())
        self.assert_goes_on_from(c, before)
        again = self.wherry("restore", "s.wimg", "--name", "d", "--as-of-switch", code=1)
        self.assertIn("it was restored before", again.stderr)
        # The arbiter knows the VM as it is now: it can be offered.
        e = self.receive_vm("e")
        self.migrate("c", "e", "--on-stall", "stop", "--arbiter", f"file:{arbiter}")
        self.assert_goes_on(e)

    def test_P04_a_session_that_was_given_up_can_be_salvaged(self):
        b = self.split("--recover-timeout", "5s")
        b.process.kill()
        b.process.wait()
        wait_until("the source to give up", lambda: self.status("a")["state"] == "in-doubt")
        self.assertIn("wherry salvage a", self.status("a")["explanation"])
        self.salvage(self.a, "s.wimg")
        self.assertEqual(self.show("s.wimg")["extent"], "source-half")
        self.wherry("image", "verify", "s.wimg")

    def test_P04_where_no_half_is_nothing_is_given_up(self):
        refused = self.wherry("salvage", "a", "x.wimg", code=1)
        self.assertIn("no half of a VM is here", refused.stderr)
        b = self.split()
        for file in ("nowhere/x.wimg", "pki"):
            self.wherry("salvage", "a", file, code=1)
        self.assertEqual(self.status("a")["job"]["progress"]["owner_state"], "serving")
        self.assertEqual(b.process.poll(), None)

    def test_P04_what_could_not_be_written_is_kept(self):
        small = self.directory / "small"
        small.mkdir()
        if os.system(f"mount -t tmpfs -o size=1M none {small} 2>/dev/null") != 0:
            self.skipTest("a file system of its own needs root")
        try:
            self.split()
            refused = self.wherry("salvage", "a", small / "s.wimg", code=1)
            self.assertRegex(
                refused.stderr, r"needs up to [\d.]+ MiB, of which [\d.]+ MiB found no room")
            self.assertEqual(list(small.iterdir()), [])
        finally:
            os.system(f"umount -l {small}")
        self.assertEqual(self.names()["a"], "salvaged")
        self.a.process.send_signal(signal.SIGTERM)
        self.salvage(self.a, "s.wimg")
        self.wherry("image", "verify", "s.wimg")


if __name__ == "__main__":
    main()
