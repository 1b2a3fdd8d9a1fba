"""The frozen encoder: sections of tokens in, one unit vector each out, bit for bit the same whatever they are batched with.

Matrix products may round differently for another batch shape, and attention takes another kernel where a batch has padding. So
there is a fixed set of shapes: full sections go alone in batches without a mask; shorter ones are padded up to the next of
eight lengths, always by one token at least, so that their batches always carry a mask. A batch that is not filled gets dummy
rows. Cost: a part batch a shape for each call of ``embed``; call it with thousands of sections. Of ordinary code padding is
under 0.1 %, for nearly every section is full. all-MiniLM-L6-v2 takes 25 ms of one AVX512-BF16 core for a section of 128 tokens.

On a CPU a batch is computed by one thread: how a product is cut over threads may change its rounding, and processes beside each
other (``workers``) use the cores better than threads that wait for each other at every small product. Sections that occur twice
in one call (licence notices, generated heads) are computed once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging as hf_logging

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.fixtures import resolve
from megatron_snow.quality.pooling import choose_pooling
from megatron_snow.quality.sections import from_slices, slices
from megatron_snow.quality.settings import AnnotateSettings

BATCH_TOKENS = {"cpu": 1_024, "cuda": 131_072}  # ours: a CPU batch should stay in its caches (8,192 took twice the time of 1,024); a GPU's should fill it
LENGTHS = 8  # padded lengths below a full section; ours: more waste less padding, fewer waste fewer part batches


@dataclass(frozen=True)
class Batch:
    """Sections computed together at one of the fixed shapes."""

    sections: list[list[int]]
    rows: int
    """Rows of the batch: ``len(sections)`` or more, the rest are dummies."""
    length: int
    full: bool
    """Whether every section is ``length`` long, so that no mask is needed."""


def choose_device(wanted: str) -> torch.device:
    """``auto``, ``cpu`` or ``cuda`` as a device. Raises SnowError where CUDA is wanted and absent."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise SnowError("annotate.device is cuda but torch sees no CUDA device; set it to auto or cpu")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def choose_precision(wanted: str, device: torch.device) -> torch.dtype:
    """``auto``: bfloat16 where the device has instructions for it."""
    native = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if wanted == "bfloat16" or (wanted == "auto" and native) else torch.float32


class SectionEncoder:
    """A pretrained BERT-style model with its tokenizer, frozen.

    ``folder``: where its weights are, if not where the settings say (a fine-tuned one).
    Raises SnowError where the model or its tokenizer cannot be loaded or does not fit the settings.
    """

    def __init__(self, settings: AnnotateSettings, folder: str | None = None) -> None:
        self.device = choose_device(settings.device)
        self.precision = choose_precision(settings.precision, self.device)
        self.section = settings.section
        self._batch_tokens = settings.batch_tokens or BATCH_TOKENS[self.device.type]
        folder = folder or resolve(settings.encoder)
        if Path(folder).is_absolute() and not Path(folder).is_dir():
            raise SnowError(
                f"annotate.encoder {settings.encoder} does not exist; give a folder with config.json, model.safetensors and tokenizer.json, or a hub name"
            )
        self.pooling = choose_pooling(settings.pooling, settings.encoder, resolve(settings.encoder))
        self._load(settings.encoder, folder)
        self.width = int(self._model.config.hidden_size)
        longest = min(int(self._model.config.max_position_embeddings), int(self._tokenizer.model_max_length))
        if settings.section > longest:
            raise SnowError(f"annotate.section is {settings.section} tokens, but {settings.encoder} takes {longest} at most; set it to that or less")

    def _load(self, name: str, folder: str) -> None:
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            self._backend = self._tokenizer.backend_tokenizer
            probe, bare = (self._tokenizer("a", add_special_tokens=special).input_ids for special in (True, False))
        except Exception as error:  # the library raises whatever its parsers do: OSError, ValueError, KeyError, TypeError, AttributeError
            raise SnowError(f"annotate.encoder {name}: no usable fast tokenizer there ({_first_line(error)}); the folder must hold tokenizer.json") from error
        if len(probe) < 2 or len(bare) != 1 or bare[0] == self._tokenizer.unk_token_id or self._tokenizer.pad_token_id is None:
            # transformers makes an empty tokenizer, all [UNK], of a folder that has none
            raise SnowError(
                f"annotate.encoder {name}: no BERT-style tokenizer there (knows no word 'a', adds no special tokens or cannot pad); look at its tokenizer.json"
            )
        self._backend.no_truncation()
        self._backend.no_padding()
        at = probe.index(bare[0])
        self._before, self._after = probe[:at], probe[at + 1 :]
        try:
            model, report = _load_quietly(folder, self.precision)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise SnowError(
                f"annotate.encoder {name} cannot be loaded ({_first_line(error)}); give a hub name or a folder with config.json and model.safetensors"
            ) from error
        if missing := sorted(key for key in report["missing_keys"] if not key.startswith("pooler.")):  # BERT's pooler is not used
            raise SnowError(
                f"annotate.encoder {name} lacks the weights {', '.join(missing[:3])} ({len(missing)} in all): model.safetensors does not fit config.json"
            )
        if len(self._tokenizer) > model.config.vocab_size:
            raise SnowError(
                f"annotate.encoder {name}: its tokenizer has {len(self._tokenizer)} tokens, the model {model.config.vocab_size}; they do not belong together"
            )
        self._model = model.eval().requires_grad_(False).to(self.device)

    @property
    def pad(self) -> int:
        """Id of the padding token."""
        return int(self._tokenizer.pad_token_id)

    def pool(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """One vector a row, [rows, width], from the last hidden states [rows, length, width]; ``mask`` [rows, length] is 0 at padding."""
        if self.pooling == "cls":
            return hidden[:, 0]
        weight = mask.unsqueeze(-1).float()
        return (hidden * weight).sum(1) / weight.sum(1)

    @property
    def kind(self) -> str:
        """What its vectors depend on beside the settings: device and precision."""
        return f"{self.device.type}-{str(self.precision).removeprefix('torch.')}-{self.pooling}"

    @property
    def window(self) -> int:
        """Files to embed at a time: about 256 batches of full sections, so that part batches cost a few per cent (ours)."""
        return max(64, 256 * self._batch_tokens // (3 * self.section))

    @property
    def _inner(self) -> int:
        return self.section - len(self._before) - len(self._after)

    def sections(self, texts: list[str]) -> list[list[list[int]]]:
        """For each text its one to three sections, token ids with special tokens, each at most ``section`` long."""
        pieces = [slices(text, self._inner) for text in texts]
        flat = iter(self._backend.encode_batch_fast([piece for parts in pieces for piece in parts], add_special_tokens=False))
        result = []
        for parts in pieces:
            found = from_slices([next(flat).ids for _ in parts], self._inner)
            result.append([self._before + tokens + self._after for tokens in found])
        return result

    def padded(self, length: int) -> tuple[int, bool]:
        """The length a section of ``length`` tokens is computed at, and whether it fills it."""
        if length == self.section:
            return length, True
        step = self.section // LENGTHS
        return (length // step + 1) * step, False

    def embed(
        self,
        sections: list[list[int]],
        progress: Callable[[int], None] = lambda _: None,
        compute: Callable[[list[Batch]], Iterable[np.ndarray]] | None = None,
    ) -> np.ndarray:
        """Unit vectors, float32 [len(sections), width]; ``progress`` is told the number of sections of each batch done.

        ``compute`` gives the vectors of each batch, in order, by way of ``forward``; None: this process, one after the other.
        Raises SnowError where the model returns anything but finite numbers.
        """
        copies = _copies(sections)
        result = np.empty((len(sections), self.width), dtype=np.float32)
        cut = list(self._cut([sections[members[0]] for members in copies]))
        batches = [batch for _, batch in cut]
        for (positions, _), found in zip(cut, compute(batches) if compute else map(self.forward, batches), strict=True):
            for position, vector in zip(positions, found, strict=True):
                result[copies[position]] = vector
            progress(sum(len(copies[position]) for position in positions))
        if not np.isfinite(result).all():
            raise SnowError(f"the encoder returned numbers that are not finite in {self.precision}; set annotate.precision to float32")
        return result

    def _cut(self, sections: list[list[int]]) -> Iterator[tuple[list[int], Batch]]:
        """Batches of the sections, with their positions in the list, shapes in a fixed order."""
        groups: dict[tuple[int, bool], list[int]] = defaultdict(list)
        for position, tokens in enumerate(sections):
            groups[self.padded(len(tokens))].append(position)
        for (length, full), members in sorted(groups.items()):
            rows = max(1, self._batch_tokens // length)
            for start in range(0, len(members), rows):
                batch = members[start : start + rows]
                yield batch, Batch([sections[position] for position in batch], rows, length, full)

    def computed(self, sections: list[list[int]]) -> tuple[int, int, int]:
        """What ``embed`` computes of these: (sections that are distinct, their tokens, tokens with padding and dummy rows)."""
        distinct = [sections[members[0]] for members in _copies(sections)]
        return len(distinct), sum(map(len, distinct)), sum(batch.rows * batch.length for _, batch in self._cut(distinct))

    def forward(self, batch: Batch) -> np.ndarray:
        """Vectors of the sections of one batch, float32 [sections, width]; on a CPU by this thread alone."""
        with one_thread(self.device):
            return self._forward(batch)

    @torch.inference_mode()
    def _forward(self, batch: Batch) -> np.ndarray:
        sections, rows, length = batch.sections, batch.rows, batch.length
        ids = torch.full((rows, length), self._tokenizer.pad_token_id, dtype=torch.long)
        mask = torch.zeros((rows, length), dtype=torch.long)
        mask[:, 0] = 1  # dummy rows attend to one token: nothing at all would be 0/0
        for row, tokens in enumerate(sections):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        ids, mask = ids.to(self.device), mask.to(self.device)
        hidden = self._model(input_ids=ids, attention_mask=torch.ones_like(mask) if batch.full else mask).last_hidden_state.float()
        return torch.nn.functional.normalize(self.pool(hidden, mask), dim=-1)[: len(sections)].cpu().numpy()


def _copies(sections: list[list[int]]) -> list[list[int]]:
    """Indices of the sections, equal ones together, by first occurrence."""
    groups: dict[bytes, list[int]] = {}
    for index, tokens in enumerate(sections):
        groups.setdefault(np.array(tokens, dtype=np.int32).tobytes(), []).append(index)
    return list(groups.values())


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """On a CPU: torch's products by the calling thread alone; the number it had comes back afterwards."""
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _load_quietly(folder: str, precision: torch.dtype) -> tuple[Any, dict[str, Any]]:
    """The model and what its loading missed."""
    with quiet_loading():
        return AutoModel.from_pretrained(folder, dtype=precision, use_safetensors=True, trust_remote_code=False, output_loading_info=True)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Without the library's progress bar and report of loading: what matters of it is checked."""
    verbosity, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
