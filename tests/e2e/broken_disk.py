#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""F04: the disk with the journals breaks, on either side and at chosen moments; and a destination
that cannot have the guest's memory.

Each side's state directory is an ext4 of its own on a loop device, in a mount namespace of the
test's own. It fails by ext4's own command for that: from then on every call on it gives EIO.
"""

import fcntl
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import time

from instances import HostCase, is_stopped, main, skip, wait_until

IS_ALONE = "WHERRY_TEST_HAS_MOUNTS"
EXT4_IOC_SHUTDOWN = 0x8004587D
WITHOUT_FLUSHING = 2


def limit_address_space():
    limit = 1 << 30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


class BrokenDisk(HostCase):
    def setUp(self):
        if IS_ALONE not in os.environ:
            skip(self, "F04", "no file system can be mounted here")
        super().setUp()
        self.pki()

    def disk_of(self, name):
        return self.directory / f"disk-{name}"

    def on_a_disk_of_its_own(self, name, begin, hold=None):
        disk, image = self.disk_of(name), self.directory / f"{name}.img"
        disk.mkdir()
        subprocess.run(["truncate", "-s", "8M", image], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, disk], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", disk], check=False)
        with self.with_environment(XDG_STATE_HOME=str(disk), WHERRY_HOLD_AT=hold):
            return begin()

    def tearDown(self):
        for instance in self.instances:
            if instance.process.poll() is None:
                instance.process.kill()
                instance.process.wait()
        self.doCleanups()  # before the directory goes
        super().tearDown()

    def break_disk(self, name):
        directory = os.open(self.disk_of(name), os.O_RDONLY)
        try:
            fcntl.ioctl(directory, EXT4_IOC_SHUTDOWN, struct.pack("I", WITHOUT_FLUSHING))
        finally:
            os.close(directory)

    def start(self, source_at=None, destination_at=None):
        self.a = self.on_a_disk_of_its_own("a", lambda: self.run_vm("a"), source_at)
        self.b = self.on_a_disk_of_its_own("b", lambda: self.receive_vm("b"), destination_at)
        self.a.wait_for_reports(2)

    def explanation(self, name):
        return self.status(name).get("explanation", "")

    def tells_its_user(self, here, other, records, there):
        """What is in the other side's way."""
        says = re.compile(
            rf"{other} says: {records}\(1\) cannot be written: .*/{there}\.journal", re.DOTALL)
        wait_until(
            f"{here} to say what is in the way of {other}",
            lambda: says.search(self.wherry("status", here).stdout))

    def stays_by_name(self, side, record):
        """Nobody runs the guest, and `side` says which file is in its way, and why."""
        wait_until(
            f"{side} to say what is in its way", lambda: "tried again" in self.explanation(side))
        said = self.explanation(side)
        self.assertIn(f"{record} cannot be written", said)
        self.assertIn(f"{self.disk_of(side)}/wherry/{side}.journal", said)
        self.assertIn("Input/output error", said)
        seen = len(self.a.reports())
        time.sleep(1)
        self.assertEqual(len(self.a.reports()), seen, "it runs at the source")
        self.assertEqual(self.b.reports(), [], "it runs at the destination")

    def test_F04_the_destinations_disk_fails_before_it_accepts(self):
        self.start(destination_at="precopy")
        self.migrate("a", "b", "--detach")
        wait_until("the destination to get pages", lambda: is_stopped(self.b.process))
        self.break_disk("b")
        self.b.process.send_signal(signal.SIGCONT)
        wait_until(
            "the source to have taken it back",
            lambda: "no answer came in time" in self.wherry("status", "a").stdout)
        self.tells_its_user("a", "the destination", "(ACCEPTED|ABANDONED)", "b")
        self.assert_goes_on(self.a)
        self.assertEqual(self.b.reports(), [])

    def test_F04_the_destinations_disk_fails_before_it_runs(self):
        self.start(destination_at="accepted")
        self.migrate("a", "b", "--detach")
        wait_until("the destination to accept", lambda: is_stopped(self.b.process))
        self.break_disk("b")
        self.b.process.send_signal(signal.SIGCONT)
        self.stays_by_name("b", "RUNNING(1)")
        self.tells_its_user("a", "the destination", "RUNNING", "b")

    def test_F04_the_sources_disk_fails_before_the_offer(self):
        self.start(source_at="precopy")
        self.migrate("a", "b", "--detach")
        wait_until("the source in pre-copy", lambda: is_stopped(self.a.process))
        self.break_disk("a")
        self.a.process.send_signal(signal.SIGCONT)
        self.stays_by_name("a", "RECLAIMED(2)")

    def test_F04_the_sources_disk_fails_at_the_commit(self):
        self.start(source_at="offer")
        self.migrate("a", "b", "--detach")
        wait_until("the source at its offer", lambda: is_stopped(self.a.process))
        self.break_disk("a")
        self.a.process.send_signal(signal.SIGCONT)
        self.stays_by_name("a", "RECLAIMED(2)")

    def test_F04_the_guests_memory_cannot_be_had_at_the_destination(self):
        self.a = self.run_vm("a", memory="2G", options="zero=100 touch=0 check-zero=0 hot=1M")
        self.a.wait_for_reports(1)
        self.receive_vm("b", preexec=limit_address_space)
        refused = self.migrate("a", "b", code=1)
        self.assertIn("memory", refused.stderr)
        self.assert_goes_on(self.a)
        self.assertEqual(self.names(), {"a": "running", "b": "listening"})


if __name__ == "__main__":
    can_mount = subprocess.run(
        ["unshare", "--mount", "sh", "-c", "truncate -s 8M $0 && mkfs.ext4 -q -F $0 && "
         "mount -o loop $0 /mnt; r=$?; rm -f $0; exit $r", "/tmp/wherry-e2e-probe.img"],
        check=False, capture_output=True).returncode == 0
    if IS_ALONE not in os.environ and can_mount:
        os.environ[IS_ALONE] = "1"
        os.execvp("unshare", ["unshare", "--mount", sys.executable, *sys.argv])
    main()
