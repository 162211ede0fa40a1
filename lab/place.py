"""Where a job runs: here, or on a rented machine. Pure."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from lab.backend import RENTED, Machine
from lab.errors import BadInput, LabError, Refused
from recipes.memory import USABLE
from record.words import duration

STARVED = "such a job has run out of memory on {}"


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
    starved: Collection[str] = (),
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
        starved: Where such a job has run out of memory: "auto" is a machine with more, whatever it is said to need.

    Raises:
        BadInput: There is no such machine.
        Refused: A rented machine, and no cap.
    """
    if asked == "local" or (asked == "auto" and dollars is None):
        return here
    if asked == "auto":
        need = needs(here)
        try:
            known = [here, *rented().values()] if starved else []
        except LabError:  # which is larger nobody can say now: here, with what the guards say of it
            known = []
        least = max((one.bytes for one in known if one.name in starved), default=0)
        fits_here = need <= USABLE * here.bytes
        late = fits_here and here.bytes > least
        why = wait.why if late else STARVED.format(", ".join(sorted(starved))) if fits_here else _short(need, here)
        if not why:
            return here
        most = (wait.takes / 3600 if wait.takes else hours) if late else 0.0
        fits = [
            one
            for one in rented().values()
            if one.device == "cuda"
            and one.price
            and one.bytes > least
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


def larger(
    than: str,
    needs: Callable[[Machine], int],
    here: Machine,
    rented: Callable[[], Mapping[str, Machine]],
    dollars: float | None,
    hours: float,
) -> tuple[Machine | None, str]:
    """The cheapest machine with more memory than the one where a job ran out of it, and what to do; no CPU after a GPU.

    Args:
        than: Its name.
        dollars: What the session may still spend; None without a cap.
        hours: How long the job takes, or may.
    """
    try:
        offers = rented() if dollars is not None or than != here.name else {}
    except LabError as error:
        return None, f"None can be rented: {error}"
    ran = {here.name: here, **offers}.get(than, here)
    more = [one for one in (here, *offers.values()) if one.bytes > ran.bytes and one.device in ("cuda", ran.device)]
    fits = [one for one in more if one.price is not None and needs(one) <= USABLE * one.bytes]
    best = min(fits, key=lambda one: one.price or 0.0, default=None)
    if best is None and dollars is None:
        return None, "Nothing is rented without a cap of dollars; ask the person to set one."
    if best is None:
        return None, f"None that can be rented has more than {ran.bytes / 2**30:.1f} GiB and would hold it."
    about = f"{best.bytes / 2**30:.1f} GiB for ${best.price:g} an hour"
    if not best.here and (best.price or 0.0) * hours > (dollars or 0.0):
        left = f"it may run for {duration(hours * 3600)}, and ${max(0.0, dollars or 0.0):.2f} are left"
        return None, f"The cheapest with more memory, {best.name} ({about}), is too dear: {left}."
    name = "local" if best.here else best.name.removeprefix(RENTED)
    return best, f'Train it again as it is with machine = "{name}": {about}.'


def _short(need: int, here: Machine) -> str:
    has = USABLE * here.bytes / 2**30
    return f"it needs about {need / 2**30:.1f} GiB, and a job may have {has:.1f} GiB here"
