"""Training: the Recorder, its checkpoints and dynamics, a trainer, and callbacks for other tools."""

from scoring.training.recorder import Recorder

__all__ = ["Recorder"]
