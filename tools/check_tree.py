#!/usr/bin/env python3
"""House rules no linter knows: no file over 400 lines, every shipped recipe loads and its plan renders, READMEs show the plan as it is.

python tools/check_tree.py             say what breaks a rule
python tools/check_tree.py --update    write today's plans into the READMEs below examples/
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 400  # lines; ours: what one sitting can review


_PLAN = re.compile(r"(    \$ snow plan (\S+) --gpus (\d+)\n    \[\.\.\.\]\n)((?:    .*\n|\n(?=    ))*)")
"""A plan in a README: the command, a mark for the arrows' states left out, the rest of what it prints."""


def with_plans(text: str) -> str:
    """A README with each plan in it as the command prints it today. Raises SnowError where one cannot be made."""
    from megatron_snow.recipe.drive import open_road
    from megatron_snow.recipe.plan import render_training
    from megatron_snow.recipe.step_time import Cluster

    def today(found: re.Match[str]) -> str:
        with tempfile.TemporaryDirectory() as nothing_done:
            lines = render_training(*open_road(ROOT / found[2], [], Path(nothing_done)), Cluster(int(found[3])))
        return found[1] + "".join(f"    {line}".rstrip() + "\n" for line in lines)

    return _PLAN.sub(today, text)


def main() -> int:
    """Print what breaks a rule; return how many did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write the plans into the READMEs")
    update = parser.parse_args().update
    from megatron_snow.artifacts.errors import SnowError
    from megatron_snow.recipe.drive import open_road
    from megatron_snow.recipe.plan import render_plan

    complaints = []
    tracked = subprocess.run(["git", "ls-files", "*.py", "*.cpp", "*.h", "*.cu"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in tracked:
        lines = len((ROOT / name).read_text().splitlines()) if (ROOT / name).exists() else 0
        if lines > LONGEST:
            complaints.append(f"{name}: {lines} lines, the most is {LONGEST}")
    recipes = sorted(path for path in (ROOT / "examples").rglob("*.yaml") if path.parent.name != "studies")  # tests load those
    for recipe in recipes:
        try:
            render_plan(*open_road(recipe, [], None))
        except SnowError as error:
            complaints.append(f"{recipe.relative_to(ROOT)}: {error}")
    for readme in sorted((ROOT / "examples").rglob("README.md")):
        text = readme.read_text()
        today = with_plans(text)
        if update:
            readme.write_text(today)
        elif today != text or (_PLAN.search(text) is None and readme.with_name("recipe.yaml").exists()):
            complaints.append(f"{readme.relative_to(ROOT)} does not show what `snow plan` prints: run tools/check_tree.py --update")
    print("\n".join(complaints) or f"{len(tracked)} files and {len(recipes)} recipes keep the house rules")
    return len(complaints)


if __name__ == "__main__":
    sys.exit(min(main(), 1))
