#!/usr/bin/env python3
"""House rules no linter knows: no file over 400 lines, every shipped recipe loads, every recipe's plan renders."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 400  # lines; ours: what one sitting can review


def main() -> int:
    """Print what breaks a rule; return how many did."""
    from megatron_snow.artifacts.errors import SnowError
    from megatron_snow.recipe.drive import open_road
    from megatron_snow.recipe.plan import render_plan

    complaints = []
    tracked = subprocess.run(["git", "ls-files", "*.py", "*.cpp", "*.h", "*.cu"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in tracked:
        lines = len((ROOT / name).read_text().splitlines()) if (ROOT / name).exists() else 0
        if lines > LONGEST:
            complaints.append(f"{name}: {lines} lines, the most is {LONGEST}")
    recipes = sorted((ROOT / "examples").rglob("*.yaml"))
    for recipe in recipes:
        try:
            render_plan(*open_road(recipe, [], None))
        except SnowError as error:
            complaints.append(f"{recipe.relative_to(ROOT)}: {error}")
    print("\n".join(complaints) or f"{len(tracked)} files and {len(recipes)} recipes keep the house rules")
    return len(complaints)


if __name__ == "__main__":
    sys.exit(min(main(), 1))
