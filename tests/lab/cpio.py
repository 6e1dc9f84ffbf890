# SPDX-License-Identifier: Apache-2.0
"""Writes initramfs images: the "newc" cpio format, Documentation/driver-api/early-userspace/buffer-format.rst."""

import shutil
import stat
import subprocess
from pathlib import Path

from cloud_kernel import Unavailable


class Image:
    """Files of an initramfs, by absolute path. Folders on the way appear by themselves; everything belongs to root."""

    def __init__(self):
        self._entries = {}

    def add_bytes(self, path, content, mode=0o644):
        self._put(path, stat.S_IFREG | mode, content)

    def add_file(self, path, source, mode=0o644):
        self.add_bytes(path, Path(source).read_bytes(), mode)

    def add_link(self, path, target):
        self._put(path, stat.S_IFLNK | 0o777, str(target).encode())

    def add_folder(self, path):
        self._entries.setdefault(Path(path), (stat.S_IFDIR | 0o755, b""))

    def _put(self, path, mode, content):
        path = Path(path)
        for folder in reversed(path.parents):
            self.add_folder(folder)
        self._entries[path] = (mode, content)

    def write(self, target):
        with open(target, "wb") as out:
            for number, (path, (mode, content)) in enumerate(self._entries.items(), start=1):
                if path != Path("/"):
                    _write_entry(out, number, str(path).lstrip("/"), mode, content)
            _write_entry(out, 0, "TRAILER!!!", 0, b"")


def _write_entry(out, number, name, mode, content):
    encoded = name.encode() + b"\0"
    # inode, mode, uid, gid, links, mtime, size, device (4 numbers), length of the name, checksum (unused)
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
    out.write(b"070701" + b"".join(b"%08X" % field for field in fields) + encoded)
    out.write(b"\0" * (-(110 + len(encoded)) % 4))
    out.write(content + b"\0" * (-len(content) % 4))


def busybox_image():
    """An image with a busybox in /bin and all its applets as links."""
    busybox = shutil.which("busybox")
    if not busybox or b"/ld-linux" in Path(busybox).read_bytes():
        raise Unavailable("package busybox-static is not installed")
    image = Image()
    image.add_file("/bin/busybox", busybox, 0o755)
    for applet in subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split():
        if applet != "busybox":
            image.add_link(f"/bin/{applet}", "busybox")
    for folder in ("/proc", "/sys", "/dev", "/tmp", "/run", "/etc"):
        image.add_folder(folder)
    return image
