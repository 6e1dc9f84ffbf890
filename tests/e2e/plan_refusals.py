#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Destinations that cannot take the VM refuse it before any memory has moved, naming why."""

import resource
import unittest

from instances import HostCase, hypervisor_in_use, main


def limit_address_space():
    limit = 3 << 30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


class PlanRefusals(HostCase):
    def refuse(self, *words):
        done = self.migrate("a", "b", code=1)
        for word in words:
            self.assertIn(word, done.stderr)
        self.assertEqual(self.names()["a"], "running")
        self.assert_goes_on(self.instances[0])
        # Its place is still free for a VM that fits.
        self.assertEqual(self.names()["b"], "listening")

    def test_too_little_memory(self):
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


if __name__ == "__main__":
    main()
