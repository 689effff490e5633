"""Runs a command under what a systemd unit's sandbox does to it, as far as a machine without systemd allows.

    python sandbox.py UNIT WRITABLE... -- COMMAND...

Taken from the unit: SystemCallFilter (the sets as systemd-analyze names them), SystemCallErrorNumber,
MemoryDenyWriteExecute, RestrictAddressFamilies, RestrictNamespaces, NoNewPrivileges, CapabilityBoundingSet (as an empty
one), ProtectSystem=strict, PrivateDevices, PrivateTmp, ProtectProc=invisible, UMask. Not done here: users, groups,
cgroups (memory, CPU, tasks), ProtectHome of the home that holds this Python, PrivateUsers.
x86-64 Linux as root.
"""

import ctypes
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

LOAD, JUMP_EQUAL, JUMP_SET, AND, RETURN = 0x20, 0x15, 0x45, 0x54, 0x06
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
NUMBER, ARCH, X86_64 = 0, 4, 0xC000003E
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}
EPERM, EAFNOSUPPORT = 1, 97


def settings(unit):
    """Key -> values, as they stand."""
    found = {}
    for line in Path(unit).read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def named_sets():
    """@set -> names of system calls and further sets."""
    text = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager"], capture_output=True, text=True, check=True
    )
    found, current = {}, ""
    for line in text.stdout.splitlines():
        plain = re.sub(r"\x1b\[[0-9;]*m", "", line)
        if plain.startswith("@"):
            current = plain.strip()
            found[current] = []
        elif plain.startswith("    ") and not plain.strip().startswith("#"):
            found[current].append(plain.strip())
    return found


def expanded(name, sets):
    """The system calls that a name stands for."""
    return set().union(*(expanded(each, sets) for each in sets[name])) if name.startswith("@") else {name}


def allowed(filters):
    """The system calls that remain after all SystemCallFilter lines; the first one is an allow list."""
    sets = named_sets()
    found = expanded("@default", sets)
    for line in filters:
        calls = set().union(*(expanded(name, sets) for name in line.lstrip("~").split()))
        found = found - calls if line.startswith("~") else found | calls
    return found


def numbers():
    """Name of a system call -> its number."""
    text = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h").read_text()
    return {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", text)}


def argument(index):
    """Where the low half of an argument lies."""
    return 16 + 8 * index


def program(unit):
    """The seccomp filter as instructions (code, true, false, k)."""
    table, keys = numbers(), settings(unit)
    steps = [(LOAD, 0, 0, ARCH), (JUMP_EQUAL, 1, 0, X86_64), (RETURN, 0, 0, KILL), (LOAD, 0, 0, NUMBER)]

    def where(name, *checks):
        """Checks for one system call, with the number loaded again after them."""
        steps.append((JUMP_EQUAL, 0, len(checks) + 1, table[name]))
        steps.extend([*checks, (LOAD, 0, 0, NUMBER)])

    refuse = (RETURN, 0, 0, ERRNO | EPERM)
    if keys["MemoryDenyWriteExecute"] == ["yes"]:
        where("mmap", (LOAD, 0, 0, argument(2)), (AND, 0, 0, 6), (JUMP_EQUAL, 0, 1, 6), refuse)
        for name in ("mprotect", "pkey_mprotect"):
            where(name, (LOAD, 0, 0, argument(2)), (JUMP_SET, 0, 1, 4), refuse)
        where("shmat", (LOAD, 0, 0, argument(2)), (JUMP_SET, 0, 1, 0o100000), refuse)
    families = [FAMILIES[name] for name in keys["RestrictAddressFamilies"][0].split()]
    checks = [(LOAD, 0, 0, argument(0))]
    checks += [(JUMP_EQUAL, len(families) - n, 0, family) for n, family in enumerate(families)]
    where("socket", *checks, (RETURN, 0, 0, ERRNO | EAFNOSUPPORT))
    calls = allowed(keys["SystemCallFilter"])
    if keys["RestrictNamespaces"] == ["yes"]:
        calls -= {"unshare", "setns"}
    for name in sorted(calls & table.keys()):
        steps += [(JUMP_EQUAL, 0, 1, table[name]), (RETURN, 0, 0, ALLOW)]
    return [*steps, refuse]


def confine(unit):
    """Put the filter on this process."""
    libc = ctypes.CDLL(None, use_errno=True)
    steps = b"".join(struct.pack("HBBI", *step) for step in program(unit))
    code = ctypes.create_string_buffer(steps)
    head = struct.pack("HP", len(steps) // 8, ctypes.addressof(code))
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.create_string_buffer(head), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def filesystem(writable):
    """Shell text that makes this mount namespace as the unit's."""
    devices = "null zero full random urandom"
    return "\n".join(
        [
            "set -e",
            "mount --make-rprivate /",
            *(f"mount --bind '{path}' '{path}'" for path in writable),
            "mount -t tmpfs -o mode=755 tmpfs /mnt",
            f"for d in {devices}; do touch /mnt/$d; mount --bind /dev/$d /mnt/$d; done",
            "mkdir /mnt/shm; mount --move /mnt /dev",
            "mount -t proc -o hidepid=invisible proc /proc",
            "mount -o remount,bind,ro /",
            "mount -t tmpfs tmpfs /var/tmp",
        ]
    )


def main():
    """Two stages: mounts as root, then the filter and the command without any right."""
    if sys.argv[1] == "--inner":
        unit, command = sys.argv[2], sys.argv[3:]
        os.umask(int(settings(unit)["UMask"][0], 8))
        confine(unit)
        os.execvp(command[0], command)
    unit, split = sys.argv[1], sys.argv.index("--")
    text = filesystem(sys.argv[2:split]) + '\nexec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"'
    inner = [sys.executable, __file__, "--inner", unit, *sys.argv[split + 1 :]]
    os.execvp("unshare", ["unshare", "--mount", "/bin/sh", "-c", text, "sandbox", *inner])


if __name__ == "__main__":
    main()
