"""Samples as megatron-core's GPTModel takes them: the dictionary that its own ``GPTDataset`` gives, ready for a DataLoader.

    loader = DataLoader(GPTSamples(data, end_of_document=0), batch_size=4, num_workers=2)

``data`` is a ``PhaseDataset`` or ``MegatronSamples``. Where attention is to stop at documents, ``document_lengths`` adds
their boundaries as cumulative lengths (what flash attention and megatron-core's ``PackedSeqParams`` take).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from megatron_snow.blend.sample import Sample


class Samples(Protocol):
    """What samples come from."""

    def __len__(self) -> int: ...
    def sample(self, i: int) -> Sample: ...


class GPTSamples(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """``data[i]``: tokens, labels, position_ids int64 [sequence_length], loss_mask float32 [sequence_length]."""

    def __init__(
        self,
        samples: Samples,
        end_of_document: int | None = None,
        reset_position_ids: bool = False,
        eod_mask_loss: bool = False,
        document_lengths: bool = False,
    ) -> None:
        """The two flags mean what megatron-core's of these names do.

        Args:
            samples: what is wrapped.
            end_of_document: the token that ends documents; needed for ``eod_mask_loss``.
            reset_position_ids: positions count from 0 again where a document's piece begins.
            eod_mask_loss: no loss where the input is the end of a document: what follows has nothing to do with it.
            document_lengths: adds ``cu_seqlens``, int32 [pieces + 1], and ``max_seqlen``, int32 []. Their number differs from
                sample to sample, so that batches of more than one need a collate function of the caller's.
        """
        if eod_mask_loss and end_of_document is None:
            raise ValueError("eod_mask_loss needs end_of_document, the token that ends documents")
        self.samples, self.end_of_document = samples, end_of_document
        self.reset_position_ids, self.eod_mask_loss, self.document_lengths = reset_position_ids, eod_mask_loss, document_lengths

        self._positions: torch.Tensor | None = None
        self._ones = torch.ones(0)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        """Views that share memory, as megatron-core's do: collate (which copies) before changing any. Raises IndexError outside 0 .. len - 1."""
        sample = self.samples.sample(i)
        text = torch.from_numpy(sample.tokens)
        tokens, labels = text[:-1], text[1:]
        if self._positions is None:
            self._positions, self._ones = torch.arange(len(tokens)), torch.ones(len(tokens))
        positions, loss_mask = self._positions, self._ones.clone()
        if self.eod_mask_loss:
            loss_mask[tokens == self.end_of_document] = 0.0
        if self.reset_position_ids:
            ends = sample.cumulative_lengths.astype(np.int64)
            positions = positions - torch.from_numpy(np.repeat(ends[:-1], np.diff(ends)))
        item = {"tokens": tokens, "labels": labels, "loss_mask": loss_mask, "position_ids": positions}
        if self.document_lengths:
            lengths = torch.from_numpy(sample.cumulative_lengths)
            item |= {"cu_seqlens": lengths, "max_seqlen": lengths.diff().max()}
        return item
