"""Decoding over caches."""
