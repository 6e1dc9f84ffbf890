# SPDX-License-Identifier: Apache-2.0
"""The lab host: its initramfs, and the QEMU process that runs it."""

import os
import re
import selectors
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cpio
from cloud_kernel import Unavailable

HERE = Path(__file__).resolve().parent
ALIVE = re.compile(rb"^lab host alive cpu=(\d+) [0-9.]+\r?$")
SILENCE_S = 30
BOOT_S = 60
ATTEMPTS = 3
# Not more: README.md, "One CPU".
CPUS = "1"
FINISHED = re.compile(rb"^LAB FINISHED code=(\d+)\r?$")
# AMD with nested virtualization. Taken away: what TCG of QEMU 7.2 lacks (so that every QEMU gives the same CPU), and
# XSAVE with what needs it, because TCG lets XSETBV of a nested guest pass by its hypervisor.
LACKING = "rdseed sha-ni fxsr-opt misalignsse 3dnowprefetch osvw topoext nrip-save xsavec"
UNSAFE = "xsave xsaveopt xgetbv1 avx avx2 fma f16c"
CPU = "EPYC,+svm,+npt" + "".join(f",-{name}" for name in f"{LACKING} {UNSAFE}".split())
TIMED_OUT = 124
HOST_DIED = 125
HOST_HUNG = 126


def guest_image():
    """The initramfs of the Linux that runs as guest inside the lab host."""
    image = cpio.busybox_image()
    image.add_file("/init", HERE / "guest_init", 0o755)
    return image


def options_of_guest(scenario):
    """What a scenario wants its guest's kernel to be configured with."""
    found = re.search(r"^# guest needs: (.+)$", scenario.read_text(), re.MULTILINE)
    return found.group(1).split() if found else []


def host_image(kernel, guest_kernel, guest_initrd, scenario):
    image = cpio.busybox_image()
    image.add_file("/init", HERE / "host_init", 0o755)
    for name in ("heartbeat.awk", "follow_console", "scenario_library.sh"):
        image.add_file(f"/lab/{name}", HERE / name, 0o755)
    image.add_file("/lab/scenario", scenario, 0o755)
    image.add_bytes("/etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
    image.add_bytes("/etc/hosts", b"127.0.0.1 localhost\n")
    order = []
    for name, content in kernel.modules("kvm-amd", "kvm-intel"):
        image.add_bytes(f"/lab/modules/{name}", content)
        order.append(name)
    image.add_bytes("/lab/modules/order", "\n".join(order).encode() + b"\n")
    image.add_file("/guest/vmlinuz", guest_kernel.image)
    image.add_file("/guest/initrd", guest_initrd)
    return image


def build_kvm_check(build_dir):
    source, program = HERE / "kvm_check.cpp", build_dir / "kvm_check"
    compiler = next((found for name in ("clang++-19", "clang++", "g++") if (found := shutil.which(name))), None)
    if not compiler:
        raise Unavailable("package clang-19 is not installed")
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        options = ["-std=c++2b", "-O1", "-Wall", "-Wextra", "-Werror"]
        subprocess.run([compiler, *options, "-o", program, source], check=True)
    return program


def add_binary(image, binary, build_dir):
    """Puts a program under its own path, with the shared libraries that ldd names, and makes it callable by name."""
    binary = Path(binary).resolve()
    image.add_file(binary, _without_debug_data(binary, build_dir), 0o755)
    image.add_link(f"/usr/local/bin/{binary.name}", binary)
    listed = subprocess.run(["ldd", binary], capture_output=True, text=True)
    missing = re.search(r"^\s*(\S+) => not found", listed.stdout, re.MULTILINE)
    if missing:
        raise RuntimeError(f"{binary} needs {missing.group(1)}, which ldd does not find")
    for library in re.findall(r"(/\S+) \(0x", listed.stdout):
        image.add_file(library, Path(library).resolve(), 0o755)


def _without_debug_data(binary, build_dir):
    """Debug data would make the image many times larger; the copy without it is kept until the program changes."""
    strip = shutil.which("strip")
    if not strip:
        return binary
    copy = build_dir / "stripped" / str(binary).lstrip("/").replace("/", "+")
    copy.parent.mkdir(parents=True, exist_ok=True)
    if not copy.exists() or copy.stat().st_mtime < binary.stat().st_mtime:
        fresh = copy.with_name(f"{copy.name}.{os.getpid()}")
        subprocess.run([strip, "--strip-debug", "-o", fresh, binary], check=True)
        fresh.rename(copy)
    return copy


def qemu_command(kernel, initrd, memory):
    qemu = shutil.which("qemu-system-x86_64")
    if not qemu:
        raise Unavailable("package qemu-system-x86 is not installed")
    return [
        qemu, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        "-machine", "q35", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", CPU, "-smp", CPUS,
        "-m", memory, "-kernel", kernel.image, "-initrd", initrd, "-serial", "stdio",
        "-append", "console=ttyS0 quiet loglevel=4 panic=-1 tsc=reliable no_timer_check mitigations=off "
        "random.trust_cpu=on audit=0 nokaslr preempt=full",
    ]


class _Console:
    """Passes the console on to standard output line by line, and remembers what the lab host says about itself."""

    def __init__(self):
        self._partial = b""
        self._boot_until = time.monotonic() + BOOT_S
        self._alive_until = {}
        self.code = None

    def take(self, data):
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            if alive := ALIVE.match(line):
                self._alive_until[int(alive.group(1))] = time.monotonic() + SILENCE_S
                continue
            if finished := FINISHED.match(line):
                self.code = int(finished.group(1))
            self._show(line + b"\n")

    def end(self):
        self._show(self._partial)

    def next_deadline(self):
        return min(self._alive_until.values(), default=self._boot_until)

    def silence(self):
        """What the lab host fails to do, or None while it is alive."""
        now = time.monotonic()
        if not self._alive_until:
            return f"it has not come up within {BOOT_S} s" if now >= self._boot_until else None
        silent = [f"CPU {cpu}" for cpu, until in sorted(self._alive_until.items()) if now >= until]
        return f"no process has run on its {' and '.join(silent)} for {SILENCE_S} s" if silent else None

    @staticmethod
    def _show(data):
        sys.stdout.buffer.write(data.replace(b"\r", b""))
        sys.stdout.buffer.flush()


def _come_first():
    """What else this machine does must not show as gaps inside the lab, where we may have it so."""
    try:
        os.nice(-15)
    except PermissionError:
        pass


def _run_once(command, deadline):
    """Returns the scenario's exit code, TIMED_OUT, HOST_DIED or HOST_HUNG."""
    console = _Console()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, preexec_fn=_come_first) as qemu:
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(qemu.stdout, selectors.EVENT_READ)
                while console.code is None:
                    wait_s = min(deadline, console.next_deadline()) - time.monotonic()
                    if selector.select(max(0.0, wait_s)):
                        data = os.read(qemu.stdout.fileno(), 65536)
                        if not data:
                            print("lab: the host ended without a result", file=sys.stderr)
                            return HOST_DIED
                        console.take(data)
                    if console.code is None and (silence := console.silence()):
                        print(f"lab: THE LAB HOST HUNG: {silence}, though QEMU lives", file=sys.stderr)
                        return HOST_HUNG
                    if console.code is None and time.monotonic() >= deadline:
                        print("lab: no result within the time limit; stopping the host", file=sys.stderr)
                        return TIMED_OUT
                return console.code
        finally:
            console.end()
            qemu.kill()


def run(command, limit_s):
    """Runs the lab host to its end, afresh when it hangs. Returns the scenario's exit code, TIMED_OUT, HOST_DIED or
    HOST_HUNG. Only a hung host is tried again: a scenario that fails, or lasts too long on a host that is alive, has
    failed."""
    deadline = time.monotonic() + limit_s
    for attempt in range(1, ATTEMPTS + 1):
        code = _run_once(command, deadline)
        if code != HOST_HUNG:
            break
        if attempt < ATTEMPTS:
            again = f"attempt {attempt + 1} of {ATTEMPTS} begins"
            print(f"lab: this says nothing about the scenario; {again}", file=sys.stderr)
    return code
