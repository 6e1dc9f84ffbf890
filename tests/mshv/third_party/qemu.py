#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An unmodified QEMU with its mshv accelerator on the simulator: firmware, devices, interrupts.

Argument: the personality, or nothing for 7.2. Environment: WHERRY_MSHVSIM (the mshvsim command),
WHERRY_PROBE (the guest), WHERRY_MSHV_QEMU (a qemu-system-x86_64; default: that of PATH),
WHERRY_MSHV_QEMU_DATA (folders with its firmware, separated by colons; default: QEMU's own).
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

MSHVSIM = os.environ["WHERRY_MSHVSIM"]
PROBE = os.environ["WHERRY_PROBE"]
PERSONALITY = sys.argv.pop(1) if len(sys.argv) > 1 and sys.argv[1][0].isdigit() else "7.2"
# Ring 0 may run in an emulator of 1 MIPS: the firmware alone then takes ten seconds.
PATIENCE_S = 240
SKIPPED = 77

# What QEMU does before the guest runs, in this order. By CREATE_PARTITION's flags: 11 and 10.2.
START_UP = {
    "0xf": (
        r"open\(/dev/mshv\)", r"GET_PARTITION_PROPERTY PROCESSOR_FEATURES0",
        r"GET_PARTITION_PROPERTY PROCESSOR_FEATURES1", r"CREATE_PARTITION flags=0xf",
        r"SET_PARTITION_PROPERTY SYNTHETIC_PROC_FEATURES=0x6400ffb", r"INITIALIZE_PARTITION",
        r"SET_PARTITION_PROPERTY UNIMPLEMENTED_MSR_ACTION=0x1",
        r"SET_PARTITION_PROPERTY TIME_FREEZE=0x1", r"SET_PARTITION_PROPERTY TIME_FREEZE=0x0",
        r"GET_PARTITION_PROPERTY PROCESSOR_FEATURES0",
        r"GET_PARTITION_PROPERTY PROCESSOR_FEATURES1", r"SET_MSI_ROUTING entries=24"),
    "0x7": (
        r"open\(/dev/mshv\)", r"CREATE_PARTITION flags=0x7",
        r"SET_PARTITION_PROPERTY SYNTHETIC_PROC_FEATURES=0x6400ffb", r"INITIALIZE_PARTITION",
        r"SET_MSI_ROUTING entries=24", r"SET_PARTITION_PROPERTY UNIMPLEMENTED_MSR_ACTION=0x1",
        r"SET_PARTITION_PROPERTY TIME_FREEZE=0x1", r"SET_PARTITION_PROPERTY TIME_FREEZE=0x0"),
}
# The thread of the VP, in this order; memory is mapped meanwhile.
VP = (r"CREATE_VP index=0", r"SET_VP_REGISTERS vp=0", r"GET_VP_STATE type=0",
      r"SET_VP_STATE type=0", r"RUN_VP")
# Version 11 only.
CPUID = r"REGISTER_INTERCEPT_RESULT vp=0 cpuid 0x1\."
# While the guest runs, in any order.
RUNNING = (r"SET_GUEST_MEMORY gfn=0x0 ", r"SET_GUEST_MEMORY .*\(unmap\)",
           r"RUN_VP X64_IO_PORT_INTERCEPT .*in port=0x511 size=1 string rep",
           r"RUN_VP X64_IO_PORT_INTERCEPT .*out port=0x402 size=1 string rep",
           r"RUN_VP UNMAPPED_GPA .*read gpa=0xfed00000", r"RUN_VP UNMAPPED_GPA .*write gpa=0xfec00010",
           r"RUN_VP GPA_INTERCEPT .*write gpa=0xfffffff0",
           r"ASSERT_VIRTUAL_INTERRUPT .*vector=0x50", r"TRANSLATE_VIRTUAL_ADDRESS")


def skip(reason):
    print(f"SKIPPED: QEMU on the simulator as {PERSONALITY}: {reason}")
    sys.exit(SKIPPED)


def find_qemu():
    """Ends the test as skipped where there is none; what was named must have the accelerator."""
    named = os.environ.get("WHERRY_MSHV_QEMU")
    program = named or shutil.which("qemu-system-x86_64")
    how = "docs/mshv.md tells how to get one; its path goes to WHERRY_MSHV_QEMU"
    if not program:
        skip(f"no qemu-system-x86_64; {how}")
    listed = subprocess.run(
        [program, "-accel", "help"], capture_output=True, text=True, check=True).stdout.split()
    if "mshv" not in listed:
        if named:
            sys.exit(f"WHERRY_MSHV_QEMU={named} has no mshv accelerator: {' '.join(listed)}")
        skip(f"{program} has no mshv accelerator; {how}")
    return program


class Qemu(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="wherry-qemu-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def start(self):
        data = os.environ.get("WHERRY_MSHV_QEMU_DATA", "")
        folders = [word for folder in data.split(":") if folder for word in ("-L", folder)]
        with open(self.folder / "messages", "wb") as messages:
            process = subprocess.Popen(
                [MSHVSIM, "--personality", PERSONALITY, "--trace", self.folder / "trace", "--",
                 QEMU, *folders, "-accel", "mshv", "-machine", "pc", "-m", "64", "-nodefaults",
                 "-display", "none", "-monitor", "none", "-serial", f"file:{self.folder}/serial",
                 "-chardev", f"file,id=firmware,path={self.folder}/firmware",
                 "-device", "isa-debugcon,iobase=0x402,chardev=firmware", "-kernel", PROBE],
                stdin=subprocess.DEVNULL, stdout=messages, stderr=subprocess.STDOUT)
        self.addCleanup(self.end, process)
        return process

    def end(self, process):
        if process.poll() is None:
            process.kill()
            process.wait()

    def text(self, name):
        path = self.folder / name
        return path.read_text(errors="replace") if path.exists() else ""

    def everything(self):
        trace = "\n".join(self.text("trace").splitlines()[-20:])
        return "\n".join([*map(self.text, ("messages", "firmware", "serial")), trace])

    def wait_for(self, process, what, holds):
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            if process.poll() is not None:
                self.fail(f"QEMU ended with {process.returncode}\n{self.everything()}")
            if time.monotonic() > deadline:
                self.fail(f"waited {PATIENCE_S} s in vain for {what}\n{self.everything()}")
            time.sleep(0.1)

    def calls(self):
        """The trace without times, threads and descriptors."""
        return [re.sub(r"^\S+ \[\d+\] (fd \d+[^:]*: )?", "", line)
                for line in self.text("trace").splitlines()]

    def assert_in_order(self, calls, patterns):
        rest = iter(calls)
        for pattern in patterns:
            self.assertTrue(
                any(re.search(pattern, call) for call in rest),
                f"no {pattern} after what comes before it in {patterns}\n{self.everything()}")

    def assert_start_up(self, calls):
        flags = re.search(r"CREATE_PARTITION flags=(\w+)", "\n".join(calls))
        self.assertTrue(flags and flags[1] in START_UP, self.everything())
        self.assert_in_order(calls, START_UP[flags[1]])
        self.assert_in_order(calls, VP)
        if flags[1] == "0xf":
            self.assert_in_order(calls, (VP[0], CPUID, VP[-1]))

    @unittest.skipIf(PERSONALITY == "6.18", "one host range at two guest addresses: a case of its own")
    def test_firmware_devices_and_interrupts_work_and_it_ends_when_told(self):
        qemu = self.start()
        self.wait_for(qemu, "the verdict", lambda: re.search(
            r"^wherry-probe (verdict|exception) .*\n", self.text("serial"), re.MULTILINE))
        self.assertRegex(
            self.text("serial"), r"wherry-probe verdict checks=24 failures=0\n", self.everything())
        firmware = self.text("firmware")
        for line in (r"^SeaBIOS \(version ", r"Microsoft Hv", r"^Booting from ",
                     r"^wherry-probe string.out$"):
            self.assertRegex(firmware, re.compile(line, re.MULTILINE))
        calls = self.calls()
        self.assert_start_up(calls)
        for pattern in RUNNING:
            self.assertTrue(any(re.search(pattern, call) for call in calls), pattern)
        self.assertEqual(
            [call for call in calls if " = -1 " in call and not call.endswith("EINTR")], [])

        # The guest is halted for good: only a signal gets its VP out of RUN_VP.
        qemu.send_signal(signal.SIGTERM)
        self.assertEqual(qemu.wait(PATIENCE_S), 0, self.everything())
        self.assertRegex(self.calls()[-1], r"RUN_VP .*= -1 EINTR$")

    @unittest.skipUnless(PERSONALITY == "6.18", "for kernels that refuse such memory")
    def test_a_kernel_that_refuses_shared_host_memory_stops_it_in_words(self):
        # QEMU 11 maps its firmware twice; 10.2 has a remedy, and then boots.
        qemu = self.start()
        deadline = time.monotonic() + PATIENCE_S
        while qemu.poll() is None and "SeaBIOS" not in self.text("firmware"):
            self.assertLess(time.monotonic(), deadline, self.everything())
            time.sleep(0.1)
        if qemu.poll() is None:
            return
        self.assertNotEqual(qemu.returncode, 0, self.everything())
        self.assertIn("failed to set guest memory", self.text("messages"))
        self.assertRegex(
            "\n".join(self.calls()), re.compile(r"SET_GUEST_MEMORY .* = -1 EEXIST$", re.MULTILINE))


if __name__ == "__main__":
    QEMU = find_qemu()
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        skip("firmware needs the simulator's kvm engine, and /dev/kvm cannot be opened")
    unittest.main(verbosity=2)
