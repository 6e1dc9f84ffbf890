#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One guest, moved back and forth 200 times in a row between processes over mTLS."""

import os

from instances import HostCase, is_soft, main, wait_until

HOPS = int(os.environ.get("WHERRY_HOPS", "200"))


class TwoHundredHops(HostCase):
    def test_C09_the_guest_never_sees_a_wrong_page(self):
        self.pki()
        if not is_soft():
            self.guest_options = "zero=50 compressible=25 random=25 hot=4M rate=5000 report=20"
            self.memory = "64M"
        here = self.run_vm("hop-0")
        here.wait_for_reports(3)
        sweeps = 0
        for hop in range(1, HOPS + 1):
            there = self.receive_vm(f"hop-{hop}")
            self.migrate(here.name, there.name)
            reports = there.wait_for_reports(2)
            self.assert_no_errors(here.reports() + reports)
            self.assertEqual(here.process.wait(30), 0)
            self.assertEqual(self.names(), {there.name: "running"})
            self.assertGreaterEqual(reports[-1]["sweeps"], sweeps)
            sweeps = reports[-1]["sweeps"]
            here = there
        wait_until("a last sweep", lambda: here.reports()[-1]["sweeps"] >= sweeps + 2)
        self.assert_no_errors(here.reports())
        print(f"{HOPS} hops, {here.reports()[-1]['checked']} pages checked, 0 errors")


if __name__ == "__main__":
    main()
