"""Layers that every architecture is made of."""
