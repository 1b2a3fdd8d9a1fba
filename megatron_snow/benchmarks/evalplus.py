"""HumanEval+ and MBPP+ rows (Liu et al. 2023, arXiv 2305.01210) as evalplus releases them and as its data sets on the hub have them.

A release row lists the arguments of each call in ``base_input`` and ``plus_input``; what is right is what the canonical solution returns.
JSON has no tuples, sets and complex numbers, so MBPP+'s arguments are turned back into the types its problems ask for: which problem
wants which is data of the benchmark's release (its loader's table), kept here as shapes. A hub row has one program in ``test`` instead.
"""

from __future__ import annotations

from typing import Any

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.benchmarks.problem import Problem
from megatron_snow.benchmarks.rows import Row, text

# What a list in the arguments of an MBPP+ problem stands for. A shape is applied from the outside in, the outermost list being the arguments:
# "*" each item likewise, a tuple of shapes: item by item (the last one for all further items), "tuple", "set", "complex", "float": that type;
# "lists": a tuple where it is a list; "tuples": likewise, all the way down; "values": a dict's values are tuples.
_EACH_A_TUPLE = ("*", "tuple")
_EACH_A_LIST_OF_TUPLES = ("*", ("*", "tuple"))
_FIRST_A_LIST_OF_TUPLES = (("*", "tuple"), None)
_FIRST_A_TUPLE = ("tuple", None)
_EACH_A_TUPLE_OF_TUPLES = ("*", ("*tuple", "tuple"))
_ALL_TUPLES = "tuples"
_SHAPES: dict[int, Any] = {
    **dict.fromkeys((2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424, 429, 470, 560, 579, 596, 616, 630, 726, 740, 744, 809), _EACH_A_TUPLE),
    **dict.fromkeys((63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780), _EACH_A_LIST_OF_TUPLES),
    **dict.fromkeys((75, 413, 444, 753), _FIRST_A_LIST_OF_TUPLES),
    **dict.fromkeys((106, 750), (None, "tuple")),
    115: (("*", "set"), None),
    124: ("float", "complex"),
    **dict.fromkeys((250, 307, 405, 446, 617, 720, 763, 808), _FIRST_A_TUPLE),
    **dict.fromkeys((259, 401, 445), _EACH_A_TUPLE_OF_TUPLES),
    278: ("*", ("*tuple", "lists")),
    722: ("values", None),
    252: ("complex", None),
    **dict.fromkeys((580, 615, 791), _ALL_TUPLES),
}


class _Complex(complex):
    """Written as the call that makes it: Python's own notation loses the sign of a zero."""

    def __repr__(self) -> str:
        return f"complex({complex.__repr__(self)!r})"


def _shaped(value: Any, shape: Any) -> Any:
    """``value`` with its lists turned into what ``shape`` says."""
    if isinstance(shape, tuple):
        if shape[0] == "*":
            return [_shaped(item, shape[1]) for item in value]
        if shape[0] == "*tuple":
            return tuple(_shaped(item, shape[1]) for item in value)
        return [_shaped(item, shape[min(place, len(shape) - 1)]) for place, item in enumerate(value)]
    if shape == "tuples":
        return tuple(_shaped(item, shape) for item in value) if isinstance(value, list) else value
    if shape == "lists":
        return tuple(value) if isinstance(value, list) else value
    if shape == "tuple":
        return tuple(value) if isinstance(value, list | str) else value
    if shape == "values":
        return {key: tuple(item) for key, item in value.items()}
    if shape == "set":
        return set(value) if value else {}  # as the release has it: an empty one is a dict
    return {"complex": _Complex, "float": float, None: lambda same: same}[shape](value)


def _calls(row: Row, column: str, shape: Any, where: str) -> tuple[str, ...]:
    rows = row.get(column)
    rows = [] if rows == {} else rows  # so in the release where a problem has no further inputs (Mbpp/793)
    if not isinstance(rows, list) or not all(isinstance(one, list) for one in rows):
        raise SnowError(f"{where}: no list of argument lists in {column}; is this the benchmark's own file?")
    try:
        return tuple(", ".join(map(repr, _shaped(one, shape) if shape else one)) for one in rows)
    except (TypeError, ValueError, AttributeError) as error:
        raise SnowError(f"{where}: the arguments in {column} are not what this problem takes ({error}); is this the version the names belong to?") from error


def plus(row: Row, name: str, where: str) -> Problem:
    """A problem of HumanEval+, MBPP+, or EvoEval's verbose and concise sets."""
    if "base_input" not in row:
        return _hub(row, name, where)
    task = text(row, "task_id", where)
    number = task.rpartition("/")[2]
    shape = _SHAPES.get(int(number)) if name == "mbpp+" and number.isdigit() else None
    prompt, solution = text(row, "prompt", where), text(row, "canonical_solution", where)
    tolerance = row.get("atol", 0)
    if not isinstance(tolerance, int | float):
        raise SnowError(f"{where}: atol is {tolerance!r}, not a number; is this the benchmark's own file?")
    test = str(row.get("test") or row.get("assertion") or "")
    return Problem(
        task, prompt, text(row, "entry_point", where), solution if prompt.endswith("\n") else "\n" + solution, test,
        name, "inputs", _calls(row, "base_input", shape, where), _calls(row, "plus_input", shape, where), float(tolerance),
    )  # fmt: skip


def humaneval(row: Row, name: str, where: str) -> Problem:
    """openai/human-eval's columns, which HumanEval+ on the hub has too."""
    return Problem(
        text(row, "task_id", where), text(row, "prompt", where), text(row, "entry_point", where), text(row, "canonical_solution", where),
        text(row, "test", where), name,
    )  # fmt: skip


def _hub(row: Row, name: str, where: str) -> Problem:
    """The hub's form: HumanEval's columns, or MBPP's, with all tests in ``test``."""
    if name == "mbpp+":
        from megatron_snow.benchmarks.mbpp import mbpp

        problem = mbpp({**row, "task_id": f"Mbpp/{row.get('task_id')}"}, name, where)
        return Problem(problem.task_id, problem.prompt, problem.entry_point, problem.canonical_solution, text(row, "test", where), name, "asserts")
    return humaneval(row, name, where)
