"""The commands of ``hardlook``, one file each: ``add(commands, given)`` declares the arguments, a function does the
work.

``scoring.cli`` finds them by scanning, in sorted order. Modules import lightly: what a command needs is imported in it.
"""
