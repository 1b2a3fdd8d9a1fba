"""Runs in an interpreter of its own, the program on standard input: builds the sandbox around it and reports.

Three processes: this one makes the namespaces; its child is process 1 of the new process namespace, builds the file
system, watches time, memory and the number of processes, and takes everything with it when it ends; its child
drops every right and becomes the program. Only the standard library's cheap modules are imported: start-up is the
cost of a short program. The report is one line on the status descriptor: ``<status> <exit code> <seconds> <reached the end>``,
or ``error <what>`` where the sandbox could not be built (then nothing of the program has run), or ``bug <traceback>``.
"""

from __future__ import annotations

import _signal  # the signal module itself would cost start-up time (enum)
import ctypes
import os
import resource
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing it would cost start-up time
    from collections.abc import Callable

NEW_NAMESPACES = 0x00020000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000  # CLONE_NEW{NS,UTS,IPC,PID,NET}
NEW_USER = 0x10000000  # CLONE_NEWUSER
READ_ONLY, NO_SUID, NO_DEVICES, REMOUNT, BIND, RECURSIVE, PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18  # MS_*
DETACH = 2  # MNT_DETACH
SET_DEATH_SIGNAL, SET_DUMPABLE, SET_SECCOMP, SET_SUBREAPER, SET_NO_NEW_PRIVILEGES = 1, 4, 22, 36, 38  # PR_*
FILTER_MODE = 2  # SECCOMP_MODE_FILTER
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}
SIGKILL, SIGCHLD = 9, 17
PACKAGES = "/packages"  # where a program sees installed packages: their own place may lie below what is hidden from it, /tmp for one
END_DESCRIPTOR = 3  # where a program that must run to its end writes its mark
FIRST_UID = 1_000_000_000  # a program of root runs as this + the launcher's process id: a user nobody has, and not another program's
INSIDE_UID = 1000  # within the user namespace of a caller who is not root; not 0, so that the program's exec drops every capability
LONGEST_POLL = 0.02  # seconds between looks at the program: how late a limit can strike

libc = ctypes.CDLL(None, use_errno=True)


class Options:
    """What the caller asks for, from the command line (a plain class: its machinery would cost start-up time)."""

    def __init__(self, arguments: list[str], program: bytes) -> None:
        status, self.isolation, timeout, memory, disk, processes, mark, call_filter, self.python, environment, self.packages, *readable = arguments
        self.status, self.timeout = int(status), float(timeout)
        self.memory, self.disk, self.processes = int(memory), int(disk), int(processes)
        self.mark, self.call_filter = mark.encode(), bytes.fromhex(call_filter)
        self.environment = dict(pair.split("=", 1) for pair in environment.split("\n"))
        self.readable, self.program = tuple(readable), program
        self.uid = FIRST_UID + os.getpid()


def check(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    names = [os.fsencode(text) if text else None for text in (source, target, kind)]
    check(libc.mount(*names, ctypes.c_ulong(flags), data.encode() or None), f"mount {target}")


def prctl(option: int, *values: int) -> None:
    check(libc.prctl(option, *[ctypes.c_ulong(v) for v in values], *[ctypes.c_ulong(0)] * (4 - len(values))), f"prctl {option}")


def enter_namespaces() -> None:
    """New namespaces; without root also a user namespace, in which the rest of the set-up is allowed."""
    if os.geteuid():
        enter_user_namespace()
    check(libc.unshare(NEW_NAMESPACES), "unshare")


def enter_user_namespace() -> None:
    """A plain user's way to the rights that the set-up needs."""
    uid, gid = os.geteuid(), os.getegid()
    check(libc.unshare(NEW_USER), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{INSIDE_UID} {uid} 1"), ("gid_map", f"{INSIDE_UID} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def seal(roots: list[str], proc: int) -> None:
    """Make what is mounted at and below ``roots`` read-only."""
    with open(os.open("self/mountinfo", os.O_RDONLY, dir_fd=proc)) as file:
        points = {line.split()[4].encode().decode("unicode_escape") for line in file}
    for point in sorted(path for path in points if any(path == root or path.startswith(root + "/") for root in roots)):
        kept = os.statvfs(point).f_flag & (8 | 1024 | 2048)  # ST_NOEXEC, ST_NOATIME, ST_NODIRATIME: a user namespace may not clear them
        mount(None, point, None, REMOUNT | BIND | READ_ONLY | NO_SUID | NO_DEVICES | kept)


def build_root(readable: tuple[str, ...], packages: str, disk: int, folders: tuple[str, ...]) -> int:
    """An empty file system in memory at / with ``folders`` and, read-only, ``readable`` and ``packages``; returns a descriptor of this process
    namespace's /proc."""
    mount(None, "/", None, RECURSIVE | PRIVATE)
    mount("proc", "/proc", "proc", NO_SUID | NO_DEVICES)
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    root = "/proc"  # the one folder that every machine has and nothing readable lies in
    mount("tmpfs", root, "tmpfs", NO_SUID | NO_DEVICES, f"size={disk},nr_inodes=16384,mode=755")
    for name in folders:
        os.mkdir(f"{root}/{name}")
    if "proc" in folders:  # a plain user may mount a /proc only where one is visible
        mount("proc", f"{root}/proc", "proc", NO_SUID | NO_DEVICES)
    sealed = []
    for path in readable:
        if os.path.islink(path):
            os.symlink(os.readlink(path), root + path)
        elif os.path.isdir(path):
            os.makedirs(root + path, exist_ok=True)
            mount(path, root + path, None, BIND | RECURSIVE)
            sealed.append(root + path)
        elif os.path.exists(path):
            with open(root + path, "w"):
                pass
            mount(path, root + path, None, BIND)
    if packages:
        os.mkdir(root + PACKAGES)
        mount(packages, root + PACKAGES, None, BIND | RECURSIVE)
        sealed.append(root + PACKAGES)
    seal(sealed, proc)
    os.chdir(root)
    check(libc.syscall(PIVOT_ROOT[os.uname().machine], b".", b"."), "pivot_root")
    check(libc.umount2(b".", DETACH), "umount the old root")
    return proc


def build_file_system(readable: tuple[str, ...], packages: str, disk: int) -> int:
    """The program's file system; returns a descriptor of the new namespace's /proc, which the program does not see."""
    proc = build_root(readable, packages, disk, ("tmp", "dev", "dev/shm", "etc"))
    os.chmod("/tmp", 0o1777)
    os.chmod("/dev/shm", 0o1777)
    return proc


def limit(options: Options) -> None:
    seconds = (int(options.timeout) + 2) * (os.cpu_count() or 1)  # the watch is on wall time; this ends what could escape it
    limits = {
        resource.RLIMIT_CPU: seconds, resource.RLIMIT_AS: options.memory, resource.RLIMIT_FSIZE: options.disk, resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_CORE: 0, resource.RLIMIT_MEMLOCK: 0, resource.RLIMIT_MSGQUEUE: 0,
    }  # fmt: skip
    if options.isolation == "namespaces":  # elsewhere it would count all processes of the user
        limits[resource.RLIMIT_NPROC] = options.processes + 3
    for name, value in limits.items():
        hard = resource.getrlimit(name)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (value, value))


def give_up_rights(options: Options, end_pipe: int) -> None:
    """In the last child: the program's file, descriptors, limits and user; no way back."""
    os.setsid()
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os.dup2(end_pipe, END_DESCRIPTOR)
    os.set_inheritable(END_DESCRIPTOR, True)
    namespaces = options.isolation == "namespaces"
    if namespaces:
        os.chdir("/tmp")
    with open("program.py", "wb") as file:
        file.write(options.program)
    limit(options)
    if namespaces and os.geteuid() == 0:
        uid = options.uid
        os.chown("program.py", uid, uid)
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    prctl(SET_NO_NEW_PRIVILEGES, 1)
    if namespaces and options.call_filter:
        code = ctypes.create_string_buffer(options.call_filter, len(options.call_filter))

        class Filter(ctypes.Structure):
            _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

        described = Filter(len(code) // 8, ctypes.addressof(code))
        prctl(SET_SECCOMP, FILTER_MODE, ctypes.addressof(described))


def become_program(options: Options, end_pipe: int) -> None:
    """In the last child: give up every right and turn into the program. Never returns."""
    give_up_rights(options, end_pipe)
    os.execve(options.python, [options.python, "-s", "-P", "-S", "-B", "program.py"], options.environment)


def usage(proc: int) -> tuple[int, int]:
    """Processes and their resident bytes together, read from the process namespace's own /proc."""
    count = size = 0
    for name in os.listdir(proc):
        if name.isdigit() and name != "1":
            try:
                with open(os.open(f"{name}/statm", os.O_RDONLY, dir_fd=proc)) as file:
                    size += int(file.read().split()[1])
                count += 1
            except (OSError, IndexError):  # it ended meanwhile
                continue
    return count, size * resource.getpagesize()


def watch(program: int, options: Options, proc: int | None) -> tuple[str, int, float]:
    """Wait for the program's first process, reaping others; returns (status, exit code, seconds)."""
    start = time.monotonic()
    while True:
        try:
            pid, code = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return "killed", 0, time.monotonic() - start
        seconds = time.monotonic() - start
        if pid == program:
            exit_code = os.waitstatus_to_exitcode(code)
            status = "killed" if exit_code < 0 else "failed" if exit_code else "passed"
            return status, exit_code, seconds
        if seconds > options.timeout:
            return "timeout", -SIGKILL, seconds
        if proc is not None:
            count, size = usage(proc)
            if size > options.memory:
                return "memory", -SIGKILL, seconds
            if count > options.processes + 3:
                return "processes", -SIGKILL, seconds
        if pid == 0:
            _signal.sigtimedwait((SIGCHLD,), min(LONGEST_POLL, options.timeout))


def kill_descendants() -> None:
    """Without a process namespace: kill children, and theirs as they fall to us, until none is left."""
    while True:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            children = [int(text) for text in file.read().split()]
        for child in children:
            try:
                os.kill(child, SIGKILL)
                os.waitpid(child, 0)
            except OSError:
                continue
        if not children:
            return


def guarded(step: Callable[[Options], None], options: Options) -> bool:
    """Report what stops a step: a refusal of the machine as ``error``, anything else as our ``bug`` with its traceback."""
    try:
        step(options)
    except OSError as error:
        os.write(options.status, f"error {error}".encode())
        return False
    except Exception:
        import traceback

        os.write(options.status, b"bug " + traceback.format_exc().encode())
        return False
    return True


def supervise(options: Options) -> None:
    """Start the program, watch it, report. In a process namespace this is process 1: its end is everybody's."""
    prctl(SET_DEATH_SIGNAL, SIGKILL)
    prctl(SET_DUMPABLE, 0)
    proc = None
    if options.isolation == "namespaces":
        proc = build_file_system(options.readable, options.packages, options.disk)
    else:
        prctl(SET_SUBREAPER, 1)
    reached, end_pipe = os.pipe()
    complaints, complain = os.pipe()
    program = fork_program()
    if program == 0:
        try:
            become_program(options, end_pipe)
        except BaseException as error:
            os.write(complain, str(error).encode())
        os._exit(126)
    os.close(end_pipe)
    os.close(complain)
    if complaint := os.read(complaints, 4096):  # ends empty when the program's exec closes the other end
        raise OSError(complaint.decode())
    report(program, options, proc, reached)


def fork_program() -> int:
    """Fork, with SIGCHLD kept for ``watch`` to wait for in the parent, and as by default in the program."""
    _signal.pthread_sigmask(_signal.SIG_BLOCK, (SIGCHLD,))
    program = os.fork()
    if program == 0:
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (SIGCHLD,))
    return program


def report(program: int, options: Options, proc: int | None, reached: int) -> None:
    """Watch the program to its end and write the one line of the report."""
    result, code, seconds = watch(program, options, proc)
    os.set_blocking(reached, False)
    try:
        mark = os.read(reached, 100)
    except BlockingIOError:
        mark = b""
    if options.isolation == "process":
        kill_descendants()
    os.write(options.status, f"{result} {code} {seconds:.6f} {int(options.mark in mark)}".encode())


def main(arguments: list[str]) -> None:
    """Run the program on standard input as ``Options`` says."""
    options = Options(arguments, sys.stdin.buffer.read())
    os.set_inheritable(options.status, False)
    os.umask(0o022)
    if options.isolation == "process":
        guarded(supervise, options)
        return
    if not guarded(lambda _: enter_namespaces(), options):
        return
    prctl(SET_DEATH_SIGNAL, SIGKILL)
    supervisor = os.fork()
    if supervisor == 0:
        guarded(supervise, options)
        os._exit(0)
    os.waitpid(supervisor, 0)
