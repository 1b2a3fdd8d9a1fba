"""What a model is worth: bits per byte on held-out code, greedy pass@1 on HumanEval."""

from megatron_snow.evaluation.arrow import evaluate
from megatron_snow.evaluation.settings import EvaluateSettings

__all__ = ["EvaluateSettings", "evaluate"]
