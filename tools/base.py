"""What a tool of ours is: a smolagents Tool whose schema is its typed `forward`, with a declared effect."""

from types import MethodType
from typing import Any, Literal

from smolagents import Tool as SmolTool
from smolagents._function_type_hints_utils import get_json_schema  # its public twin imports all of transformers

from lab.backend import Machine
from lab.lab import Lab

Effect = Literal["read", "write", "spend", "publish"]


class Tool(SmolTool):
    """One verb. Subclass it with a `name`, an `effect` and a `forward` whose types and docstring are the schema.

    A tool is thin: the lab does the work. It raises LabError, whose sentence the brain reads.
    """

    effect: Effect | None = None  # None is denied by the gate: every tool says what it does
    together = False  # whether its calls may run at the same time as other calls of this kind: it only looks
    repeatable = True  # whether the same call may run again after a crash; a verb that starts a job knows its call
    output_type = "string"
    skip_forward_signature_validation = True  # the schema is made from the signature: they cannot differ

    def __init_subclass__(cls, **kwargs: Any):
        schema = get_json_schema(MethodType(cls.forward, cls))["function"]  # bound: its schema has no self
        required = set(schema["parameters"].get("required", []))
        cls.description = schema["description"]
        cls.inputs = {
            name: entry if name in required else entry | {"nullable": True}
            for name, entry in schema["parameters"]["properties"].items()
        }
        super().__init_subclass__(**kwargs)

    def __init__(self, lab: Lab):
        self.lab = lab
        self.call = ""  # the id of the call being answered
        super().__init__()

    def price(self, arguments: dict[str, Any]) -> float | None:
        """Dollars that a call will cost at most; None when nobody can say. Free unless a tool knows better."""
        return 0.0

    def note(self, arguments: dict[str, Any]) -> str:
        """What a person who is asked should know of a call beside its price; "" for nothing."""
        return ""


def where(machine: Machine) -> str:
    """A rented machine, its price, and why it was chosen, for a person who is asked."""
    price = "an unknown price" if machine.price is None else f"${machine.price:g} an hour"
    many = f" with {machine.accelerators} GPUs" if machine.accelerators > 1 else ""
    return f"It would run on {machine.name}{many}, at {price}{f': {machine.why}' if machine.why else ''}."
