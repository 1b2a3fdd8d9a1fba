"""Layouts, process groups and the one device seam: nothing outside this package touches megatron's process-group globals."""
