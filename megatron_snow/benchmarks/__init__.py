"""Benchmark problems: what evaluation runs and decontamination looks for. Loaders only; scoring is ``evaluation``."""
