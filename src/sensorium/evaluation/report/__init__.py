"""The report: one self-contained HTML page about a run, to read on a screen, a phone or paper."""

from .write import Command, write_report

__all__ = ["Command", "write_report"]
