"""megatron_snow: raw source code in, a trained and evaluated Hugging Face code model out.

An open implementation of Arctic-SnowCoder (arXiv 2409.02326). The road, in data order, is in
``megatron_snow.recipe.road``; each arrow of it lives in the package of its name.
"""

__version__ = "0.1.0"
