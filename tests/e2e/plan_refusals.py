#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a VM cannot be moved to, or with, is refused before any memory has moved, naming why."""

import contextlib
import ctypes
import os
import resource
import socket
import unittest

from instances import HostCase, hypervisor_in_use, main


def limit_address_space():
    limit = 3 << 30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@contextlib.contextmanager
def closed_port():
    """One at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def mount_nothing_on(directory):
    """For this process and its children the directory is empty. Needs root."""
    new_namespace, private, recursive = 0x20000, 1 << 18, 1 << 14  # sched.h, sys/mount.h
    libc = ctypes.CDLL(None, use_errno=True)
    done = (libc.unshare(new_namespace),
            libc.mount(None, b"/", None, ctypes.c_ulong(private | recursive), None),
            libc.mount(b"none", os.fsencode(directory), b"tmpfs", ctypes.c_ulong(0), None))
    if any(done):
        raise OSError(ctypes.get_errno(), "hiding the directory")


class PlanRefusals(HostCase):
    def refuse(self, *words):
        done = self.migrate("a", "b", code=1)
        for word in words:
            self.assertIn(word, done.stderr)
        self.assertEqual(self.names()["a"], "running")
        self.assert_goes_on(self.instances[0])
        # Its place is still free for a VM that fits.
        self.assertEqual(self.names()["b"], "listening")

    def test_F05_too_little_memory(self):
        self.pki()
        self.run_vm("a", memory="4G", options="zero=100 touch=0 check-zero=0 hot=1M").wait_for_reports(1)
        self.receive_vm("b", preexec=limit_address_space)
        self.refuse("memory", "4")

    @unittest.skipUnless(hypervisor_in_use() == "kvm", "SKIPPED: kvm to soft: needs /dev/kvm")
    def test_missing_cpu_features(self):
        self.pki()
        self.run_vm("a").wait_for_reports()
        self.receive_vm("b", hypervisor="soft")
        self.refuse("the guest sees x2apic")

    @unittest.skipUnless(hypervisor_in_use() == "kvm", "SKIPPED: vCPU count: needs /dev/kvm")
    def test_too_many_vcpus(self):
        self.pki()
        self.run_vm("a", "--cpus", "2").wait_for_reports()
        self.receive_vm("b", hypervisor="soft")
        self.refuse("vCPU")

    def offer_through(self, arbiter, *words):
        """An arbiter that does not answer is found out before the guest stands still for it."""
        done = self.migrate("a", "b", "--arbiter", arbiter, code=None)
        self.assertNotEqual(done.returncode, 0)
        for word in ("asking the arbiter", *words):
            self.assertIn(word, done.stderr)
        self.assertEqual(self.status("a")["state"], "running")
        self.assert_goes_on(self.instances[0])
        self.assertEqual(self.names()["b"], "listening")

    def test_F01_an_arbiter_that_is_not_there(self):
        self.pki()
        self.run_vm("a").wait_for_reports()
        b = self.receive_vm("b")
        with closed_port() as port:
            self.offer_through(f"etcd:127.0.0.1:{port}", f"127.0.0.1:{port}")
        directory = self.directory / "arbiter"
        remedy = f"wherry arbiter init {directory}"
        self.offer_through(f"file:{directory}", "is not there", remedy)
        directory.mkdir()
        self.offer_through(f"file:{directory}", "has no file", remedy)
        # What was mistyped is no obstacle to what is right.
        self.wherry("arbiter", "init", directory)
        self.migrate("a", "b", "--on-stall", "stop", "--arbiter", f"file:{directory}")
        self.assert_goes_on(b)

    @unittest.skipUnless(
        os.geteuid() == 0, "SKIPPED: an arbiter that one of the hosts has not mounted: needs root")
    def test_F01_an_arbiter_that_the_destination_does_not_reach(self):
        self.pki()
        arbiter = self.directory / "arbiter"
        self.wherry("arbiter", "init", arbiter)
        self.run_vm("a").wait_for_reports()
        self.receive_vm("b", preexec=lambda: mount_nothing_on(arbiter))
        self.offer_through(
            f"file:{arbiter}", "the destination refused", "mount what belongs there")


if __name__ == "__main__":
    main()
