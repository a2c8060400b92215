"""Scores beside each other, as /compare shows them.

A door with one room per question: ``frames`` (cached reads of many scores at once), ``charts`` (figures),
``pairs`` (do two scores agree, and on which examples not), ``steadiness`` (the same score in several runs)
and ``known`` (curves where the truth is known). The numbers are those of ``scoring.evaluation``.
"""
