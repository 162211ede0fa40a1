"""Where a job runs: here, or on a rented machine. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from lab.backend import RENTED, Machine
from lab.errors import BadInput, Refused
from recipes.memory import USABLE
from record.words import duration


@dataclass(frozen=True)
class Wait:
    """What a job has before it on the machine here, in seconds; None where nobody knows, or nothing ends the session."""

    queue: float | None = 0.0  # until the jobs before it are done
    takes: float | None = None  # its own run time
    left: float | None = None  # of the session

    @property
    def why(self) -> str:
        """Why it would come too late here; "" where it would not, or nobody knows."""
        if not self.queue or self.left is None or self.queue + (self.takes or 0.0) <= self.left:
            return ""
        takes = f" and then takes about {duration(self.takes)}" if self.takes else ""
        left = duration(max(0.0, self.left))
        return f"it would wait about {duration(self.queue)} for the machine here{takes}, and {left} of the session are left"


def choose(
    asked: str,
    needs: Callable[[Machine], int],
    here: Machine,
    rented: Callable[[], Mapping[str, Machine]],
    dollars: float | None,
    hours: float = 0.0,
    wait: Wait = Wait(),
) -> Machine:
    """The machine of a job.

    Args:
        asked: "local", a flavour such as "t4-small", or "auto": here, unless the session has dollars to spend and the
            job needs more memory than there is, or would come too late. Then the cheapest with GPUs on which it fits;
            for coming too late, one whose hours the dollars pay. `why` says which it was.
        needs: Bytes of memory at its peak on each accelerator of such a machine; 0 where nobody knows.
        rented: What can be rented, by its whole name. Raises LabError where it cannot be asked.
        dollars: What the session may still spend; None without a cap, and then nothing is rented.
        hours: The longest that the job may run.

    Raises:
        BadInput: There is no such machine.
        Refused: A rented machine, and no cap.
    """
    if asked == "local" or (asked == "auto" and dollars is None):
        return here
    if asked == "auto":
        need = needs(here)
        late = need <= USABLE * here.bytes
        why = wait.why if late else _short(need, here)
        if not why:
            return here
        most = (wait.takes / 3600 if wait.takes else hours) if late else 0.0
        fits = [
            one
            for one in rented().values()
            if one.device == "cuda"
            and one.price
            and one.price * most <= (dollars or 0.0)
            and needs(one) <= USABLE * one.bytes
        ]
        return replace(min(fits, key=lambda one: one.price or 0.0), why=why) if fits else here
    offers = rented()
    machine = offers.get(RENTED + asked.removeprefix(RENTED))
    if machine is None:
        names = ", ".join(name.removeprefix(RENTED) for name in offers)
        raise BadInput(f"There is no machine {asked!r}; use auto, local, or one of {names or 'none: set HF_TOKEN'}.")
    if dollars is None:
        raise Refused(f"{machine.name} costs money, and the session has no cap of dollars; ask the person to set one.")
    return machine


def _short(need: int, here: Machine) -> str:
    has = USABLE * here.bytes / 2**30
    return f"it needs about {need / 2**30:.1f} GiB, and a job may have {has:.1f} GiB here"
