"""What a person sees while a run goes on: a bar with the time left on a terminal, a few lines elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Bar:
    """Progress of one run. Off a terminal it prints a line about every tenth of the way."""

    def __init__(self, console: Console, what: str) -> None:
        self.console, self.what = console, what
        self.last, self.started = 0.0, time.monotonic()
        self.bar: Progress | None = None
        if console.is_terminal:
            self.bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:3.0f}%"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=console,
            )
            self.task = self.bar.add_task(what, total=1.0, note="")
            self.bar.start()

    def show(self, done: float, note: str) -> None:
        """``done`` in [0, 1], and a few words."""
        if self.bar is not None:
            self.bar.update(self.task, completed=done, note=note)
        elif done - self.last >= 0.1 or (done >= 1.0 > self.last):
            self.last = done
            spent = time.monotonic() - self.started
            self.console.print(f"{self.what} {done:4.0%}  {spent:5.0f} s  {note}", highlight=False)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
