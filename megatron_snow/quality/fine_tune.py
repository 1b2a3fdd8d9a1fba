"""Training the encoder itself on the labelled sections, before the heads are trained on what it then gives.

Encoder and a linear layer on the pooled, unnormalised output, AdamW, a tenth of the steps of warm-up and then linearly to zero
(Devlin et al. 2019, appendix A, and their code). Weights are trained in float32 and kept in a Hugging Face folder. Dropout and shuffles come from
the seed; on a CPU one thread computes, so that the same input gives the same weights on one kind of machine.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.fixtures import resolve
from megatron_snow.artifacts.progress import Progress, say
from megatron_snow.quality.encoder import SectionEncoder, one_thread, quiet_loading
from megatron_snow.quality.labelled import POOL, Example
from megatron_snow.quality.settings import AnnotateSettings, FineTuneSettings
from megatron_snow.quality.training import label_files

_WARM_UP = 0.1  # share of the steps: the default of google-research/bert's run_classifier.py


class _Sections:
    """Sections of labelled files, flat: a Python list of ints would take nine times the memory."""

    def __init__(self, encoder: SectionEncoder, files: Iterable[tuple[Example, str]]) -> None:
        self.examples: list[Example] = []
        self.tokens: list[np.ndarray] = []
        self.file: list[int] = []
        for example, text in files:
            if example.source == POOL:
                continue
            for section in encoder.sections([text])[0]:
                self.tokens.append(section)
                self.file.append(len(self.examples))
            self.examples.append(example)


def fine_tune(encoder: SectionEncoder, settings: AnnotateSettings, seed: int, files: Iterable[tuple[Example, str]], target: Path) -> dict[str, Any]:
    """Train the encoder and write it to ``target``; ``losses`` and ``held_out_losses`` by epoch, ``best_epoch``.

    A folder that is there already is left as it is (a killed run goes on behind it), and the numbers are read from it.
    Raises SnowError where the labels cannot be split, the loss is not finite, or there are fewer layers than asked for.
    """
    import orjson

    numbers = target / "fine_tune.json"
    if numbers.exists():
        return orjson.loads(numbers.read_bytes())
    assert settings.fine_tune is not None
    sections = _Sections(encoder, files)
    labels = label_files(sections.examples, settings, seed)
    file = np.array(sections.file)
    counts = np.bincount(file, minlength=len(sections.examples))
    with torch.random.fork_rng(), one_thread(encoder.device), quiet_loading():
        torch.manual_seed(seed % 2**63)
        tuner = _Tuner(encoder, settings)
        training, held_out = (np.flatnonzero(side[file]) for side in (labels.training, labels.held_out))
        found = tuner.run(sections.tokens, labels.label[file], 1.0 / counts[file], training, held_out, seed)
        building = target.with_name(target.name + ".tmp")
        shutil.rmtree(building, ignore_errors=True)
        tuner.save(building)
    (building / numbers.name).write_bytes(orjson.dumps(found))
    shutil.rmtree(target, ignore_errors=True)
    os.rename(building, target)
    say(f"  encoder fine-tuned: held-out loss {found['held_out_losses'][found['best_epoch'] - 1]:.4f} after epoch {found['best_epoch']}")
    return found


class _Tuner:
    def __init__(self, encoder: SectionEncoder, settings: AnnotateSettings) -> None:
        assert settings.fine_tune is not None
        self._encoder, self._settings, self._how = encoder, settings, settings.fine_tune
        self._folder = resolve(settings.encoder)
        self._classes = settings.labels is None
        self._model = AutoModel.from_pretrained(self._folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False).to(encoder.device)
        self._linear = torch.nn.Linear(encoder.width, 1).to(encoder.device)
        torch.nn.init.zeros_(self._linear.weight)
        torch.nn.init.zeros_(self._linear.bias)
        self._freeze(self._how)

    def _freeze(self, how: FineTuneSettings) -> None:
        for name, parameter in self._model.named_parameters():
            parameter.requires_grad_(how.layers is None and not name.startswith("pooler."))
        if how.layers is None:
            return
        stack = getattr(getattr(self._model, "encoder", None), "layer", None)
        if stack is None or how.layers > len(stack):
            has = "no list of layers that can be told apart" if stack is None else f"{len(stack)} layers"
            raise SnowError(f"annotate.fine_tune.layers is {how.layers}, {self._settings.encoder} has {has}; lower it or leave it out")
        for layer in stack[-how.layers :]:
            layer.requires_grad_(True)

    def _loss(self, tokens: list[np.ndarray], label: np.ndarray, weight: np.ndarray) -> torch.Tensor:
        """Summed over the sections with their weights."""
        device = self._encoder.device
        length = max(map(len, tokens))
        ids = torch.full((len(tokens), length), self._encoder.pad, dtype=torch.long)
        mask = torch.zeros((len(tokens), length), dtype=torch.long)
        for row, some in enumerate(tokens):
            ids[row, : len(some)] = torch.from_numpy(some.astype(np.int64))
            mask[row, : len(some)] = 1
        hidden = self._model(input_ids=ids.to(device), attention_mask=mask.to(device)).last_hidden_state
        outputs = self._linear(self._encoder.pool(hidden, mask.to(device))).squeeze(1)
        targets, weights = (torch.from_numpy(array.astype(np.float32)).to(device) for array in (label, weight))
        if self._classes:
            return torch.nn.functional.binary_cross_entropy_with_logits(outputs, targets, weights, reduction="sum")
        return (weights * (outputs - targets) ** 2).sum()

    def run(self, tokens: list[np.ndarray], label: np.ndarray, weight: np.ndarray, training: np.ndarray, held_out: np.ndarray, seed: int) -> dict[str, Any]:
        """Train, keep the epoch with the lowest held-out loss in the model."""
        how = self._how
        trained = [p for p in (*self._model.parameters(), *self._linear.parameters()) if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=how.learning_rate, weight_decay=0.01)  # Devlin et al. 2019, appendix A.2
        steps = how.epochs * -(-len(training) // how.batch)
        warm_up = max(1, round(_WARM_UP * steps))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min((step + 1) / warm_up, (steps - step) / max(1, steps - warm_up)))
        generator = np.random.default_rng(seed % 2**63)
        losses, held_out_losses = [], []
        best: dict[str, torch.Tensor] = {}
        with Progress("fine-tuning the encoder", how.epochs * len(training), "sections") as bar:
            for _ in range(how.epochs):
                self._model.train()
                total = 0.0
                order = generator.permutation(training)
                for start in range(0, len(order), how.batch):
                    part = order[start : start + how.batch]
                    loss = self._loss([tokens[i] for i in part], label[part], weight[part])
                    optimizer.zero_grad()
                    (loss / weight[part].sum()).backward()
                    torch.nn.utils.clip_grad_norm_(trained, 1.0)  # BERT's
                    optimizer.step()
                    schedule.step()
                    total += loss.item()
                    bar.advance(len(part))
                losses.append(float(total / weight[training].sum()))
                held_out_losses.append(self._held_out(tokens, label, weight, held_out))
                if not np.isfinite([losses[-1], held_out_losses[-1]]).all():
                    what = f"the loss is {losses[-1]} in epoch {len(losses)}"
                    raise SnowError(f"annotate.fine_tune: {what}; lower annotate.fine_tune.learning_rate ({how.learning_rate:g})")
                if held_out_losses[-1] <= min(held_out_losses):
                    best = {name: value.detach().clone() for name, value in self._model.state_dict().items()}
        self._model.load_state_dict(best)
        return {"losses": losses, "held_out_losses": held_out_losses, "best_epoch": int(np.argmin(held_out_losses)) + 1}

    @torch.no_grad()
    def _held_out(self, tokens: list[np.ndarray], label: np.ndarray, weight: np.ndarray, held_out: np.ndarray) -> float:
        self._model.eval()
        parts = [held_out[start : start + self._how.batch] for start in range(0, len(held_out), self._how.batch)]
        return sum(self._loss([tokens[i] for i in part], label[part], weight[part]).item() for part in parts) / float(weight[held_out].sum())

    def save(self, folder: Path) -> None:
        """The encoder as a Hugging Face folder, with its tokenizer."""
        self._model.save_pretrained(folder, safe_serialization=True)
        AutoTokenizer.from_pretrained(self._folder, trust_remote_code=False).save_pretrained(folder)
