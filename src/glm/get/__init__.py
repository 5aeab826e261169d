"""Look-ups: what the slots hold, in the form a person wants it."""

from __future__ import annotations

from ._sentences import sentences

__all__ = ["sentences"]
