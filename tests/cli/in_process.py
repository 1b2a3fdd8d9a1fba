"""The command line in this process: what a user would read and the exit code, without a start of Python for each."""

from __future__ import annotations

import sys

import pytest

from megatron_snow.cli.commands import main


class Terminal:
    """``terminal("plan", recipe)`` -> (exit code, standard error); anything but a SnowError or an exit is a traceback and fails the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys
        monkeypatch.setenv("SNOW_OUTPUT", "text")

    def __call__(self, *arguments: object) -> tuple[int, str]:
        self._monkeypatch.setattr(sys, "argv", ["snow", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, self._capsys.readouterr().err

    def refused(self, *arguments: object) -> str:
        """What is said where something is the user's to mend."""
        code, said = self(*arguments)
        assert (code, "Traceback" in said) == (2, False), said
        return said


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(monkeypatch, capsys)
