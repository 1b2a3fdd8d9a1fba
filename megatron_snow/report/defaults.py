"""The defaults of a recipe's sections, so that the report can mark what differs from them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined, to_jsonable_python

from megatron_snow.corpus.settings import CorpusSettings
from megatron_snow.evaluation.settings import EvaluateSettings
from megatron_snow.model.settings import ModelSettings
from megatron_snow.parallel.settings import Layout
from megatron_snow.quality.settings import AnnotateSettings
from megatron_snow.synthesis.settings import SynthesizeSettings
from megatron_snow.tokens.settings import TokenizerSettings, TokenizeSettings
from megatron_snow.training.settings import TrainSettings

_SECTIONS: dict[str, type[BaseModel]] = {
    "corpus": CorpusSettings,
    "tokenizer": TokenizerSettings,
    "annotate": AnnotateSettings,
    "synthesize": SynthesizeSettings,
    "tokenize": TokenizeSettings,
    "model": ModelSettings,
    "layout": Layout,
    "train": TrainSettings,
    "evaluate": EvaluateSettings,
}


def default_tree(recipe: dict[str, Any]) -> dict[str, Any]:
    """What each section of ``recipe`` would be if it were left out; fields without a default are absent, like sections nobody knows."""
    return {name: _defaults(_SECTIONS[name]) for name in recipe if name in _SECTIONS}


def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    if not any(field.is_required() for field in model.model_fields.values()):
        return model().model_dump(mode="json")  # validators may fill in more than the fields' own defaults
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True, validated_data={})
        if default is not PydanticUndefined:
            found[name] = default.model_dump(mode="json") if isinstance(default, BaseModel) else to_jsonable_python(default)
    return found
