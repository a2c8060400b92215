"""Examples: where they come from (``adapters``), how they are read, their labels, ids, pictures, copies and neighbours.

No torch. Nothing here knows a model.
"""
