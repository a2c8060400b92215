"""Applies a label patch to a dataset in place, and reverts it: ``apply_to`` and ``undo``.

A patch names examples by id and fingerprint. The rows of a manifest, or the files of an image folder, are found by id
(the user's own, or the end of the id that is their relative path), else by a fingerprint that only one of them has;
then ``scoring.corrections.label_patch.apply_patch`` decides example by example. What is refused stays as it is and is
reported.

Inputs → outputs: a patch file and a manifest or folder → the corrected manifest or folder in its place, a report, and
a journal beside it from which ``undo`` restores what was there. Cost: one read of the files that the patch names.
Known limits: local data; one undo per application, the last one first.
"""

from scoring.corrections.apply.undo_record import apply_to, undo

__all__ = ["apply_to", "undo"]
