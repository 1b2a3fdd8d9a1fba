from typing import Annotated

from megatron_snow.artifacts.settings import RUNTIME, Settings, digest


class _Inner(Settings):
    cap: int = 1
    workers: Annotated[int, RUNTIME] = 2


class _Outer(Settings):
    inner: _Inner = _Inner()
    many: dict[str, _Inner] = {"a": _Inner()}  # noqa: RUF012 - settings are frozen
    listed: list[_Inner] = [_Inner()]  # noqa: RUF012
    threads: Annotated[int | None, RUNTIME] = None


def test_identity_leaves_out_what_does_not_change_the_result():
    assert _Outer().identity() == {"inner": {"cap": 1}, "many": {"a": {"cap": 1}}, "listed": [{"cap": 1}]}
    assert digest(_Outer(inner=_Inner(workers=9), threads=3).identity()) == digest(_Outer().identity())
    assert digest(_Outer(inner=_Inner(cap=9)).identity()) != digest(_Outer().identity())
