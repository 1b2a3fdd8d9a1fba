"""Hugging Face models become checkpoints that the engine answers the same from, under any layout, and go back bit for bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.checkpoint.store import latest, read_description, verify
from megatron_snow.checkpoint.weights import has_optimizer, read_weights, weight_shapes
from megatron_snow.convert import to_checkpoint, to_hugging_face
from megatron_snow.model.settings import ModelSettings, parameters
from megatron_snow.parallel.settings import Layout
from tests.convert import hub
from tests.training import ranks


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("hub")
    return {case: hub.tokenizer(hub.make(folder / str(number), case)) for number, case in enumerate(hub.MODELS)}


def loaded(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left)


def engine_logits(rank: int, world: int, rendezvous: str, layout: Layout, folders: list[Path], ids: torch.Tensor | None = None) -> list[torch.Tensor | None]:
    """What the training engine answers from each checkpoint to ``ids`` [b, s], whole on the last stage, None elsewhere."""
    from megatron.core.pipeline_parallel import get_forward_backward_func
    from megatron.core.tensor_parallel import gather_from_tensor_model_parallel_region

    from megatron_snow.checkpoint.engine import load
    from megatron_snow.training.engine import Engine
    from tests.training import small

    backend, place = ranks.joined(layout, rank, world, rendezvous)
    ids = hub.tokens() if ids is None else ids
    batch, sequence = ids.shape
    positions = torch.arange(sequence).expand(batch, -1).contiguous()
    answers: list[torch.Tensor | None] = []
    for folder in folders:
        said = read_description(folder)
        engine = Engine(small.train(), small.phase(batch=batch, micro_batch=batch, sequence=sequence), said.model, said.vocabulary, layout, backend, place)
        load(folder, engine.chunks, engine.optimizer, said, place, momentum=False)
        with torch.no_grad():
            data = get_forward_backward_func()(
                forward_step_func=lambda batch, model: (model(ids, positions, None), lambda output, non_loss_data: output), data_iterator=iter([None]),
                model=engine.chunks, num_microbatches=1, seq_length=sequence, micro_batch_size=batch, forward_only=True, collect_non_loss_data=True,
            )  # fmt: skip
            answers.append(gather_from_tensor_model_parallel_region(data[0]).clone() if data else None)
    return answers


@pytest.fixture(scope="module")
def checkpoints(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for number, (case, model) in enumerate(models.items()):
        training = tmp_path_factory.mktemp("brought") / str(number)
        to_checkpoint(model, training)
        folder = latest(training)
        assert folder is not None
        made[case] = folder
    return made


@pytest.mark.parametrize(("layout", "world"), [(Layout(), 1), (Layout(tensor=2, pipeline=2), 4)])
def test_the_engine_answers_what_transformers_answers(models: dict[str, Path], checkpoints: dict[str, Path], layout: Layout, world: int) -> None:
    answers = ranks.run(engine_logits, world, layout, list(checkpoints.values()))
    for index, (case, model) in enumerate(models.items()):
        expected = hub.logits(model, hub.tokens())
        found = [answer[index] for answer in answers if answer[index] is not None]
        assert len(found) == layout.tensor and expected.std() > 0.3
        for logits in found:
            assert logits.shape == (3, hub.SEQUENCE, 384)
            assert (logits[..., : hub.VOCABULARY] - expected).abs().max() <= 1e-4, case  # the gate
            assert (logits[..., hub.VOCABULARY :] - expected.mean(-1, keepdim=True)).abs().max() <= 1e-4, case  # added rows: the mean logit


def test_the_checkpoint_is_whole_and_says_what_it_is(models: dict[str, Path], checkpoints: dict[str, Path]) -> None:
    said = read_description(checkpoints["qwen2"])
    verify(checkpoints["qwen2"])
    expected = ModelSettings(hidden=64, ffn=96, layers=4, heads=4, kv_heads=2, tied=False, qkv_bias=True, rope_theta=1_000_000, norm_epsilon=1e-6)
    assert said.model == expected and said.vocabulary == 384 and said.precision == "fp32" and said.step == 0 and said.sequence == hub.SEQUENCE
    assert read_description(checkpoints["llama, tied, wide heads"]).model.head_dim == 24
    for folder in checkpoints.values():
        said = read_description(folder)
        assert sum(torch.Size(size).numel() for size in weight_shapes(folder).values()) == parameters(said.model, said.vocabulary)
        assert not has_optimizer(folder)


def plain_megatron(rank: int, world: int, rendezvous: str, folder: Path) -> dict[str, torch.Tensor]:
    """What plain megatron-core loads."""
    from megatron.core.dist_checkpointing import load_common_state_dict, load_plain_tensors

    from megatron_snow.parallel import cpu_device

    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=world)
    cpu_device.activate()
    assert load_common_state_dict(str(folder)) == {}
    return load_plain_tensors(str(folder))


def test_plain_megatron_core_loads_it(checkpoints: dict[str, Path]) -> None:
    folder = checkpoints["qwen2, tied"]
    assert same(ranks.run(plain_megatron, 1, folder)[0], dict(read_weights(folder)))


@pytest.mark.parametrize("case", list(hub.MODELS))
@pytest.mark.parametrize(("dtype", "shard"), [(torch.float32, "5GB"), (torch.bfloat16, "100KB")])
def test_there_and_back_is_bitwise(case: str, dtype: torch.dtype, shard: str, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    model = hub.tokenizer(hub.make(tmp_path / "model", case, dtype, shard))
    assert (model / "model.safetensors.index.json").exists() == (shard == "100KB")
    counts = to_checkpoint(model, tmp_path / "training")
    assert counts["dtype"] == ("fp32" if dtype == torch.float32 else "bf16") and counts["rows_kept"] == 300 and counts["rows_added"] == 84
    (tmp_path / "back").mkdir()
    to_hugging_face(tmp_path / "training", tmp_path / "training" / "hugging_face", tmp_path / "back")
    assert same(loaded(tmp_path / "back"), loaded(model))
    theirs, ours = ({**AutoConfig.from_pretrained(folder).to_dict(), "_name_or_path": ""} for folder in (model, tmp_path / "back"))
    assert {name: value for name, value in ours.items() if theirs.get(name) != value}.keys() <= {"attention_bias", "mlp_bias", "head_dim", "torch_dtype"}
    assert (tmp_path / "back" / "tokenizer.json").read_bytes() == (model / "tokenizer.json").read_bytes()
    again, words = AutoModelForCausalLM.from_pretrained(tmp_path / "back"), AutoTokenizer.from_pretrained(tmp_path / "back")
    assert type(again).__name__ == {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}[hub.MODELS[case][0]] and again.dtype == dtype
    assert again.generation_config.eos_token_id == words.eos_token_id == 2 and again.generation_config.bos_token_id == 1
    made = again.generate(**words("def add(a, b):", return_tensors="pt"), max_new_tokens=3, min_new_tokens=3, do_sample=False)
    assert made.shape[1] == len(words("def add(a, b):")["input_ids"]) + 3


def test_from_a_checkpoint_and_back_is_bitwise_padding_included(checkpoints: dict[str, Path], models: dict[str, Path], tmp_path: Path) -> None:
    for case in ("qwen2", "llama, tied, wide heads"):
        companions = checkpoints[case].parents[1] / "hugging_face"
        work = tmp_path / case
        work.mkdir()
        counts = to_hugging_face(checkpoints[case], companions, work, keep_padding=True)
        assert counts["vocabulary"] == 384 and counts["padding_cut"] == 0
        to_checkpoint(work, tmp_path / f"{case} again")
        again = latest(tmp_path / f"{case} again")
        assert again is not None and same(dict(read_weights(again)), dict(read_weights(checkpoints[case])))


def test_half_precision_keeps_every_value(models: dict[str, Path], tmp_path: Path) -> None:
    model = hub.make(tmp_path / "half", "qwen2", torch.float16)
    assert to_checkpoint(model, tmp_path / "training")["dtype"] == "fp32"
    (tmp_path / "back").mkdir()
    to_hugging_face(tmp_path / "training", tmp_path / "training" / "hugging_face", tmp_path / "back")
    assert same({name: tensor.half() for name, tensor in loaded(tmp_path / "back").items()}, loaded(model))
    (tmp_path / "rounded").mkdir()
    to_checkpoint(model, tmp_path / "bf16", dtype="bf16")
    to_hugging_face(tmp_path / "bf16", tmp_path / "bf16" / "hugging_face", tmp_path / "rounded")
    assert same(loaded(tmp_path / "rounded"), {name: tensor.bfloat16() for name, tensor in loaded(model).items()})


@pytest.mark.parametrize(("tokens", "kept", "cut", "added"), [(300, 300, 0, 84), (200, 256, 44, 0), (400, 300, 0, 212)])
def test_rows_follow_the_tokenizer(models: dict[str, Path], tmp_path: Path, tokens: int, kept: int, cut: int, added: int) -> None:
    counts = to_checkpoint(models["llama"], tmp_path, vocabulary=tokens)
    assert (counts["rows_kept"], counts["rows_cut"], counts["rows_added"]) == (kept, cut, added)
    folder = latest(tmp_path)
    assert folder is not None
    weights, source = dict(read_weights(folder)), loaded(models["llama"])
    for ours, theirs in (("embedding.word_embeddings.weight", "model.embed_tokens.weight"), ("output_layer.weight", "lm_head.weight")):
        assert weights[ours].shape[0] == kept + added and torch.equal(weights[ours][:kept], source[theirs][:kept])
        assert (weights[ours][kept:] - source[theirs].mean(0)).abs().max() < 1e-6 if added else True


def edited(source: Path, target: Path, **changes: Any) -> Path:
    """A copy of a model with fields of its config.json changed; None takes one out."""
    shutil.copytree(source, target)
    config = json.loads((target / "config.json").read_text()) | changes
    (target / "config.json").write_text(json.dumps({name: value for name, value in config.items() if value is not None}))
    return target


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "mixtral"}, "model_type 'mixtral' is not supported"),
        ({"auto_map": {"AutoModel": "code.Model"}}, "code of its own"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised.*gptq"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"attention_bias": True}, "attention_bias is true"),
        ({"mlp_bias": True}, "mlp_bias is true"),
        ({"use_sliding_window": True, "sliding_window": 16}, r"sliding-window attention \(sliding_window 16\)"),
        ({"sliding_window": 16}, "sliding-window attention"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, "rope_scaling of type 'linear'"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "rope_parameters of type 'llama3'"),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "differ by layer"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"rope_parameters": {"rope_theta": 10000.5}}, "rope_theta 10000.5 is not a whole number"),
        ({"hidden_size": None}, "does not say hidden_size"),
        ({"num_hidden_layers": "many"}, "layers: .*'many'"),
        ({"num_hidden_layers": 5}, r"lacks 9 of the tensors .* model\.layers\.4\.self_attn\.q_proj\.weight among them"),
        ({"num_hidden_layers": 3}, r"model\.layers\.3\..* has no place in the model"),
        ({"intermediate_size": 128}, r"gate_proj\.weight has shape \[96, 64\], config.json says \[128, 64\]"),
        ({"model_type": "qwen2"}, r"lacks 12 of the tensors .*q_proj\.bias among them"),
    ],
)
def test_what_is_not_supported_is_refused(models: dict[str, Path], tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    model = edited(models["llama"], tmp_path / "model", **changes)
    with pytest.raises(SnowError, match=says):
        to_checkpoint(model, tmp_path / "training")
    assert not (tmp_path / "training").exists()


def test_biases_nobody_asked_for_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    model = edited(models["qwen2"], tmp_path / "model", model_type="llama")
    with pytest.raises(SnowError, match=r"self_attn\..*_proj\.bias has no place in the model .* \(12 such tensors\)"):
        to_checkpoint(model, tmp_path / "training")


def test_quantised_weights_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    model = edited(models["llama"], tmp_path / "model")
    weights = loaded(model) | {"model.layers.0.mlp.up_proj.weight": torch.zeros(96, 64, dtype=torch.float8_e4m3fn)}
    save_file(weights, model / "model.safetensors")
    with pytest.raises(SnowError, match=r"up_proj\.weight is stored as F8_E4M3; weights in F32, F16, BF16 can be converted"):
        to_checkpoint(model, tmp_path / "training")


def test_what_old_and_tied_files_carry_beside_is_left_out(models: dict[str, Path], tmp_path: Path) -> None:
    model = edited(models["qwen2, tied"], tmp_path / "model")
    beside = {"lm_head.weight": torch.zeros(300, 64), "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}
    save_file(loaded(model) | beside, model / "model.safetensors")
    to_checkpoint(model, tmp_path / "training")
    to_checkpoint(models["qwen2, tied"], tmp_path / "plain")
    with_extra, plain = latest(tmp_path / "training"), latest(tmp_path / "plain")
    assert with_extra is not None and plain is not None and same(dict(read_weights(with_extra)), dict(read_weights(plain)))


def test_another_shape_than_the_recipes_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    asked = ModelSettings(hidden=64, ffn=128, layers=4, heads=4, kv_heads=2, tied=False, head_dim=16)
    with pytest.raises(SnowError, match=r"model\.ffn 128, there 96; model\.rope_theta 10000, there 50000; model\.norm_epsilon 1e-05, there 0\.0001; set"):
        to_checkpoint(models["llama"], tmp_path, model=asked)
    fitting = asked.model_copy(update={"ffn": 96, "rope_theta": 50_000, "norm_epsilon": 1e-4, "vocabulary_multiple": 64, "init_std": 0.5})
    assert to_checkpoint(models["llama"], tmp_path, model=fitting)["vocabulary"] == 320
