"""The machines of Hugging Face Jobs: what they have, and what they cost."""

import time
from typing import Any

from lab.backend import RENTED, Machine

KEPT = 3600.0  # seconds that a price list is believed
UNITS = {"minute": 60.0, "hour": 1.0, "second": 3600.0}  # of a price, to the hour
SIZES = {
    "GB": 2**30,
    "MB": 2**20,
    "TB": 2**40,
}  # what a machine calls 16 GB is 16 GiB, less a little: preflight leaves a tenth


class PriceList:
    """Every flavour with GPUs or without."""

    def __init__(self) -> None:
        self._machines: dict[str, Machine] = {}
        self._until = 0.0

    def machines(self, api: Any) -> dict[str, Machine]:
        """By name, as `api.list_jobs_hardware` tells them. Raises what the Hub's client raises."""
        if time.monotonic() > self._until:
            told = [_machine(one) for one in api.list_jobs_hardware()]
            self._machines = {machine.name: machine for machine in told if machine}
            self._until = time.monotonic() + KEPT
        return self._machines


def _machine(told: Any) -> Machine | None:
    gpu, unit = told.accelerator, UNITS.get(told.unit_label)
    if gpu and gpu.type != "gpu":
        return None
    many = int(gpu.quantity) if gpu else 1
    size = _bytes(gpu.vram) // many if gpu else _bytes(told.ram)  # vram is of all of them together [H]
    price = None if unit is None else round(told.unit_cost_usd * unit, 4)
    half = bool(gpu) and "T4" not in told.name.upper()  # of a processor nobody says it; other GPUs there are newer
    return Machine(RENTED + told.name, "cuda" if gpu else "cpu", size, price, many, half=half) if size else None


def _bytes(text: str) -> int:
    """ "16 GB" as bytes; 0 where it says something else."""
    number, _, unit = text.partition(" ")
    return int(float(number) * SIZES[unit]) if unit in SIZES and number.replace(".", "").isdigit() else 0
