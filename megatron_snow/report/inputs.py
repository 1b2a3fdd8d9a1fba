"""The published artefacts a report reads: what is absent is None, what is broken is the user's to mend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.manifest import Manifest, read_manifest


class Read(BaseModel):
    """A part of an arrow's file: unknown keys are left alone, so that an arrow may write more than the report shows."""

    model_config = ConfigDict(frozen=True, extra="ignore")


R = TypeVar("R", bound=Read)


@dataclass(frozen=True)
class Artefact:
    """One published folder."""

    name: str
    """The stage's name: ``corpus``, ``train general``, ..."""
    folder: Path
    manifest: Manifest

    @property
    def phase(self) -> str | None:
        """``general`` of ``train general``; None where the stage belongs to no phase."""
        return self.name.partition(" ")[2] or None

    def read(self, file: str, model: type[R]) -> R | None:
        """``file`` as ``model``, or None where the artefact has none. Raises SnowError where it is damaged."""
        path = self.folder / file
        try:
            return model.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise _damaged(path, error, self.folder) from error

    def rows(self, file: str, model: type[R]) -> list[R]:
        """The rows of a JSON-lines file, none where the artefact has no such file. Raises SnowError naming the broken line."""
        return list(self.stream(file, model))

    def stream(self, file: str, model: type[R]) -> Iterator[R]:
        """The same, a row at a time."""
        path = self.folder / file
        if not path.exists():
            return
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    yield model.model_validate_json(line)
                except ValidationError as error:
                    raise _damaged(f"{path}, line {number}", error, self.folder) from error


def open_artefacts(inputs: Mapping[str, Path]) -> dict[str, Artefact]:
    """The artefacts by stage name, in the given order. Raises SnowError where a folder holds no published artefact."""
    opened = {}
    for name, folder in inputs.items():
        manifest = read_manifest(folder)
        if manifest is None:
            raise SnowError(f"{folder} holds no finished artefact (no manifest.json); run `snow {name.partition(' ')[0]}` before the report")
        opened[name] = Artefact(name, folder, manifest)
    return opened


def _damaged(where: Path | str, error: ValidationError, folder: Path) -> SnowError:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "the text"
    return SnowError(f"{where} is damaged or from another version: {field}: {first['msg']}; delete {folder} and run again")
