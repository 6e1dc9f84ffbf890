#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`wherry image` on images that are there: what is in them, whether they are right, what they
differ in, and copies of them in other layouts, with and without keys."""

import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

WHERRY = os.environ["WHERRY"]
GOLDEN = Path(__file__).resolve().parents[1] / "golden"
KEY = b"\x01" * 32  # of image_v1_sealed.wimg


class ImageFiles(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="wherry-images-"))
        self.addCleanup(shutil.rmtree, self.folder)
        for name in ("raw", "zstd", "sealed", "child"):
            shutil.copy(GOLDEN / f"image_v1_{name}.wimg", self.folder)
        self.key = self.folder / "key"
        self.key.write_bytes(KEY)
        self.key.chmod(0o600)

    def file(self, name):
        return str(self.folder / f"image_v1_{name}.wimg")

    def image(self, *words, code=0):
        done = subprocess.run(
            [WHERRY, "image", *map(str, words)], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout if code == 0 else done.stderr

    def differing(self, one, other):
        return json.loads(self.image("diff", one, other, "--json"))["differing_pages"]

    def test_show(self):
        self.assertIn("a whole guest of golden", self.image("show", self.file("raw")))
        child = json.loads(self.image("show", self.file("child"), "--json"))
        self.assertEqual(child["base_file"], "image_v1_zstd.wimg")
        self.assertIn("base", child["features"])
        sealed = json.loads(self.image("show", self.file("sealed"), "--key", self.key, "--json"))
        self.assertEqual(len(sealed["signer"]), 64)

    def test_verify(self):
        self.assertIn("every byte is right", self.image("verify", self.file("raw")))
        self.assertIn("the 1 it is based on", self.image("verify", self.file("child")))
        self.assertIn("with --key", self.image("verify", self.file("sealed")))
        self.assertIn(
            "every byte is right", self.image("verify", self.file("sealed"), "--key", self.key))
        self.assertIn(
            "is not signed",
            self.image("verify", self.file("raw"), "--trust", self.public_key(), code=1))
        raw = Path(self.file("raw"))
        bytes_ = bytearray(raw.read_bytes())
        bytes_[6 * 4096] ^= 1  # in the chunk
        raw.write_bytes(bytes_)
        self.assertRegex(
            self.image("verify", raw, code=1), r"image_v1_raw.wimg: section \d+ \(chunk of pages\)")

    def test_wrong_keys(self):
        self.assertIn(
            "encrypted: --key KEYFILE", self.image("show", self.file("sealed"), code=1))
        self.key.write_bytes(b"k" * 32)
        self.assertIn(
            "with another key",
            self.image("show", self.file("sealed"), "--key", self.key, code=1))
        self.key.chmod(0o640)
        self.assertIn(
            "chmod 600", self.image("show", self.file("sealed"), "--key", self.key, code=1))

    def test_diff(self):
        self.assertEqual(self.differing(self.file("raw"), self.file("zstd")), 0)
        self.assertEqual(self.differing(self.file("raw"), self.file("child")), 2)
        shown = self.image("diff", self.file("raw"), self.file("child"))
        self.assertIn("2 of 512 pages differ", shown)
        self.assertIn("  0x8 to 0x9\n", shown)

    def test_chain_and_flatten(self):
        listed = json.loads(self.image("ls-chain", self.file("child"), "--json"))["images"]
        self.assertEqual(
            [Path(image["file"]).name for image in listed],
            ["image_v1_zstd.wimg", "image_v1_child.wimg"])
        flat = self.folder / "flat.wimg"
        self.image("flatten", self.file("child"), flat)
        self.assertEqual(self.differing(self.file("child"), flat), 0)
        self.assertIn("is there already", self.image("flatten", self.file("child"), flat, code=1))
        os.remove(self.file("zstd"))
        self.image("verify", flat)
        self.assertIn("the base of", self.image("verify", self.file("child"), code=1))

    def private_key(self):
        path = self.folder / "sign.pem"
        if not path.exists():
            subprocess.run(
                ["openssl", "genpkey", "-algorithm", "ed25519", "-out", path], check=True)
            path.chmod(0o600)
        return path

    def public_key(self):
        path = self.folder / "trust.pem"
        subprocess.run(
            ["openssl", "pkey", "-in", self.private_key(), "-pubout", "-out", path], check=True)
        return path

    def test_convert(self):
        sealed = self.folder / "new.wimg"
        self.image(
            "convert", self.file("raw"), sealed, "--layout", "zstd", "--level", "3",
            "--encrypt", self.key, "--sign", self.private_key())
        keys = ("--key", self.key, "--trust", self.public_key())
        self.image("verify", sealed, *keys)
        opened = self.folder / "opened.wimg"
        self.image("convert", sealed, opened, "--layout", "raw", *keys)
        self.assertEqual(self.differing(self.file("raw"), opened), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
