"""What happens while a model learns: the Recorder, its checkpoints and dynamics, a trainer, callbacks of other
tools."""

from scoring.training.recorder import Recorder

__all__ = ["Recorder"]
