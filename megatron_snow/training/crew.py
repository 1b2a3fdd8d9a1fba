"""The ranks that torchrun or srun started, as one run: rank 0 leads and talks, all end together, with one message and one exit code.

They share a key-value store at rank 0 (``cluster.meeting_point``). Through it rank 0 says what is done next, so that no
two ranks draw different conclusions from folders that change meanwhile; and a rank that fails says why. A thread of each
rank looks for that once a second, since the main thread may hang in a collective whose peer is gone. The store's server
lives in rank 0's process (in torchrun's agent under torchrun): where it vanishes, so do the others.
"""

from __future__ import annotations

import datetime
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection
from typing import Any, NoReturn

from torch.distributed import DistError, PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from megatron_snow.artifacts.errors import LostRank, SnowError, Stopped
from megatron_snow.artifacts.output import last_words
from megatron_snow.training.cluster import meeting_point, node_name
from megatron_snow.training.signals import StopSignal
from megatron_snow.training.worker import BUG, LOST, LOST_PEER, RankNumbers

_JOIN = 600.0  # seconds until all have come. Ours: imports of hundreds of ranks from one file system take minutes
_LEAVE = 60.0  # seconds until all have gone after a good end. Ours: none has work left by then
_NOTICE = 5.0  # seconds until all have heard of a failure. Ours: they look once a second, and srun kills what is left after its KillWait
_CAUSE = 3.0  # seconds in which a rank that lost a peer leaves it to others to name a cause. Ours
_LAST_LOOK = 0.3  # seconds between all having come and the end. Ours: all have seen it then, and end before srun ends them for the first that did
_LOOK = 1.0  # seconds between looks at the store (ours: 1,000 ranks are 1,000 small requests a second)


class Crew:
    """One rank's end of it."""

    def __init__(self, numbers: RankNumbers, stop: StopSignal, purpose: str = "crew") -> None:
        """Meet the others. ``purpose`` tells apart the crews of one process, if there are several.

        Raises:
            SnowError: where rank 0 cannot open the meeting point or the others cannot reach it.
        """
        self.numbers, self.stop = numbers, stop
        meeting = meeting_point(os.environ)
        self.rendezvous = "env://" if meeting.hosted else f"tcp://{meeting.host}:{meeting.port}"
        self._where = f"{meeting.host}:{meeting.port}"
        serve = self.leader and not meeting.hosted
        run = ".".join(os.environ.get(name, "") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT"))
        self._prefix, self._heard = f"snow/{run}/{purpose}", 0
        self._done, self._ending = threading.Event(), threading.Lock()
        self._store, self._watched = self._connect(meeting.host, meeting.port, serve), self._connect(meeting.host, meeting.port, serve)

    @property
    def leader(self) -> bool:
        """Whether this is rank 0, which owns what is written."""
        return self.numbers.rank == 0

    def watch(self) -> None:
        """From now on end this process when another rank fails."""
        threading.Thread(target=self._watch, daemon=True).start()

    def tell(self, word: Any) -> None:
        """Say something to the others, in order (the leader only); anything JSON can hold."""
        self._store.set(f"word/{self._heard}", json.dumps(word))
        self._heard += 1

    def hear(self) -> Any:
        """What the leader says next; waits for it as long as it takes. The process ends meanwhile where a rank fails."""
        word = json.loads(self._await(f"word/{self._heard}"))
        self._heard += 1
        return word

    def agree(self, look: Callable[[], Any]) -> Any:
        """What the leader sees, on every rank."""
        if not self.leader:
            return self.hear()
        seen = look()
        self.tell(seen)
        return seen

    def gather(self, value: Any, seconds: float, ranks: Collection[int] | None = None) -> dict[int, Any]:
        """Rank -> value, on the leader: of those of ``ranks`` (all, if not given) that came within ``seconds``. Nothing on the others."""
        name = f"gathered/{self._heard}"
        self._heard += 1
        self._store.set(f"{name}/{self.numbers.rank}", json.dumps(value))
        if not self.leader:
            return {}
        end, awaited, came = time.monotonic() + seconds, set(range(self.numbers.world) if ranks is None else ranks), {}
        while awaited:
            for rank in sorted(awaited):
                if self._store.check([f"{name}/{rank}"]):
                    came[rank] = json.loads(self._store.get(f"{name}/{rank}"))
            awaited -= came.keys()
            if time.monotonic() > end:
                break
            time.sleep(0.05)
        return dict(sorted(came.items()))

    def leave(self) -> None:
        """Wait for all to come to a good end, since the store ends with rank 0 and srun may end the others with the first."""
        self._done.set()
        self._wait_for_all("left", _LEAVE)

    def fail(self, error: Exception) -> NoReturn:
        """End this process and all others for an error of this rank, or for what another rank named as the cause of it."""
        if any(sign in str(error) for sign in LOST_PEER) and not isinstance(error, SnowError):
            self._expect_cause()
            said = _first_line(error).split(". ")[0]  # gloo goes on with advice
            error = LostRank(f"the connection to another rank broke ({said}): that rank was killed, lost or hung; run the same command again to go on")
        mendable = isinstance(error, SnowError)
        report = {
            "rank": self.numbers.rank, "node": node_name(os.environ), "message": str(error), "code": error.exit_code if isinstance(error, SnowError) else BUG,
            "trace": None if mendable else traceback.format_exc(),
        }  # fmt: skip
        _tell_torchrun(error)
        try:
            first = json.loads(self._store.compare_set("failure", "", json.dumps(report)))
        except DistError:
            first = report | {"alone": True}  # the store went with rank 0
        self._end(first, self._store)

    def _connect(self, host: str, port: int, serve: bool) -> Store:
        patience = datetime.timedelta(seconds=_JOIN)
        try:
            store = TCPStore(host, port, None, serve, patience, wait_for_workers=False, multi_tenant=True)
        except DistError as error:
            if serve:
                raise SnowError(f"rank 0 cannot listen at {self._where} ({_first_line(error)}): export another MASTER_PORT to all ranks") from error
            raise SnowError(f"rank {self.numbers.rank} on {node_name(os.environ)} did not reach rank 0 at {self._where} ({_first_line(error)})") from error
        return PrefixStore(self._prefix, store)

    def _watch(self) -> None:
        while not self._done.wait(_LOOK):
            try:
                failed = self._watched.check(["failure"])
            except DistError:
                if not self._done.is_set():
                    self._end(self._without_leader(), self._watched)
                return
            if failed:
                self._end(json.loads(self._watched.get("failure")), self._watched)

    def _without_leader(self) -> dict[str, Any]:
        """The report of a rank that finds the store gone."""
        return {
            "rank": 0, "node": self._where, "code": LOST, "trace": None, "alone": True,
            "message": "its process is gone (killed, often for a lack of memory, or its node lost): run the same command again to go on",
        }  # fmt: skip

    def _end(self, report: dict[str, Any], store: Store) -> NoReturn:
        """Leave at once, with the failure's code; an orderly exit would wait for peers that hang in a collective."""
        if not self._ending.acquire(blocking=False):
            threading.Event().wait()  # the other thread is ending the process
        self._done.set()
        if self.leader or report.get("alone"):
            who = f"rank {report['rank']} on {report['node']}"
            last_words(f"{who}: {report['message']}" if report["trace"] is None else f"{who} failed:\n{report['trace']}", report["code"])
        sys.stdout.flush()
        sys.stderr.flush()
        if not report.get("alone"):
            self._wait_for_all("noticed", _NOTICE, store)
        os._exit(report["code"])

    def _expect_cause(self) -> None:
        end = time.monotonic() + _CAUSE
        while time.monotonic() < end:
            time.sleep(_LOOK / 4)  # the watching thread ends the process where a cause is named

    def _await(self, key: str) -> bytes:
        """Ask more and more rarely, so that signals are heard in between."""
        pause = 0.01
        try:
            while not self._store.check([key]):
                time.sleep(pause)
                pause = min(2 * pause, _LOOK)
            return self._store.get(key)
        except DistError:
            self._end(self._without_leader(), self._store)

    def _wait_for_all(self, key: str, seconds: float, store: Store | None = None) -> None:
        store, end = store or self._store, time.monotonic() + seconds
        try:
            count = store.add(key, 1)
            while count < self.numbers.world and time.monotonic() < end:
                time.sleep(0.05)
                count = store.add(key, 0)
            time.sleep(_LAST_LOOK)
        except DistError:
            return  # the store went with rank 0: all have come


def attend(numbers: RankNumbers, action: Callable[[Crew], None], listen: bool) -> None:
    """Run ``action`` as one of several ranks, to the end of the process where it fails or is stopped.

    ``listen`` takes stop signals over from the start; otherwise training does when it begins.

    Raises:
        SnowError: this rank could not join.
    """
    stop = StopSignal()
    if listen:
        stop.listen()
    crew = Crew(numbers, stop)
    crew.watch()
    try:
        action(crew)
    except Stopped as stopped:
        crew.leave()
        if crew.leader:
            last_words(str(stopped), stopped.exit_code)
        os._exit(stopped.exit_code)  # an orderly exit takes its time and is deaf to SIGTERM's handler: srun would end it with another code
    except Exception as error:
        crew.fail(error)
    crew.leave()
    sys.stdout.flush()


def _tell_torchrun(error: Exception) -> None:
    """Where torchrun started this rank, its own report then names the cause."""
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        get_error_handler().record_exception(error)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
