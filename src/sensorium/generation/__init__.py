"""Writing text with any network that gives a ``State``: settings, choosing, beams, text as it comes."""
