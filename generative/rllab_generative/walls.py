"""MOVED: import from rllab.parts.walls instead (the hub's `rllab sample` draws walls too); this file will be deleted."""

from rllab.parts.walls import as_bytes, interleave, mosaic, wall

__all__ = ["as_bytes", "interleave", "mosaic", "wall"]
