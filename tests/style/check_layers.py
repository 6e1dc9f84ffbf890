#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails where a folder includes what the architecture does not let it, or breaks a rule that no
compiler checks. See docs/design.md, "Folders"."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAY_USE = {
    "formats": set(),
    "transport": {"formats"},
    "vmm": {"formats"},
    "dirtylog": {"formats", "vmm"},
    "migrate": {"formats", "transport", "vmm", "dirtylog"},
    "tools": {"formats", "transport", "vmm", "dirtylog", "migrate"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
DEFINE = re.compile(r"^\s*#\s*define\s+(\w+)")
# Libraries read these; they are theirs, not macros of ours.
LIBRARY_SETTINGS = re.compile(r"^(DOCTEST_|XXH_|BOOST_|_GNU_SOURCE$)")
ASIO = re.compile(r'^\s*#\s*include\s+<boost/(asio|beast)')
NO_ASIO = {"formats", "vmm", "dirtylog"}
# F07: what decides, waits or gives up must not notice that somebody sets the clock. Certificates
# (transport) have dates, so have the notes for people in a journal (tools), and a guest's time goes
# by the hosts' clocks, never back (vmm/guest_clock.hpp).
WALL_CLOCK = re.compile(r"system_clock::now|CLOCK_REALTIME|gettimeofday|\btime\((nullptr|NULL|0)\)")
NO_WALL_CLOCK = {"formats", "dirtylog", "migrate"}
FORBIDDEN_NAMES = {"util", "utils", "common", "base", "helpers", "helper", "misc"}
LONGEST_FILE = 500


# Folders inside a folder whose headers others may include.
PUBLIC_FOLDERS = (["formats", "proto"], ["migrate", "image"], ["migrate", "ownership"])

def problems_of(path):
    folder = path.parts[0]
    text = (ROOT / path).read_text()
    lines = text.splitlines()
    if path.stem in FORBIDDEN_NAMES:
        yield 1, f"no file is called {path.stem}: name it after what it holds"
    if len(lines) > LONGEST_FILE:
        yield len(lines), f"longer than {LONGEST_FILE} lines"
    if not lines or "SPDX-License-Identifier: Apache-2.0" not in lines[0]:
        yield 1, "the first line is not the licence"
    if path.suffix == ".hpp" and "#pragma once" not in text:
        yield 1, "a header without #pragma once"
    for number, line in enumerate(lines, 1):
        macro = DEFINE.match(line)
        if macro and not LIBRARY_SETTINGS.match(macro[1]):
            yield number, f"a macro of our own: {macro[1]}"
        if folder not in MAY_USE:
            continue
        if WALL_CLOCK.search(line) and folder in NO_WALL_CLOCK:
            yield number, f"{folder} does not look at a clock that can be set"
        if ASIO.match(line) and folder in NO_ASIO:
            yield number, f"{folder} does not use Asio"
        included = INCLUDE.match(line)
        if not included:
            continue
        target = included[1].split("/")
        if target[0] == folder:
            continue
        if target[0] not in MAY_USE[folder]:
            yield number, f"{folder} may not use {target[0]}"
        elif path.parts[:2] == ("tools", "mshvsim") and target[:2] == ["vmm", "mshvsim"]:
            continue  # the same thing, as a library to preload
        elif len(target) > 2 and target[:2] not in PUBLIC_FOLDERS:
            yield number, f"{'/'.join(target[:2])} is private to {target[0]}"


def main():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.cpp", "*.hpp"],
        cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    found = 0
    for name in sorted(listed):
        for line, problem in problems_of(Path(name)):
            print(f"{name}:{line}: {problem}")
            found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
