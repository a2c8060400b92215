"""Gradients of outputs with respect to inputs and of losses with respect to parameters; every fast method is verified.

``input_gradients`` is the plain function; ``Slot`` passes many checkpoints through one model.
"""

from scoring.gradients.checkpoint_slot import Slot
from scoring.gradients.execution_paths import device_of, has_bfloat16
from scoring.gradients.input_gradient import channel_mean, input_gradients

__all__ = ["Slot", "channel_mean", "device_of", "has_bfloat16", "input_gradients"]
