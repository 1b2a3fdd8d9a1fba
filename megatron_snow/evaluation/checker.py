"""Runs inside the sandbox, behind a solution: compares its results with the canonical solution's, call by call. Standard library only.

What counts as right are facts of the published harnesses, written anew: evalplus 0.3.1 (HumanEval+, MBPP+: equality, or closeness of numbers where the
problem or the expected result asks for it, and a few problems with more than one right answer) and EvoEval 0.1.0 (equality of types and values, floats within
1e-6, and six such problems). A call may take ``limit`` seconds of processor time or four times the canonical solution's, whichever is more (evalplus
measures wall time, which fails right solutions on a busy machine). Differences from the harnesses, on purpose: a list of floats is never equal to one of
another length (numpy's broadcasting lets EvoEval accept ``[1.0]`` for ``[]``), HumanEval/32 is checked with its arguments in the right order and to the
tolerance of its row, 1e-4 (both harnesses swap them, so that nothing passes; EvoEval would ask for 1e-6, which the canonical solution misses).
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

FACTOR = 4.0  # evalplus 0.3.1, DEFAULT_GT_TIME_LIMIT_FACTOR
RELATIVE = {"evalplus": 1e-7, "evoeval": 1e-5}  # evalplus: assert_allclose's default; EvoEval: allclose's
ABSOLUTE = 1e-6  # both, where a float is expected
NAMES = {"inf": math.inf, "nan": math.nan}
SETS = {"similar_elements", "find_char_long", "common_in_nested_lists", "extract_singly", "larg_nnum", "intersection_array", "find_dissimilar", "Diff"}
PRESENCE = {"check_str", "text_match_three", "text_starta_endb"}


class PlusError(AssertionError):
    """The base tests passed; one of the further ones did not."""


class TooSlow(BaseException):
    """A call took more than its processor time."""


def out_of_time(number: int, frame: Any) -> None:
    raise TooSlow


def close(found: Any, right: Any, absolute: float, relative: float, nan: bool = False) -> bool:
    """Whether numbers, or equally long nested sequences of them, are close."""
    if isinstance(right, (list, tuple)):
        return (
            isinstance(found, (list, tuple))
            and len(found) == len(right)
            and all(close(a, b, absolute, relative, nan) for a, b in zip(found, right, strict=True))
        )
    if nan and isinstance(right, float) and isinstance(found, float) and math.isnan(right) and math.isnan(found):
        return True
    if isinstance(right, complex) or isinstance(found, complex):
        return bool(abs(found - right) <= absolute + relative * abs(right))
    if isinstance(right, (str, bytes, dict, set)) or isinstance(found, (str, bytes, dict, set)) or found is None or right is None:
        return False
    return bool(found == right or abs(found - right) <= absolute + relative * abs(right))


def floats(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, (list, tuple)) and len(value) > 0 and all(isinstance(item, float) for item in value))


def polynomial(coefficients: list[float], x: float) -> float:
    return sum(coefficient * math.pow(x, power) for power, coefficient in enumerate(coefficients))


def digit_distance(first: int, second: int) -> int:
    width = max(len(str(first)), len(str(second)))
    return sum(abs(int(a) - int(b)) for a, b in zip(str(first).zfill(width), str(second).zfill(width), strict=True))


def pyramid_surface(edge: float, height: float) -> int:
    return round(edge**2 + 2 * edge * math.sqrt((edge / 2) ** 2 + height**2))


def evalplus(benchmark: str, task: str, entry_point: str, tolerance: float, arguments: list[Any], found: Any, right: Any) -> bool:
    """HumanEval+ and MBPP+."""
    if entry_point == "find_zero":
        return abs(polynomial(arguments[0], found)) <= tolerance
    same = found == right
    if benchmark == "mbpp+":
        if entry_point == "are_equivalent" or (entry_point == "sum_div" and found == 0):
            return True
        if entry_point == "surface_Area" and abs(found - pyramid_surface(*arguments)) <= tolerance:
            return True
        if entry_point == "digit_distance_nums" and found == digit_distance(*arguments):
            return True
        if entry_point in SETS:
            same = set(found) == set(right)
        elif entry_point in PRESENCE:
            return bool(found == (right is not None)) if isinstance(found, bool) else (found is not None) == (right is not None)
    absolute = tolerance or (ABSOLUTE if floats(right) else 0.0)
    return bool(same) or (absolute > 0 and type(found) is type(right) and close(found, right, absolute, RELATIVE["evalplus"]))


def kind(value: Any) -> str:
    return "number" if isinstance(value, float) else type(value).__name__


def equal(found: Any, right: Any) -> bool:
    """EvoEval's equality: the same types all the way down."""
    if isinstance(right, (list, tuple)) and isinstance(found, (list, tuple)):
        loose = (floats(right) and floats(found)) or (not right and not found)  # there a sequence of floats has no type of its own
        return (loose or kind(found) == kind(right)) and len(found) == len(right) and all(equal(a, b) for a, b in zip(found, right, strict=True))
    if kind(found) != kind(right):
        return False
    if isinstance(right, float):
        return close(found, right, ABSOLUTE, RELATIVE["evoeval"], nan=True)
    if isinstance(right, dict):
        return len(found) == len(right) and all(key in right and equal(value, right[key]) for key, value in found.items())
    return bool(found == right)


def walks(path: list[str], place: tuple[int, int], moves: dict[str, tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for move in path:
        place = (place[0] + moves[move][0], place[1] + moves[move][1])
        yield place


def evoeval(benchmark: str, task: str, entry_point: str, tolerance: float, arguments: list[Any], found: Any, right: Any) -> bool:
    """The new problems and the reworded ones; ``arguments`` are as they were before the call."""
    if benchmark in ("evoeval/verbose", "evoeval/concise") and entry_point == "find_zero":
        return abs(polynomial(arguments[0], found)) <= (tolerance or ABSOLUTE)
    if benchmark == "evoeval/difficult" and task == "EvoEval/10":  # any case of the letters
        return bool(len(found) == len(right) and found.startswith(arguments[0]) and found.lower() == found[::-1].lower())
    if benchmark == "evoeval/difficult" and task == "EvoEval/32":  # any root in the interval
        start, end = arguments[1]
        return found is None if right is None else bool(start <= found <= end and abs(polynomial(arguments[0], found)) <= 2e-2)
    if benchmark == "evoeval/creative" and task == "EvoEval/26" and right:  # any way through the maze
        maze, start, end = arguments
        places = list(walks(found, start, {"right": (0, 1), "left": (0, -1), "up": (-1, 0), "down": (1, 0)}))
        return bool(all(maze[x][y] != 1 for x, y in places) and (places[-1] if places else start) == end)
    if benchmark == "evoeval/creative" and task == "EvoEval/30" and right:  # any path
        maze, start, end = arguments
        steps = itertools.pairwise(found)
        whole = all(maze[x][y] != 0 for x, y in found) and all(abs(a - c) + abs(b - d) == 1 for (a, b), (c, d) in steps)
        return bool(found[0] == start and found[-1] == end and whole)
    if benchmark == "evoeval/creative" and task == "EvoEval/69" and right != "No magic today":  # any pair
        numbers, target = arguments
        first, second = found
        return bool(isinstance(found, tuple) and 0 <= first < second < len(numbers) and numbers[first] * numbers[second] == target)
    if benchmark == "evoeval/subtle" and task == "EvoEval/32":  # any root; odd powers but the first have no coefficient
        coefficients = [arguments[0][0], arguments[0][1]]
        for coefficient in arguments[0][2:]:
            coefficients += [0, coefficient]
        return abs(polynomial(coefficients, found)) <= ABSOLUTE
    return equal(found, right)


def timed(function: Callable[..., Any], arguments: list[Any], limit: float) -> tuple[Any, float]:
    """What the call returns, and the processor time it took. Raises TooSlow, or what the call raises."""
    signal.signal(signal.SIGPROF, out_of_time)
    signal.setitimer(signal.ITIMER_PROF, limit)
    start = time.process_time()
    try:
        return function(*arguments), time.process_time() - start
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


class Nothing(io.StringIO):
    """Takes what is printed, some of it by the megabyte, and keeps none."""

    def write(self, text: str) -> int:
        return len(text)


def arguments(written: str) -> list[Any]:
    """Of one call, made anew: the last call may have changed its own."""
    return list(eval(f"[{written}]", dict(NAMES)))  # noqa: S307 - the benchmark's own text, inside the sandbox


def defined(text: str, file: str, name: str, entry_point: str) -> Callable[..., Any]:
    names: dict[str, Any] = {"__name__": name}
    exec(compile(text, file, "exec"), names)  # noqa: S102 - this is what the sandbox is for
    function: Callable[..., Any] = names[entry_point]
    return function


def compare(task: dict[str, Any], canonical: str, solution: str) -> None:
    """Raises where the solution is wrong: an AssertionError on a base input, a PlusError on a further one. ``canonical`` and ``solution``: program texts."""
    with contextlib.redirect_stdout(Nothing()), contextlib.redirect_stderr(Nothing()):
        right = defined(canonical, "canonical.py", "canonical", task["entry_point"])
        expected = [timed(right, arguments(written), task["timeout"]) for written in task["inputs"]]
        function = defined(solution, "solution.py", "__main__", task["entry_point"])
        for number, written in enumerate(task["inputs"]):
            check(task, function, written, expected[number], AssertionError if number < task["base"] else PlusError)


def check(task: dict[str, Any], function: Callable[..., Any], written: str, expected: tuple[Any, float], wrong: type[AssertionError]) -> None:
    """One call."""
    right, seconds = expected
    limit = max(task["limit"], FACTOR * seconds)
    rule = evoeval if task["benchmark"].startswith("evoeval") else evalplus
    try:
        found, _ = timed(function, arguments(written), limit)
        passed = rule(task["benchmark"], task["task_id"], task["entry_point"], task["tolerance"], arguments(written), found, right)
    except TooSlow:
        raise (PlusError if wrong is PlusError else TimeoutError)(f"more than {limit:.1f} s of processor time on {written[:100]}") from None
    except MemoryError:
        raise
    except BaseException as error:
        raise wrong(f"{type(error).__name__}: {error} on {written[:100]}") from None
    if not passed:
        raise wrong(f"{str(found)[:100]!r} is not {str(right)[:100]!r} on {written[:100]}")
