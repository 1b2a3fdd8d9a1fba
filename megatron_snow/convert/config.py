"""config.json of a Hugging Face model <-> the model's settings.

Read without transformers, so that a folder can be looked at in a millisecond; defaults are those of its LlamaConfig and
Qwen2Config. What would change the model's answers and is not supported is refused by name, never left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.model.settings import ModelSettings

Dtype = Literal["bf16", "fp32"]
NAMES = {"bf16": "bfloat16", "fp32": "float32"}
"""torch's names of the types weights are written in."""
_POSITIONS = {"llama": 2048, "qwen2": 32768}  # transformers' defaults
_PLAIN_ROPE = (None, "default")


@dataclass(frozen=True)
class BaseConfig:
    """What a config.json says."""

    model: ModelSettings
    vocabulary: int
    """Rows of the embedding."""
    positions: int
    """The longest sequence, in tokens."""


def read_config(folder: Path) -> BaseConfig:
    """The shape of the Hugging Face model in ``folder``.

    Raises:
        SnowError: where there is no readable config.json, or it asks for something that is not supported.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SnowError(f"{folder} holds no config.json: name the folder of a Hugging Face model") from None
    except (OSError, ValueError) as error:
        raise SnowError(f"{path} cannot be read ({error}): fetch the file again") from error
    if not isinstance(config, dict):
        raise SnowError(f"{path} holds a {type(config).__name__}, not a model's configuration: fetch the file again")
    if refusal := _refusal(config):
        raise SnowError(f"{path}: {refusal}; Llama and Qwen2/2.5 models with plain rotary positions and full attention can be converted")
    return _parse(config, path)


def _refusal(config: dict[str, Any]) -> str:
    """What of a configuration is not supported; empty where all is."""
    kind = config.get("model_type")
    if kind not in _POSITIONS:
        return f"model_type {kind!r} is not supported"
    if config.get("auto_map"):
        return "the model brings code of its own (auto_map), which is not run"
    if config.get("quantization_config"):
        return f"the weights are quantised (quantization_config {config['quantization_config'].get('quant_method', '')}): give the unquantised model"
    if config.get("hidden_act", "silu") != "silu":
        return f"hidden_act {config['hidden_act']!r} is not supported, only silu (SwiGLU)"
    for name in ("attention_bias", "mlp_bias"):
        if config.get(name):
            return f"{name} is true: biases on other projections than query, key and value are not supported"
    if config.get("use_sliding_window") or (kind == "llama" and config.get("sliding_window")):
        return f"sliding-window attention (sliding_window {config.get('sliding_window')}) is not supported"
    if other := set(config.get("layer_types") or ()) - {"full_attention"}:
        return f"layer_types {sorted(other)} are not supported"
    return _rope_refusal(config)


def _rope_refusal(config: dict[str, Any]) -> str:
    """Plain rotary positions are under ``rope_theta`` up to transformers 4, under ``rope_parameters`` from 5 on."""
    for name in ("rope_scaling", "rope_parameters"):
        given = config.get(name) or {}
        kind = given.get("rope_type", given.get("type"))
        if kind not in _PLAIN_ROPE:
            return f"{name} of type {kind!r} is not supported"
        if any(isinstance(value, dict) for value in given.values()):
            return f"{name} that differ by layer are not supported"
        if given.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0)) != 1.0:
            return "a partial_rotary_factor is not supported"
    theta = _theta(config)
    return "" if float(theta).is_integer() else f"rope_theta {theta} is not a whole number"


def _theta(config: dict[str, Any]) -> Any:
    return (config.get("rope_parameters") or {}).get("rope_theta", config.get("rope_theta", 10_000))


def _parse(config: dict[str, Any], path: Path) -> BaseConfig:
    try:
        heads, hidden = config["num_attention_heads"], config["hidden_size"]
        kind, head_dim = config["model_type"], config.get("head_dim")
        key_values = config["num_key_value_heads"] if kind == "qwen2" else config.get("num_key_value_heads")
        model = ModelSettings(
            hidden=hidden, ffn=config["intermediate_size"], layers=config["num_hidden_layers"], heads=heads, kv_heads=key_values or heads,
            head_dim=None if head_dim is None or head_dim * heads == hidden else head_dim, qkv_bias=kind == "qwen2",
            tied=config.get("tie_word_embeddings", False), rope_theta=int(_theta(config)), norm_epsilon=config.get("rms_norm_eps", 1e-6),
            init_std=config.get("initializer_range", 0.02),
        )  # fmt: skip
        return BaseConfig(model, int(config["vocab_size"]), int(config.get("max_position_embeddings", _POSITIONS[kind])))
    except KeyError as error:
        raise SnowError(f"{path} does not say {error.args[0]}: it is not the whole configuration of a {config['model_type']} model") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the model"
        raise SnowError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')} (it is {first['input']!r})") from error
    except (TypeError, ValueError) as error:
        raise SnowError(f"{path} does not describe a model ({error}): fetch the file again") from error


def hugging_face_config(model: ModelSettings, vocabulary: int, positions: int, dtype: Dtype, ids: dict[str, Any]) -> dict[str, Any]:
    """config.json of a model: a Qwen2 where query, key and value have biases, a Llama otherwise.

    The rotary base and the type are there under the names of transformers 5 and of 4. ``ids``: bos_token_id, eos_token_id, pad_token_id.
    """
    kind = "qwen2" if model.qkv_bias else "llama"
    special = {"use_sliding_window": False, "sliding_window": None} if model.qkv_bias else {"attention_bias": False, "mlp_bias": False}
    return {
        "architectures": ["Qwen2ForCausalLM" if model.qkv_bias else "LlamaForCausalLM"],
        "model_type": kind,
        "vocab_size": vocabulary,
        "hidden_size": model.hidden,
        "intermediate_size": model.ffn,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_size,
        "hidden_act": "silu",
        "max_position_embeddings": positions,
        "rms_norm_eps": model.norm_epsilon,
        "rope_theta": float(model.rope_theta),
        "rope_parameters": {"rope_type": "default", "rope_theta": float(model.rope_theta)},
        "tie_word_embeddings": model.tied,
        "attention_dropout": 0.0,
        "initializer_range": model.init_std,
        "dtype": NAMES[dtype],
        "torch_dtype": NAMES[dtype],
        **special,
        **ids,
    }
