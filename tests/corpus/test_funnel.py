"""Drop counters add up to the same in any order."""

from __future__ import annotations

import itertools

import orjson

from megatron_snow.corpus.funnel import EXAMPLES, Funnel


def parts() -> list[Funnel]:
    funnels = []
    for task in range(3):
        funnel = Funnel()
        for number in range(10):
            funnel.enter()
            if number % 2:
                funnel.drop("odd", "C" if number > 4 else "", f"{task}/{number}", "text " * 100)
        funnel.match("HumanEval/0 docstring", {"document": f"{task}", "problem": "HumanEval/0"})
        funnels.append(funnel)
    return funnels


def total(funnels: list[Funnel]) -> Funnel:
    result = Funnel()
    for funnel in funnels:
        result.add(orjson.loads(orjson.dumps(funnel.dump())))
    return result


def test_counts_balance() -> None:
    summary = total(parts()).summary()
    assert summary["in"] == 30 and summary["kept"] == 15
    assert summary["drops"] == {"odd": {"C": 9, "unknown": 6}}
    assert summary["in"] == summary["kept"] + sum(sum(languages.values()) for languages in summary["drops"].values())


def test_examples_are_few_short_and_independent_of_order() -> None:
    summaries = [total(list(order)).summary() for order in itertools.permutations(parts())]
    assert all(summary == summaries[0] for summary in summaries)
    examples = summaries[0]["examples"]["odd"]
    assert len(examples) == EXAMPLES and all(len(example["snippet"]) <= 240 for example in examples)
    assert total(parts()).matches == {"HumanEval/0 docstring": 3}
