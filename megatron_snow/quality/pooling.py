"""How an encoder's outputs become one vector, by what the encoder itself says.

sentence-transformers keeps that beside a model, as ``1_Pooling/config.json`` with one ``pooling_mode_...: true``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, cast

from megatron_snow.artifacts.errors import SnowError

Pooling = Literal["cls", "mean"]
_FILE = "1_Pooling/config.json"
_MODES = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}


def choose_pooling(wanted: Literal["auto", "cls", "mean"], name: str, folder: str) -> Pooling:
    """``wanted``, or for ``auto`` what the encoder ``name`` in ``folder`` (or on the hub) states; ``cls`` where it states nothing.

    Raises SnowError where it states a pooling that is neither ``cls`` nor ``mean``, or its file is damaged.
    """
    if wanted != "auto":
        return wanted
    path = Path(folder) / _FILE if Path(folder).is_dir() else _from_hub(folder)
    if path is None or not path.is_file():
        return "cls"  # arctic-embed's, the paper's encoder (section 2.3)
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
        on = [key for key, value in stated.items() if key.startswith("pooling_mode_") and value is True]
    except (OSError, ValueError, AttributeError) as error:
        raise SnowError(f"annotate.encoder {name}: {_FILE} cannot be read ({error}); fetch the encoder again or set annotate.pooling to cls or mean") from error
    if len(on) != 1 or on[0] not in _MODES:
        raise SnowError(f"annotate.encoder {name} pools by {' and '.join(on) or 'nothing'} ({_FILE}); here is cls or mean: set annotate.pooling to one of them")
    return cast(Pooling, _MODES[on[0]])


def _from_hub(name: str) -> Path | None:
    """The file of a hub model, or None where it has none or no hub is in reach (loading the model itself then says so)."""
    from transformers.utils.hub import cached_file

    try:
        found = cached_file(name, _FILE, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False)
    except (OSError, ValueError):
        return None
    return Path(found) if found else None
