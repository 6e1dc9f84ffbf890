# SPDX-License-Identifier: Apache-2.0
"""Drives the wherry program as a user does: processes, names, logs, exit codes.

Environment: WHERRY (the program), WHERRY_GUEST (the test guest), WHERRY_ODD_PKI (makes
certificates that `wherry pki` does not make), WHERRY_HYPERVISOR (default auto).
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from cutting_proxy import CuttingProxy

WHERRY = os.environ["WHERRY"]
GUEST = os.environ["WHERRY_GUEST"]
ODD_PKI = os.environ.get("WHERRY_ODD_PKI", "")
HYPERVISOR = os.environ.get("WHERRY_HYPERVISOR", "auto")
# Far beyond anything but a hang, also under a sanitizer on a loaded machine.
PATIENCE_S = 120

BUSY_GUEST = "zero=50 compressible=25 random=25 hot=8M rate=5000 report=100"
SOFT_GUEST = "zero=50 compressible=25 random=25 hot=1M rate=100 check=2000 report=100"


def hypervisor_in_use():
    """What `auto` comes to here: "kvm" or "soft"."""
    if HYPERVISOR != "auto":
        return HYPERVISOR
    return "kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) else "soft"


def is_soft():
    """Whether guests run in Unicorn here: one vCPU, and slowly."""
    in_use = hypervisor_in_use()
    if in_use == "soft" or in_use.endswith(":soft"):
        return True
    return in_use.startswith("mshvsim") and not os.access("/dev/kvm", os.R_OK | os.W_OK)


def wait_until(what, holds, patience_s=PATIENCE_S):
    deadline = time.monotonic() + patience_s
    while True:
        value = holds()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience_s} s in vain for {what}")
        time.sleep(0.02)


def is_stopped(process):
    """By SIGSTOP, as with WHERRY_HOLD_AT."""
    try:
        with open(f"/proc/{process.pid}/stat", encoding="ascii") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def skip(test, what, reason):
    """As tests/run counts it, and says it at its end."""
    print(f"SKIPPED: {what}: {reason}", flush=True)
    test.skipTest(reason)


REPORT = re.compile(
    r"^wherry-guest report n=(?P<n>\d+) cpu=(?P<cpu>\d+) .*?checked=(?P<checked>\d+) "
    r"sweeps=(?P<sweeps>\d+) .*?errors=(?P<errors>\d+) .*?tsc_back=(?P<back>\d+)")


class Instance:
    """One `wherry run` or `wherry receive`."""

    def __init__(self, host, name, arguments, preexec=None, cwd=None):
        self.name = name
        self.log = host.directory / f"{name}.log"
        self.messages = host.directory / f"{name}.messages"
        with open(self.messages, "ab") as messages:
            self.process = subprocess.Popen(
                [WHERRY, *arguments, "--name", name, "--serial", f"file:{self.log}"],
                env=host.environment, stdin=subprocess.DEVNULL, stdout=messages,
                stderr=subprocess.STDOUT, preexec_fn=preexec, cwd=cwd)
        wait_until(f"the API of {name}", lambda: host.is_up(name) or self.must_live())

    def must_live(self):
        if self.process.poll() is not None:
            raise AssertionError(
                f"{self.name} ended with {self.process.returncode}: {self.said()}")
        return False

    def said(self):
        return self.messages.read_text(errors="replace")

    def reports(self):
        if not self.log.exists():
            return []
        text = self.log.read_text(errors="replace")
        whole = text[:text.rfind("\n") + 1]
        return [{key: int(value) for key, value in match.groupdict().items()}
                for match in map(REPORT.match, whole.splitlines()) if match]

    def wait_for_reports(self, count=1):
        return wait_until(
            f"{count} reports of the guest in {self.name}",
            lambda: (reports := self.reports()) and len(reports) >= count and reports
            or self.must_live())


class HostCase(unittest.TestCase):
    """A test with a host of its own: names, certificates and files go away with it."""

    def setUp(self):
        self.directory = Path(tempfile.mkdtemp(prefix="wherry-e2e-"))
        self.environment = dict(os.environ, XDG_RUNTIME_DIR=str(self.directory),
                                XDG_STATE_HOME=str(self.directory / "state"))
        self.instances = []
        self.guest_options = SOFT_GUEST if is_soft() else BUSY_GUEST
        if is_soft() and hypervisor_in_use() != "soft":
            self.guest_options += " ring=0"  # it knows SoftPartition's CPUID only
        self.memory = "32M" if is_soft() else "128M"

    def tearDown(self):
        for instance in self.instances:
            if instance.process.poll() is None:
                instance.process.kill()
                instance.process.wait()
        failed = self._outcome and any(
            error for _, error in getattr(self._outcome, "errors", []) if error)
        if failed or sys.exc_info()[0]:
            for instance in self.instances:
                print(f"--- {instance.name} said:\n{instance.said()}")
        shutil.rmtree(self.directory)

    def write_faster_than_precopy(self):
        """Guests begun from here on write more than a migration with these options sends, and its
        goal is met by no round: it goes on by post-copy, which is as fast as --postcopy-bandwidth
        lets it."""
        if is_soft():
            # More than a few batches, which buffers on the way would take.
            self.guest_options = self.guest_options.replace("hot=1M rate=100 ", "hot=8M rate=600 ")
        else:
            self.guest_options = "zero=20 compressible=40 random=40 hot=48M rate=20000 report=100"
        return ["--mode", "hybrid", "--bandwidth", "2M" if is_soft() else "40M",
                "--downtime", "1ms"]

    def wherry(self, *arguments, code=0):
        """Runs the program to its end; fails unless it ends with `code` (None: any)."""
        done = subprocess.run(
            [WHERRY, *map(str, arguments)], env=self.environment, cwd=self.directory,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S)
        if code is not None:
            self.assertEqual(
                done.returncode, code, f"wherry {' '.join(map(str, arguments))}: "
                f"{done.stdout}{done.stderr}")
        return done

    def pki(self, name="pki", hosts="localhost,127.0.0.1"):
        self.wherry("pki", "init", name, "--host", hosts)
        return self.directory / name

    def odd_pki(self, kind):
        """Certificates of that kind (make_odd_pki.cpp); the CA is that of `self.pki()`."""
        subprocess.run([ODD_PKI, kind, self.directory / "pki", self.directory / kind], check=True)
        return self.directory / kind

    def is_up(self, name):
        return self.wherry("status", name, code=None).returncode == 0

    def run_vm(self, name, *more, guest=GUEST, options=None, memory=None, hypervisor=HYPERVISOR):
        instance = Instance(self, name, [
            "run", "--kernel", guest, "--memory", memory or self.memory, "--hypervisor", hypervisor,
            "--cmdline", self.guest_options if options is None else options, *more])
        self.instances.append(instance)
        return instance

    def receive_vm(self, name, *more, tls="pki", hypervisor=HYPERVISOR, preexec=None):
        security = ["--tls", str(self.directory / tls)] if tls else ["--insecure"]
        instance = Instance(
            self, name,
            ["receive", "--listen", "127.0.0.1:0", "--hypervisor", hypervisor, *security, *more],
            preexec)
        self.instances.append(instance)
        return instance

    @contextlib.contextmanager
    def with_environment(self, **variables):
        """What is started meanwhile has these variables; None: not that one."""
        before = dict(self.environment)
        self.environment.update({key: value for key, value in variables.items() if value})
        try:
            yield
        finally:
            self.environment.clear()
            self.environment.update(before)

    def holding_at(self, state):
        """What is started meanwhile stops itself when it comes to this state; None: it does not."""
        return self.with_environment(WHERRY_HOLD_AT=state)

    def migrate_until_faulting(self, source, destination, *how):
        """By post-copy, through a proxy. The destination, which has stopped itself as soon as the
        guest ran there with pages missing (in an instant it has those that it needs), and the
        proxy."""
        with self.holding_at("faulting"):
            held = self.receive_vm(destination)
        proxy = CuttingProxy(self.port_of(destination))
        self.addCleanup(proxy.close)
        self.wherry(
            "migrate", source, "--to", f"127.0.0.1:{proxy.port}", "--tls", "pki", *how, "--detach")
        wait_until("the guest to run with pages missing", lambda: is_stopped(held.process))
        return held, proxy

    def migrate_until_serving(self, source, destination, *how):
        """The same, once the source serves pages: before, it is in doubt, for the destination's
        word is on its way."""
        held, proxy = self.migrate_until_faulting(source, destination, *how)
        wait_until(
            "the source to serve pages",
            lambda: self.status(source)["job"]["progress"]["owner_state"] == "serving")
        return held, proxy

    def status(self, name):
        return json.loads(self.wherry("status", name, "--json").stdout)

    def port_of(self, name):
        return int(self.status(name)["listen"].rpartition(":")[2])

    def migrate(self, source, destination, *more, tls="pki", code=0):
        security = ["--tls", str(self.directory / tls)] if tls else ["--insecure"]
        return self.wherry(
            "migrate", source, "--to", f"127.0.0.1:{self.port_of(destination)}", *security, *more,
            code=code)

    def names(self):
        return {vm["name"]: vm["state"] for vm in map(
            json.loads, self.wherry("ps", "--json").stdout.splitlines())}

    def assert_goes_on(self, instance):
        """The guest runs there and still finds every page right."""
        seen = len(instance.wait_for_reports())
        reports = instance.wait_for_reports(seen + 3)
        self.assert_no_errors(reports)

    def assert_goes_on_from(self, instance, before):
        """Its counters continue, and a whole sweep finds every page right."""
        first = instance.wait_for_reports()[0]
        self.assertGreaterEqual(first["n"], before["n"])
        self.assertGreaterEqual(first["checked"], before["checked"])
        sweeps = first["sweeps"]
        wait_until("a whole sweep", lambda: instance.reports()[-1]["sweeps"] >= sweeps + 2)
        self.assert_no_errors(instance.reports())

    def assert_no_errors(self, reports):
        for report in reports:
            self.assertEqual((report["errors"], report["back"]), (0, 0), report)


def main():
    unittest.main(verbosity=2)
