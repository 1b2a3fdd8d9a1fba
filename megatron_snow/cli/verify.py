"""``snow verify``: every artefact of a road read whole and held against its manifest."""

from __future__ import annotations

from typing import Any

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.manifest import read_manifest
from megatron_snow.artifacts.units import format_bytes
from megatron_snow.cli.commands import Out, Overrides, RecipePath, app
from megatron_snow.cli.output import Result


@app.command()
def verify(recipe: RecipePath, overrides: Overrides = None, out: Out = None) -> None:
    """Read every artefact whole and compare it with its manifest's sha256: what a bad disk or an editor changed.

    `snow run` reads again only files whose size or times changed since they were last found right; this reads all. Changes nothing; exit code 2 where
    something is wrong.
    """
    from megatron_snow.recipe.drive import open_road

    _, road = open_road(recipe, overrides or [], out)
    result, wrong = Result(), []
    for name, stage in road.stages.items():
        folder = road.folder(name)
        found: dict[str, Any] = {"stage": name, "folder": str(folder)}
        try:
            manifest = read_manifest(folder)
            if manifest is None:
                result.show(found | {"state": "missing"}, f"  {name:<22} not made yet")
                continue
            faults = [f"{path} {what}" for path, what in road.verified.read_all(folder)]
            held = f"{len(manifest.files)} files, {format_bytes(sum(entry.bytes for entry in manifest.files.values()))}"
        except SnowError as error:
            faults, held = [str(error)], "no manifest that can be read"
        result.show(
            found | {"state": "wrong" if faults else "whole", "faults": faults},
            "\n".join([f"  {name:<22} {'WRONG' if faults else 'whole'}: {held}", *(f"    {fault}" for fault in faults)]),
        )
        if faults:
            wrong.append(f"{folder} (put it back as it was, or delete it and run `snow {stage.arrow}` again)")
    if wrong:
        raise SnowError(f"{len(wrong)} of {len(road.stages)} artefacts are not what their manifests say: " + "; ".join(wrong))
