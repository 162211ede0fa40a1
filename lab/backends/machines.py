"""This machine, and those that can be rented: each job goes where it was launched."""

from pathlib import Path

from lab.backend import RENTED, Backend, JobSpec, JobState, Machine
from lab.backends.hf_jobs import HFJobs, about_file
from lab.backends.local import LocalBackend


class Machines:
    """The six verbs (see lab.backend.Backend) of all of them."""

    def __init__(self, local: LocalBackend, rented: HFJobs):
        self._local = local
        self._rented = rented

    def machines(self) -> dict[str, Machine]:
        return self._rented.machines()

    def price(self, machine: str) -> float | None:
        return self._named(machine).price(machine)

    def waits(self, session: Path) -> float | None:
        return self._local.waits(session)

    def launch(self, spec: JobSpec) -> None:
        self._named(spec.machine).launch(spec)

    def state(self, folder: Path) -> JobState:
        return self._of(folder).state(folder)

    def cancel(self, folder: Path) -> None:
        self._of(folder).cancel(folder)

    def _named(self, machine: str) -> Backend:
        return self._rented if machine.startswith(RENTED) else self._local

    def _of(self, folder: Path) -> Backend:
        return self._rented if about_file(folder).exists() else self._local
