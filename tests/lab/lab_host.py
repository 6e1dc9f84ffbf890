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
FINISHED = re.compile(rb"^LAB FINISHED code=(\d+)\r?$", re.MULTILINE)
# AMD with nested virtualization. Taken away: what TCG of QEMU 7.2 lacks (so that every QEMU gives the same CPU), and
# XSAVE with what needs it, because TCG lets XSETBV of a nested guest pass by its hypervisor.
LACKING = "rdseed sha-ni fxsr-opt misalignsse 3dnowprefetch osvw topoext nrip-save xsavec"
UNSAFE = "xsave xsaveopt xgetbv1 avx avx2 fma f16c"
CPU = "EPYC,+svm,+npt" + "".join(f",-{name}" for name in f"{LACKING} {UNSAFE}".split())
TIMED_OUT = 124
HOST_DIED = 125


def guest_image():
    """The initramfs of the Linux that runs as guest inside the lab host."""
    image = cpio.busybox_image()
    image.add_file("/init", HERE / "guest_init", 0o755)
    return image


def host_image(kernel, guest_initrd, scenario):
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
    image.add_file("/guest/vmlinuz", kernel.image)
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
        "-machine", "q35", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", CPU, "-smp", "2",
        "-m", memory, "-kernel", kernel.image, "-initrd", initrd, "-serial", "stdio",
        "-append", "console=ttyS0 quiet loglevel=4 panic=-1 tsc=reliable no_timer_check mitigations=off "
        "random.trust_cpu=on audit=0 nokaslr",
    ]


class _Console:
    """Passes the console on to standard output as it comes, and remembers its end."""

    def __init__(self):
        self._tail = b""
        self.code = None

    def take(self, data):
        sys.stdout.buffer.write(data.replace(b"\r", b""))
        sys.stdout.buffer.flush()
        self._tail = (self._tail + data)[-4096:]
        finished = FINISHED.search(self._tail)
        if finished:
            self.code = int(finished.group(1))


def run(command, limit_s):
    """Runs the lab host to its end. Returns the scenario's exit code, TIMED_OUT or HOST_DIED."""
    deadline = time.monotonic() + limit_s
    console = _Console()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as qemu:
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(qemu.stdout, selectors.EVENT_READ)
                while console.code is None:
                    if not selector.select(max(0.0, deadline - time.monotonic())):
                        print(f"lab: no result after {limit_s:g} s; stopping the host", file=sys.stderr)
                        return TIMED_OUT
                    data = os.read(qemu.stdout.fileno(), 65536)
                    if not data:
                        break
                    console.take(data)
        finally:
            qemu.kill()
    if console.code is None:
        print("lab: the host ended without a result", file=sys.stderr)
        return HOST_DIED
    return console.code
