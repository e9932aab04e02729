"""A small training engine with the part of Dassl's API that CoOp-family code uses.

It knows datasets, transforms, optimisers, schedules, checkpoints, evaluation and the training loop.
It knows nothing of CLIP or prompts. Trainers and datasets plug in through registries.
"""

__version__ = "0.6.3+mopd"
