"""A real Slurm on this one machine: munge, a controller and some nodes, each node with a network, a host name and processes of its own.

    python -m tests.slurm.cluster 2            # starts two nodes and a shell on the login node; ends with the shell

Everything is a descendant of one process (``inside.sh hub``) that is pid 1 of a PID namespace and ends when its standard
input closes. So the cluster ends with whoever started it, however that ended (``kill -9`` included), and leaves no
process, mount or network. A node's address is the node's alone: ranks that look for each other
on localhost fail here as they would on a cluster. Needs root for the namespaces.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

TOOLS = {
    "slurmctld": "slurm-wlm", "slurmd": "slurm-wlm", "sbatch": "slurm-wlm", "munged": "munge",
    "ip": "iproute2", "unshare": "util-linux", "nsenter": "util-linux",
}  # fmt: skip
"""What is run -> Debian's package of it."""

GPUS = 8
"""What each node says it has: numbers to ask for and be given, no devices."""

_CONF = """
ClusterName=test
SlurmctldHost=login(10.213.0.254)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# cred_expire is also what a requeued job waits before it starts again: 120 s by default
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/pids/slurmctld.daemon
SlurmdPidFile={folder}/pids/%n.daemon
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1000
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=1
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
PropagateResourceLimits=NONE
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
MinJobAge=86400
# what production has longer (30 and 300 s), so that tests need not wait
KillWait=10
SlurmdTimeout=15
GresTypes=gpu
NodeName=node[1-{nodes}] NodeAddr=10.213.0.[1-{nodes}] CPUs=64 Sockets=2 CoresPerSocket=32 ThreadsPerCore=1 RealMemory=64000 Gres=gpu:{gpus}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=120
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2
"""


def missing() -> str | None:
    """Why no cluster can be started here, or None where one can."""
    packages = sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})
    if packages:
        return f"Slurm is not installed: apt-get install {' '.join(packages)}"
    if os.geteuid():
        return "a Slurm cluster in namespaces needs root"
    tried = subprocess.run(["unshare", "--net", "--uts", "--pid", "--mount", "--fork", "true"], capture_output=True, text=True, check=False)
    return f"namespaces cannot be made here: {tried.stderr.strip()}" if tried.returncode else None


class Cluster:
    """``with Cluster(2) as cluster: cluster.run("srun", "-N2", "hostname")``."""

    def __init__(self, nodes: int) -> None:
        self.nodes = nodes
        self.folder = Path(tempfile.mkdtemp(prefix="snow-slurm-"))  # short: a socket's path ends at 108 bytes
        self._write_files()
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        environment = {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8", "SLURM_CONF": f"{self.folder}/slurm.conf"}
        inside = Path(__file__).with_name("inside.sh")
        command = ["unshare", "--net", "--uts", "--pid", "--mount", "--mount-proc", "--fork", "--kill-child", "bash", inside, "hub", self.folder, str(nodes)]
        log = (self.folder / "log" / "hub.out").open("w")
        self._hub = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)

    def __enter__(self) -> Cluster:
        try:
            self._heard("up")
            wait_until(lambda: self._idle() == self.nodes, 60, f"the {self.nodes} nodes to come up")
        except BaseException:
            print(self.logs(), file=sys.stderr)
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End everything; what runs is killed."""
        assert self._hub.stdin is not None
        self._hub.stdin.close()
        try:
            self._hub.wait(10)
        except subprocess.TimeoutExpired:
            self._hub.kill()
            self._hub.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *command: str | Path, cwd: Path | None = None, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the login node; its output as text."""
        done = subprocess.run(
            [*self.login(cwd), *map(str, command)], env=self._environment(environment), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"{command} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-4000:]}")
        return done

    def on(self, node: int, *command: str | Path) -> None:
        """Run a command on a node, as its administrator would: what it mounts is mounted on that node only."""
        pid = (self.folder / "pids" / f"node{node}").read_text().strip()
        self.run("nsenter", "--target", pid, "--net", "--uts", "--pid", "--mount", "--", *command)

    def pull_the_plug(self, node: int) -> None:
        """A node is gone: processes and network, at once."""
        self._tell(f"kill {node}")

    def start(self, node: int) -> None:
        """A node comes back."""
        self._tell(f"start {node}")

    def submit(self, *arguments: str | Path, cwd: Path | None = None, **environment: str) -> str:
        """sbatch; returns the job's id."""
        return self.run("sbatch", "--parsable", *arguments, cwd=cwd, **environment).stdout.strip()

    def job(self, job: str) -> dict[str, str]:
        """What ``scontrol show job`` says, field -> value."""
        return dict(re.findall(r"(\S+?)=(\S*)", self.run("scontrol", "show", "job", job).stdout))

    def finished(self, job: str, seconds: float = 300) -> dict[str, str]:
        """Wait for a job's end; returns its fields (JobState, ExitCode, Restarts, ...)."""
        over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "DEADLINE", "OUT_OF_MEMORY", "BOOT_FAIL", "PREEMPTED")
        wait_until(lambda: self.job(job)["JobState"] in over, seconds, f"job {job} to end", lambda: str(self.job(job)))
        return self.job(job)

    def logs(self) -> str:
        """The ends of all logs."""
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in sorted((self.folder / "log").iterdir()))

    def login(self, cwd: Path | None = None) -> list[str]:
        """What goes before a command to run it on the login node."""
        children = Path(f"/proc/{self._hub.pid}/task/{self._hub.pid}/children").read_text().split()
        if not children:
            raise AssertionError(f"the cluster is gone\n{self.logs()}")
        return ["nsenter", "--target", children[0], "--net", "--uts", "--pid", "--mount", "--", "env", f"--chdir={cwd or Path.cwd()}"]

    def _environment(self, extra: dict[str, str]) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
        return {**own, "SLURM_CONF": f"{self.folder}/slurm.conf", **extra}

    def _idle(self) -> int:
        return self.run("sinfo", "--noheader", "--Node", "--partition=main", "--format=%t", check=False).stdout.split().count("idle")

    def _tell(self, command: str) -> None:
        assert self._hub.stdin is not None
        self._hub.stdin.write(command + "\n")
        self._hub.stdin.flush()
        self._heard(command)

    def _heard(self, word: str) -> None:
        assert self._hub.stdout is not None
        line = self._hub.stdout.readline().strip()
        if line != word:
            raise AssertionError(f"the cluster said {line!r} instead of {word!r}\n{self.logs()}")

    def _write_files(self) -> None:
        for name in ("log", "pids", "state", "spool", "dev"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        hosts = "".join(f"10.213.0.{number} node{number}\n" for number in range(1, self.nodes + 1))
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost\n10.213.0.254 login\n{hosts}")
        (self.folder / "nsswitch.conf").write_text("".join(f"{kind}: files\n" for kind in ("passwd", "group", "shadow", "hosts", "services", "protocols")))
        (self.folder / "slurm.conf").write_text(_CONF.format(folder=self.folder, nodes=self.nodes, gpus=GPUS))
        for number in range(GPUS):  # Slurm wants a device to count, no plain file
            (self.folder / "dev" / f"gpu{number}").symlink_to("/dev/null")
        (self.folder / "gres.conf").write_text(f"Name=gpu File={self.folder}/dev/gpu[0-{GPUS - 1}]\n")


def wait_until(condition: Callable[[], bool], seconds: float, what: str, state: Callable[[], str] = str) -> None:
    """Look again and again until ``condition`` holds; after ``seconds`` the test fails, saying what it waited for and ``state()``."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds:.0f} s for {what}: {state()}")
        time.sleep(0.2)


def main() -> None:
    """A cluster for as long as a shell (or the command after the number of nodes) runs on its login node."""
    reason = missing()
    if reason:
        sys.exit(reason)
    nodes, command = int(sys.argv[1]), sys.argv[2:] or ["bash", "-i"]
    with Cluster(nodes) as cluster:
        sys.exit(subprocess.call([*cluster.login(), *command], env=cluster._environment({})))


if __name__ == "__main__":
    main()
