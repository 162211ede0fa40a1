"""Allow, ask or deny a call: by its tool's declared effect, its price, and what is spent. Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from record.views import Views
from tools.base import Effect


@dataclass(frozen=True)
class Verdict:
    """What may happen to a call, and why, for the person and the brain to read."""

    kind: Literal["allow", "ask", "deny"]
    reason: str = ""


def judge(effect: Effect | None, price: float | None, views: Views, now: datetime) -> Verdict:
    """The verdict on one call. `price` is in dollars at most; None is unknown. What running jobs may still cost is spent."""
    if effect is None:
        return Verdict("deny", "The tool does not declare what it does; give it an effect.")
    if effect == "read":
        return Verdict("allow")
    if effect == "write" and price == 0:
        always = views.approval == "always"
        return Verdict("ask", "The session asks before every change.") if always else Verdict("allow")
    if effect == "publish":
        return Verdict("ask", "It makes something visible to others.")
    cap, spent = views.budget.dollars, views.dollars(now) + views.committed_dollars(now)
    if cap is not None and price is not None and spent + price > cap:
        return Verdict("deny", f"It costs up to ${price:.2f}, and ${cap - spent:.2f} of ${cap:.2f} are left.")
    if cap is not None and price is None:
        return Verdict("ask", f"Its price is unknown, and the session has a cap of ${cap:.2f}.")
    if views.approval != "auto":
        return Verdict("ask", "The session asks before it spends." if price else "The session asks before it trains.")
    return Verdict("allow")
