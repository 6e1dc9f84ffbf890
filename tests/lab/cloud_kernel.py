# SPDX-License-Identifier: Apache-2.0
"""Finds a Debian cloud kernel: installed, kept in the build folder, or unpacked there from its package.

Nothing is installed: a package is downloaded with apt-get and unpacked with dpkg-deb, so that no boot loader and no
initramfs of this machine is touched.
"""

import lzma
import re
import subprocess
from pathlib import Path

META_PACKAGE = "linux-image-cloud-amd64"
# Debian 12's own kernel lacks some drivers for guests (CONFIG_VMGENID) that this one has.
NEWER_META_PACKAGE = "linux-image-6.12-cloud-amd64"


class Unavailable(Exception):
    """Something the lab needs is not on this machine; the text names the package."""


class CloudKernel:
    """A kernel image with its modules. `root` is the folder that holds boot/ and lib/modules/ of one package."""

    def __init__(self, root, release):
        self.release = release
        self.image = root / "boot" / f"vmlinuz-{release}"
        # /lib is a link to /usr/lib on an installed system; newer packages ship usr/lib/modules themselves.
        trees = [root / "lib/modules" / release, root / "usr/lib/modules" / release]
        self._tree = next((tree for tree in trees if (tree / "kernel").is_dir()), None)

    def has(self, option):
        """Whether it is configured with `option` built in."""
        config = self.image.with_name(f"config-{self.release}")
        return config.is_file() and f"{option}=y" in config.read_text().splitlines()

    def is_complete(self):
        return self.image.is_file() and self._tree is not None

    def modules(self, *names):
        """Returns [(file name, content)] of the named modules and what they depend on, in loading order."""
        found = {}
        for name in names:
            self._collect(name.replace("-", "_"), found)
        return [(f"{name}.ko", content) for name, content in found.items()]

    def _collect(self, name, found):
        if name in found:
            return
        content = self._read_module(name)
        depends = re.search(rb"\0depends=([^\0]*)\0", content)
        for other in depends.group(1).decode().split(",") if depends else []:
            if other:
                self._collect(other.replace("-", "_"), found)
        found[name] = content

    def _read_module(self, name):
        for path in self._tree.rglob("*.ko*"):
            if path.name.split(".ko")[0].replace("-", "_") == name:
                content = path.read_bytes()
                return lzma.decompress(content) if path.suffix == ".xz" else content
        raise Unavailable(f"kernel {self.release} has no module {name}")


def find(build_dir):
    """Returns the newest CloudKernel at hand, downloading its package when there is none."""
    kept = build_dir / "kernel"
    kernel = _newest(Path("/")) or _newest_of_folders(kept) or _unpack_package(kept, META_PACKAGE)
    if kernel is None:
        raise Unavailable(f"package {META_PACKAGE} holds no kernel image with modules")
    return kernel


def find_for_guest(build_dir, host_kernel, options):
    """Returns the lab host's CloudKernel, or a newer one where that lacks one of the options."""
    if all(map(host_kernel.has, options)):
        return host_kernel
    kept = build_dir / "guest-kernel"
    kernel = _newest_of_folders(kept) or _unpack_package(kept, NEWER_META_PACKAGE)
    if kernel is None or not all(map(kernel.has, options)):
        raise Unavailable(f"package {NEWER_META_PACKAGE} holds no kernel with {' '.join(options)}")
    return kernel


def _version_key(release):
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", release)]


def _newest(root):
    releases = [path.name.removeprefix("vmlinuz-") for path in (root / "boot").glob("vmlinuz-*-cloud-amd64")]
    for release in sorted(releases, key=_version_key, reverse=True):
        kernel = CloudKernel(root, release)
        if kernel.is_complete():
            return kernel
    return None


def _newest_of_folders(kept):
    kernels = [_newest(folder) for folder in kept.glob("linux-image-*")] if kept.is_dir() else []
    return max((k for k in kernels if k), key=lambda k: _version_key(k.release), default=None)


def _unpack_package(kept, meta_package):
    package = _real_package(meta_package)
    kept.mkdir(parents=True, exist_ok=True)
    unpacking, final = kept / f"unpacking-{package}", kept / package
    _command(["rm", "-rf", str(unpacking), str(final)])
    (unpacking / "deb").mkdir(parents=True)
    _command(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package], unpacking / "deb")
    for deb in (unpacking / "deb").glob("*.deb"):
        _command(["dpkg-deb", "-x", str(deb), str(unpacking)])
        deb.unlink()
    unpacking.rename(final)
    return _newest(final)


def _real_package(meta_package):
    """The meta package depends on the one package, named after its version, that holds the kernel."""
    listing = _command(["apt-cache", "show", "--no-all-versions", meta_package])
    depends = re.search(r"^Depends:.*?\b(linux-image-[^ ,]+)", listing, re.MULTILINE)
    if not depends:
        raise Unavailable(f"package {meta_package} is not known to apt; run: apt-get update")
    return depends.group(1)


def _command(words, folder=None):
    try:
        done = subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True, timeout=180)
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or str(error)
        raise Unavailable(
            f"a kernel's package is not installed and cannot be downloaded ({' '.join(words)}: {detail.strip()}); "
            "where apt's lists are missing or old: apt-get update"
        ) from error
    return done.stdout
