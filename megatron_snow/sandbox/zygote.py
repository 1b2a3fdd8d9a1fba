"""A fork server: starts many short programs, each in fresh namespaces of its own, without starting a Python for each.

It builds the file system that programs see once, then answers requests: a packet with the limits and four descriptors (program, standard output,
standard error, report). For each it forks a process that makes new namespaces; its child is process 1 of the new process namespace, lays the
program's own /tmp and /dev/shm over the shared read-only root, and forks the program, which drops every right and runs in the interpreter
it was forked with. What a program has in common with the next is this interpreter, just started and with nothing of the caller in it: no environment, no
descriptor, no text of another program (a program is read by its own processes alone). Imports only the standard library.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import ctypes
import gc
import json
import os
import signal
import socket
import sys
import threading
import types

import launcher  # beside this file; not a package here

COMMON = (
    "bisect", "collections", "copy", "datetime", "functools", "heapq", "itertools", "math", "operator", "random", "re", "string", "typing", "unittest",
)  # fmt: skip
"""Imported ahead: what problems' solutions and tests import most; a fork shares the pages."""
PACKAGED = ("numpy", "pandas", "matplotlib.pyplot")
"""The same of installed packages: three in four of BigCodeBench's problems import one, and pandas and pyplot take a second of processor time."""
CAPABILITIES_3 = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
FOLDERS = ("tmp", "dev", "dev/shm", "etc", "proc")
PACKET = 4096
PROGRAM = "/tmp/program.py"
HIGH = 200  # a descriptor above all others here and below the program's limit of 256
USERS = 256  # user numbers of one server's programs: as many as live at once


class Program(BaseException):
    """Carries the program up to the interpreter's top level, so that it ends as any program does: exit code, traceback, threads, ``atexit``."""


def load_packages() -> None:
    """Import ahead what most programs import, from the packages, which have just come to be there."""
    sys.path_importer_cache.pop(launcher.PACKAGES, None)  # it was looked for, and not found, before
    for name in PACKAGED:
        with contextlib.suppress(ImportError):
            __import__(name)


def fresh_draws() -> None:
    """Random numbers of its own for a program, as in an interpreter of its own (``random`` sees to that itself)."""
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()


def drop_capabilities() -> None:
    """In a user namespace only an exec would take them away."""
    header, nothing = (ctypes.c_uint32 * 2)(CAPABILITIES_3, 0), (ctypes.c_uint32 * 6)()
    launcher.check(launcher.libc.capset(header, nothing), "capset")


def own_folders(disk: int) -> int:
    """The program's /tmp and /dev/shm, one file system of ``disk`` bytes; returns a descriptor of the new process namespace's /proc, not shown."""
    launcher.mount("proc", "/proc", "proc", launcher.NO_SUID | launcher.NO_DEVICES)
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    for _ in ("the program's", "the server's"):
        launcher.check(launcher.libc.umount2(b"/proc", launcher.DETACH), "umount /proc")
    launcher.mount("tmpfs", "/tmp", "tmpfs", launcher.NO_SUID | launcher.NO_DEVICES, f"size={disk},nr_inodes=16384,mode=755")
    for name, place in (("shm", "/dev/shm"), ("tmp", "/tmp")):  # /tmp last: it covers the rest
        os.mkdir(f"/tmp/{name}")
        os.chmod(f"/tmp/{name}", 0o1777)
        launcher.mount(f"/tmp/{name}", place, None, launcher.BIND)
    return proc


def read_all(descriptor: int) -> bytes:
    with open(descriptor, "rb") as file:
        return file.read()


def supervise(options: launcher.Options) -> None:
    """As process 1: start the program (raises ``Program`` there), watch it, report."""
    launcher.prctl(launcher.SET_DUMPABLE, 0)
    proc = own_folders(options.disk)
    reached, end_pipe = os.pipe()
    complaints, complain = os.pipe()
    program = launcher.fork_program()
    if program == 0:
        try:
            complain = os.dup2(complain, HIGH, inheritable=False)
            launcher.give_up_rights(options, end_pipe)
            drop_capabilities()
            os.closerange(launcher.END_DESCRIPTOR + 1, HIGH)
            os.close(complain)  # its last copy: the sandbox stands
        except BaseException as error:
            os.write(complain, str(error).encode())
            os._exit(126)
        raise Program
    os.close(end_pipe)
    os.close(complain)
    if complaint := os.read(complaints, 4096):
        raise OSError(complaint.decode())
    launcher.report(program, options, proc, reached)


def isolate(options: launcher.Options) -> None:
    """New namespaces, and a process 1 in them."""
    launcher.check(launcher.libc.unshare(launcher.NEW_NAMESPACES), "unshare")
    supervisor = os.fork()
    if supervisor == 0:
        launcher.guarded(supervise, options)
        os._exit(0)
    os.waitpid(supervisor, 0)


def answer(request: bytes, descriptors: list[int], call_filter: str, first_user: int) -> None:
    """In a child of the server: run one program. Returns never, and raises ``Program`` in the program's process."""
    program, stdout, stderr, status = descriptors
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    timeout, memory, disk, processes, mark = json.loads(request)
    limits = [str(value) for value in (timeout, memory, disk, processes)]
    options = launcher.Options([str(status), "namespaces", *limits, mark, call_filter, "", "NOTHING=", ""], read_all(program))
    options.uid = first_user + os.getpid() % USERS
    launcher.guarded(isolate, options)
    os._exit(0)


def serve(control: socket.socket, call_filter: str, first_user: int) -> None:
    """Answer until the caller is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children: their reports go to the caller
    while True:
        request, ancillary, _, _ = control.recvmsg(PACKET, socket.CMSG_SPACE(4 * 4))
        if not request:
            return
        descriptors = array.array("i")
        for _, _, data in ancillary:
            descriptors.frombytes(data[: len(data) - len(data) % 4])
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            control.close()
            answer(request, descriptors.tolist(), call_filter, first_user)
        for descriptor in descriptors:
            os.close(descriptor)


def start(arguments: list[str]) -> None:
    """Build the root, say so, serve. Returns in a program's process only, with the interpreter ready for it."""
    control_descriptor, call_filter, packages, *readable = arguments
    control = socket.socket(fileno=int(control_descriptor))
    control.set_inheritable(False)
    os.umask(0o022)
    for name in COMMON:
        __import__(name)
    first_user = launcher.FIRST_UID + os.getpid() * USERS
    try:
        if os.geteuid():
            launcher.enter_user_namespace()
        launcher.check(launcher.libc.unshare(launcher.NEW_NAMESPACES), "unshare")
        server = os.fork()
        if server:  # process 1 of a process namespace of its own: its end is that of every program
            control.close()
            os.waitpid(server, 0)
            os._exit(0)
        launcher.prctl(launcher.SET_DEATH_SIGNAL, launcher.SIGKILL)
        os.close(launcher.build_root(tuple(readable), packages, 2**20, FOLDERS))
        if packages:
            load_packages()
        launcher.mount(None, "/", None, launcher.REMOUNT | launcher.BIND | launcher.READ_ONLY | launcher.NO_SUID | launcher.NO_DEVICES)
    except OSError as error:
        control.send(f"error {error}".encode())
        os._exit(1)
    gc.freeze()  # a collection would touch, and so copy, the pages that forks share
    control.send(b"ready")
    try:
        serve(control, call_filter, first_user)
    except Program:
        return
    os._exit(0)


def fresh_main() -> dict[str, object]:
    """An empty ``__main__`` for the program; what it need not see is taken out of the interpreter."""
    main = types.ModuleType("__main__")
    main.__dict__.update({"__file__": PROGRAM, "__builtins__": __builtins__})
    sys.modules["__main__"] = main
    for name in ("zygote", "launcher"):
        del sys.modules[name]
    sys.argv = ["program.py"]
    sys.path.pop()  # this file's folder
    return main.__dict__


def run_program() -> None:
    """Run program.py as ``__main__`` and leave as an interpreter does: threads, exit functions and buffers, then the exit code.

    What an interpreter does besides, taking its modules apart object by object, takes 10 ms and shows nothing.
    """
    code: object = None
    fresh_draws()
    try:
        main = fresh_main()
        with open(PROGRAM, "rb") as file:
            source = file.read()
        exec(compile(source, PROGRAM, "exec"), main)  # noqa: S102 - this is what the sandbox is for
    except SystemExit as leaving:
        code = leaving.code
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException as error:
        error.__traceback__ = error.__traceback__.tb_next if error.__traceback__ else None  # without this function
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # what the interpreter itself calls: waits for threads that are not daemons
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):  # closed or replaced by the program
        code = code or 120  # as the interpreter's own exit does
    os._exit(int(code or 0) & 0xFF)  # type: ignore[call-overload]
