"""Where a job runs: here, or on a rented machine. Pure."""

from collections.abc import Callable, Mapping

from lab.backend import RENTED, Machine
from lab.errors import BadInput, Refused
from lab.preflight import USABLE
from recipes.memory import Device


def choose(
    asked: str, needs: Callable[[Device], int], here: Machine, rented: Callable[[], Mapping[str, Machine]], capped: bool
) -> Machine:
    """The machine of a job.

    Args:
        asked: "local", a flavour such as "t4-small", or "auto": here, unless the job needs more memory than there is and
            the session has dollars to spend; then the cheapest GPU on which it fits.
        needs: Bytes of memory at its peak on such a device; 0 where nobody knows.
        rented: What can be rented, by its whole name. Raises LabError where it cannot be asked.
        capped: Whether the session has a cap of dollars. Without one nothing is rented.

    Raises:
        BadInput: There is no such machine.
        Refused: A rented machine, and no cap.
    """
    if asked == "local" or (asked == "auto" and (not capped or needs(here.device) <= USABLE * here.bytes)):
        return here
    if asked == "auto":
        least = needs("cuda") / USABLE
        fits = [one for one in rented().values() if one.device == "cuda" and least <= one.bytes and one.price]
        return min(fits, key=lambda one: one.price or 0.0, default=here)
    offers = rented()
    machine = offers.get(RENTED + asked.removeprefix(RENTED))
    if machine is None:
        names = ", ".join(name.removeprefix(RENTED) for name in offers)
        raise BadInput(f"There is no machine {asked!r}; use auto, local, or one of {names or 'none: set HF_TOKEN'}.")
    if not capped:
        raise Refused(f"{machine.name} costs money, and the session has no cap of dollars; ask the person to set one.")
    return machine
