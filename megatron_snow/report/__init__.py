"""One HTML page about a road: what every arrow counted, what the model learned, and the files to judge it by."""

from megatron_snow.report.page import build

__all__ = ["build"]
