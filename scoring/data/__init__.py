"""Examples: where they come from (``adapters``), how they are read, their labels, ids, images, copies and neighbours.

No torch. Nothing here knows a model.
"""
