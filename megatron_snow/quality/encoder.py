"""The frozen encoder: sections of tokens in, one unit vector each out, bit for bit the same whatever they are batched with.

Matrix products may round differently for another batch shape, so sections are computed in packs of a fixed number of tokens
(``packs``). The model itself is asked, when it is loaded, whether it gives a section in a pack what it gives it alone; of one that does
not (no attention through transformers' interface, other positions) each section is computed alone, at its own length.

On a CPU a pack is computed by one thread: how a product is cut over threads may change its rounding, and processes beside each
other (``workers``) use the cores better than threads that wait for each other at every small product. Sections that occur twice
in one call (licence notices, generated heads) are computed once.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging as hf_logging

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.fixtures import resolve
from megatron_snow.quality.packs import ATTENTION, Pack, Plan, capacity, plan, tensors
from megatron_snow.quality.pooling import choose_pooling
from megatron_snow.quality.sections import from_slices, slices
from megatron_snow.quality.settings import AnnotateSettings

BATCH_TOKENS = {"cpu": 1_024, "cuda": 32_768}
"""Tokens of a pack. Ours: on a CPU it should stay in the caches (8,192 took twice the time of 1,024); an H100 computed padded batches of
32,768 tokens at 0.95M tokens/s and of 131,072 at 1.02M, whose half empty last pack wastes more (LOG.md 2026-11-26)."""
_AHEAD = 2  # packs that a GPU has waiting while results of an earlier one are read (ours: one hides the host's work, one its hitches)
_AGREES = {torch.float32: 1e-3, torch.bfloat16: 0.05}  # relative difference of a section's outputs in a pack and alone (ours: rounding gives 1e-6 and 0.01)


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
        self._take_packs()

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
        """Files to embed at a time: some 256 packs, so that a half empty last one costs little (ours)."""
        return max(64, 256 * self._batch_tokens // (3 * self.section))

    @property
    def _inner(self) -> int:
        return self.section - len(self._before) - len(self._after)

    def sections(self, texts: list[str]) -> list[list[np.ndarray]]:
        """For each text its one to three sections, token ids (int32) with special tokens, each at most ``section`` long."""
        pieces = [slices(text, self._inner) for text in texts]
        flat = iter(self._backend.encode_batch_fast([piece for parts in pieces for piece in parts], add_special_tokens=False))
        result = []
        for parts in pieces:
            found = from_slices([next(flat).ids for _ in parts], self._inner)
            result.append([np.array(self._before + tokens + self._after, dtype=np.int32) for tokens in found])
        return result

    def plan(self, sections: list[np.ndarray]) -> Plan:
        """The sections' packs."""
        return plan(sections, self.pack_tokens)

    def embed(
        self,
        sections: list[np.ndarray] | Plan,
        progress: Callable[[int], None] = lambda _: None,
        compute: Callable[[list[Pack]], Iterable[np.ndarray]] | None = None,
    ) -> np.ndarray:
        """Unit vectors, float32 [sections, width]; ``progress`` is told the number of sections of each pack done.

        ``compute`` gives the vectors of each pack, in order, by way of ``forward``; None: this process, one after the other.
        Raises SnowError where the model returns anything but finite numbers.
        """
        cut = sections if isinstance(sections, Plan) else self.plan(sections)
        result = np.empty((cut.sections, self.width), dtype=np.float32)
        for members, found in zip(cut.members, (compute or self.in_turn)(cut.packs), strict=True):
            for member, vector in zip(members, found, strict=True):
                result[cut.copies[member]] = vector
            progress(sum(len(cut.copies[member]) for member in members))
        if not np.isfinite(result).all():
            raise SnowError(f"the encoder returned numbers that are not finite in {self.precision}; set annotate.precision to float32")
        return result

    def in_turn(self, packs: Iterable[Pack]) -> Iterator[np.ndarray]:
        """Vectors of each pack, in order; a GPU is given the next ones before its results of one are waited for."""
        waiting: deque[Callable[[], np.ndarray]] = deque()
        for pack in packs:
            waiting.append(self._started(pack))
            if len(waiting) > (_AHEAD if self.device.type == "cuda" else 0):
                yield waiting.popleft()()
        while waiting:
            yield waiting.popleft()()

    def forward(self, pack: Pack) -> np.ndarray:
        """Vectors of a pack's sections, float32 [sections, width]; on a CPU by this thread alone."""
        return self._started(pack)()

    def _started(self, pack: Pack) -> Callable[[], np.ndarray]:
        """Compute a pack; on a GPU that has only begun when this returns. The result waits for its vectors, float32 [sections, width]."""
        with one_thread(self.device), torch.inference_mode():
            vectors = torch.nn.functional.normalize(self._pooled(self._hidden(pack), pack), dim=-1)
            if self.device.type != "cuda":
                return vectors.numpy
            copied, done = vectors.to("cpu", non_blocking=True), torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record()

        def wait() -> np.ndarray:
            done.synchronize()
            return copied.numpy()

        return wait

    def _hidden(self, pack: Pack) -> torch.Tensor:
        """The last hidden states, float32 [tokens, width]."""
        ids, positions, lengths = tensors(pack, self.section, self.pad, self._first_position)
        if self.pack_tokens is None:
            return cast(torch.Tensor, self._model(input_ids=self._moved(ids)).last_hidden_state[0].float())
        ends = None
        if self.device.type == "cuda" and self.precision != torch.float32:  # the kernel takes half precision only
            ends = self._moved(torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32))
        known = {"position_ids": self._moved(positions), "section_lengths": lengths, "section_ends": ends}
        return cast(torch.Tensor, self._model(input_ids=self._moved(ids), **known).last_hidden_state[0].float())

    def _pooled(self, hidden: torch.Tensor, pack: Pack) -> torch.Tensor:
        """One vector a section, [sections, width]."""
        ends = [0, *itertools.accumulate(map(len, pack.sections))]
        if self.pooling == "cls":
            return hidden[ends[:-1]]
        return torch.stack([hidden[first:end].mean(0) for first, end in itertools.pairwise(ends)])

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor

    def _take_packs(self) -> None:
        """Choose packs where the model gives a section in one what it gives it alone, and the same bits beside other neighbours."""
        self.pack_tokens, self._first_position = None, 0
        if not getattr(self._model, "_supports_attention_backend", False):
            return
        ids = np.arange(len(self._tokenizer), dtype=np.int32)[-60:]
        one, other, another = ids[:11], ids[11:24], ids[24:50]
        with one_thread(self.device), torch.inference_mode():
            alone = self._hidden(Pack([one], len(one)))
            self._model.set_attn_implementation(ATTENTION)
            for first in (0, self.pad + 1):  # BERT's positions begin at 0, RoBERTa's behind its padding's
                self.pack_tokens, self._first_position = 64, first
                try:
                    found = [self._hidden(Pack(sections, 64))[start:][: len(one)] for sections, start in (([one, other], 0), ([another, one], len(another)))]
                except (TypeError, ValueError, IndexError, RuntimeError, ImportError):  # does not know these arguments, or has not so many positions
                    continue
                if torch.equal(found[0], found[1]) and torch.dist(found[0], alone) <= _AGREES[self.precision] * alone.norm():
                    self.pack_tokens = capacity(self._batch_tokens, self.section)
                    return
        self.pack_tokens, self._first_position = None, 0
        self._model.set_attn_implementation("sdpa" if getattr(self._model, "_supports_sdpa", False) else "eager")


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
