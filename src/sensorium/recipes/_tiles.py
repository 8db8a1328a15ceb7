"""What pages of models that read pictures in tiles share."""

from __future__ import annotations

from ..core.spec import Spec


def last_step(prepared: Spec) -> Spec:
    """The last step of the geometry of a public checkpoint's pictures or clips, that which makes tiles."""
    found: Spec = prepared.geometry[-1] if isinstance(prepared.geometry, list) else prepared.geometry
    return found
