"""A system call filter for the sandboxed program: seccomp-BPF, assembled here (a list of 8-byte instructions).

Namespaces give a program its own view; the filter takes away the calls that reach past a view: making and joining
namespaces, mounting, tracing, kernel keyrings, BPF, io_uring, modules, clocks, and sockets of families that no network
namespace covers (vsock, netlink, raw). A denied call fails with EPERM, so that an honest program that tries gets an
exception and not a kill. A deny list lets new calls through; an allow list would break honest programs on new libcs.
"""

from __future__ import annotations

import errno
import platform
import struct

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # linux/bpf_common.h
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000  # linux/seccomp.h
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data (low half of the argument, little-endian)
_X32_BIT = 0x40000000  # calls of the x32 ABI have their own numbers
_NEW_NAMESPACES = 0x7E020080  # CLONE_NEW{TIME,NS,CGROUP,UTS,IPC,USER,PID,NET}
_FAMILIES = {"unix": 1, "inet": 2, "inet6": 10}

_SAME_EVERYWHERE = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429, "fsopen": 430,
    "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_getfd": 438, "process_madvise": 440, "mount_setattr": 442,
}  # fmt: skip
_DENIED = {
    "x86_64": {
        "ptrace": 101, "syslog": 103, "personality": 135, "modify_ldt": 154, "pivot_root": 155, "adjtimex": 159, "chroot": 161, "acct": 163,
        "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168, "reboot": 169, "sethostname": 170, "setdomainname": 171,
        "iopl": 172, "ioperm": 173, "init_module": 175, "delete_module": 176, "quotactl": 179, "clock_settime": 227, "kexec_load": 246,
        "add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272, "perf_event_open": 298, "fanotify_init": 300, "name_to_handle_at": 303,
        "open_by_handle_at": 304, "clock_adjtime": 305, "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311, "finit_module": 313,
        "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323,
    },
    "aarch64": {
        "umount2": 39, "mount": 40, "pivot_root": 41, "chroot": 51, "quotactl": 60, "acct": 89, "personality": 92, "unshare": 97, "kexec_load": 104,
        "init_module": 105, "delete_module": 106, "clock_settime": 112, "syslog": 116, "ptrace": 117, "reboot": 142, "sethostname": 161,
        "setdomainname": 162, "settimeofday": 170, "adjtimex": 171, "add_key": 217, "request_key": 218, "keyctl": 219, "swapon": 224,
        "swapoff": 225, "perf_event_open": 241, "fanotify_init": 262, "name_to_handle_at": 264, "open_by_handle_at": 265, "clock_adjtime": 266,
        "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271, "finit_module": 273, "bpf": 280, "userfaultfd": 282, "kexec_file_load": 294,
    },
}  # fmt: skip
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435
_SOCKET = {"x86_64": 41, "aarch64": 198}


def _instruction(code: int, value: int, when_true: int = 0, when_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, when_true, when_false, value)


def _refuse(error: int = errno.EPERM) -> bytes:
    return _instruction(_RETURN, _ERRNO | error)


def program(machine: str | None = None) -> bytes:
    """The filter for a machine (``platform.machine()``), as an array of ``struct sock_filter``; empty where we know no numbers for it.

    ``clone3`` answers ENOSYS (its flags lie in memory the filter cannot read; libcs then use ``clone``).
    """
    machine = machine or platform.machine()
    if machine not in _DENIED:
        return b""
    allow = _instruction(_RETURN, _ALLOW)
    code = [_instruction(_LOAD, _ARCHITECTURE), _instruction(_JUMP_EQUAL, _ARCHITECTURES[machine], 1, 0), _instruction(_RETURN, _KILL)]
    code += [_instruction(_LOAD, _NUMBER)]
    if machine == "x86_64":
        code += [_instruction(_JUMP_AT_LEAST, _X32_BIT, 0, 1), _refuse()]
    for number in sorted((_DENIED[machine] | _SAME_EVERYWHERE).values()):
        code += [_instruction(_JUMP_EQUAL, number, 0, 1), _refuse()]
    code += [_instruction(_JUMP_EQUAL, _CLONE3, 0, 1), _refuse(errno.ENOSYS)]
    code += [
        _instruction(_JUMP_EQUAL, _CLONE[machine], 0, 4),
        _instruction(_LOAD, _FIRST_ARGUMENT),
        _instruction(_JUMP_ANY_BIT, _NEW_NAMESPACES, 0, 1),
        _refuse(),
        allow,
    ]
    families = sorted(_FAMILIES.values())
    code += [_instruction(_JUMP_EQUAL, _SOCKET[machine], 0, len(families) + 2), _instruction(_LOAD, _FIRST_ARGUMENT)]
    code += [_instruction(_JUMP_EQUAL, family, len(families) - i, 0) for i, family in enumerate(families)]
    return b"".join([*code, _refuse(), allow])
