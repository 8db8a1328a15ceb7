"""``python -m sensorium``, which ``torchrun`` can start as well."""

from .cli import main

main()
