"""Checkpoints: published whole, loadable under any layout, readable tensor by tensor without megatron.

``store.latest(training)`` finds the newest whole one, ``weights.read_weights(folder)`` streams its model weights,
``store.read_description(folder)`` says what model it is, ``engine.save`` and ``engine.load`` are the training side.
"""
