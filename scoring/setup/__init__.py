"""Setting an audit up: what lies at the paths that a user names, written as a finished ``audit.toml``.

``data_found`` looks at data, ``checkpoint_found`` at checkpoints (one module per tool that writes them: ``lightning``,
``huggingface``, ``timm``, …), ``architectures`` names the models that a state dict fits; ``written_config`` writes what
they found, ``first_look`` runs a few examples through it. ``given_data`` takes datasets as a notebook hands them over,
``in_memory_audit`` writes the audit of those. Nothing here is guessed in silence: each line carries its
reason, and what could not be decided is a question, a line that is commented out.
"""
