"""A long session as a real one would be: mostly progress points, then replies, tool calls, scores and findings."""

from itertools import count

from record import events as e
from tests.ui import story

POINTS = 24  # progress facts a job; with the 21 other facts of a turn, a little over half of the log
TRAIN = """import torch
from trl import SFTTrainer

LR = {lr}


def steps(rows):
    \"\"\"One pass over the rows.\"\"\"
    for row in rows:
        yield row["text"], LR * {turn}
"""
REPLY = """Idea {turn}: a learning rate of **{lr}**, since `sft-{before}` was still falling.

| run | loss |
|---|---|
| `sft-{before}` | 1.{turn:03d} |

```python
config = {{"lr": {lr}, "max_steps": 60}}  # turn {turn}
```

The gain should be near $\\Delta = \\frac{{1}}{{{turn}}}$, for \\$0 more.
"""


def _call(turn: int, part: str, name: str, arguments: dict, output: str, ok: bool = True) -> list[e.Event]:
    which = {"call": f"c{turn}{part}", "name": name}
    return [e.Started(**which, arguments=arguments), e.Finished(**which, ok=ok, output=output, seconds=1.5)]


def _shell(turn: int, part: str, code: int = 0) -> list[e.Event]:
    lines = "\\n".join(f"step {i} loss {2 / i:.3f}" for i in range(1, 60))
    output = f'{{"ended": "exit code {code}", "seconds": 1.5, "output": "{lines}"}}'
    return _call(turn, part, "shell", {"command": f"python train.py --try {turn}"}, output)


def turn_of(turn: int) -> list[e.Event]:
    """One idea: written, tried, trained, scored and judged. 21 facts and POINTS of progress."""
    job, lr = f"sft-{turn}", 0.001 * (1 + turn % 7)
    values = [2 / i + 0.01 * (i % 3) for i in range(1, POINTS + 1)]
    return [
        e.Replied(text=REPLY.format(turn=turn, before=turn - 1, lr=lr), thought=f"Thought {turn}.", model="m", tokens_in=900, tokens_out=80),
        *_call(turn, "w", "write_file", {"path": "train.py", "text": TRAIN.format(lr=lr, turn=turn)}, '{"file": "train.py"}'),
        *_call(turn, "r", "read_file", {"path": "train.py"}, TRAIN.format(lr=lr, turn=turn)),
        *_shell(turn, "a"), *_shell(turn, "b", code=int(turn % 5 == 0)),
        *_call(turn, "t", "train", {"recipe": "sft", "config": {"lr": lr}}, f'{{"job": "{job}"}}'),
        story.launched(job),
        *(e.Progressed(job=job, step=i, steps=POINTS, values={"loss": v, "grad_norm": 0.5}, eta_s=9.0) for i, v in enumerate(values, 1)),
        e.Ended(job=job, state="done", seconds=31.0, dollars=0.0),
        e.Replied(text=f"Run {turn} is done.", model="m"),
        story.score(job, "dev", 0.3 + (turn % 40) / 100),
        e.Found(rule="plateau", level="warn", what=f"loss of {job} is flat.", advice="Stop it.", job=job, evidence={"step": 20}),
        e.Promoted(model=job, verdict="discard", against="base", reason=f"Verdict {turn}.", idea=f"Idea {turn}", delta=0.01),
        e.Noted(topic="ideas", text=f"Note {turn}"),
        e.Said(text=f"message {turn}"),
        e.Replied(text=f"Answer {turn}, in short.", model="m"),
    ]  # fmt: skip


def session(name: str, facts: int) -> list[e.Event]:
    """The first `facts` facts of an endless session."""
    made: list[e.Event] = [story.opened(name)]
    for turn in count(1):
        if len(made) >= facts:
            return made[:facts]
        made += turn_of(turn)
    raise AssertionError("never ends")
