"""A trainer as several processes, one to each accelerator of its machine: their shares, their start, what they agree on.

A job begins as one process. Where its machine has more accelerators, that one measures what it can by itself
(recipes.probe), and becomes `accelerate launch` of the very same command: data parallel, or sharded by FSDP 2 where the
model with its gradients and its optimizer does not fit on one. TRL has the settings of both (trl/accelerate_configs).
The first process alone writes into the job's folder. A step has the rows that it would have with one process; the last
of an epoch, where they run short, is filled up with its first ones.
"""

import os
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from signal import SIGTERM
from typing import Any, NoReturn

VISIBLE = os.environ.get("CUDA_VISIBLE_DEVICES")  # before prepare_machine hides what one process does not use


def launcher(processes: int, sharded: bool, half: bool) -> list[str]:
    """The options of `accelerate launch`, up to the module that it is to run."""
    found = find_spec("trl")
    assert found and found.origin
    kind = "fsdp2" if sharded else "multi_gpu"
    config = Path(found.origin).parent / "accelerate_configs" / f"{kind}.yaml"
    options = ["--config_file", str(config), "--num_processes", str(processes), "--main_process_port", "0"]
    return [*options, "--mixed_precision", "bf16" if half else "no", "--module"]


def start(processes: int, sharded: bool, device: str, half: bool, threads: int, patience: float) -> NoReturn:
    """Become the launcher of this process's own command.

    Args:
        threads: The CPU's, for each of the processes.
        patience: Seconds that they have to save after SIGTERM; whoever waits for the launcher may kill it then.
    """
    spec = sys.modules["__main__"].__spec__
    assert spec
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    environment |= {"OMP_NUM_THREADS": str(threads), "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(int(patience) - 1)}
    if device == "cpu":
        environment |= {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    elif VISIBLE is not None:
        environment["CUDA_VISIBLE_DEVICES"] = VISIBLE
    options = launcher(processes, sharded, half)
    sys.stdout.flush()
    sys.stderr.flush()
    command = [sys.executable, "-m", "recipes.processes", *options, spec.name, *sys.argv[1:]]
    os.execve(sys.executable, command, environment)


def world() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them this is, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_sharded() -> bool:
    """Whether this process has a part of the model only."""
    return os.environ.get("ACCELERATE_USE_FSDP") == "true"


def anywhere(flag: bool) -> bool:
    """Whether it is so in any of the processes. All of them wait here for each other."""
    if world() == 1:
        return flag
    import torch
    import torch.distributed as dist

    told = torch.tensor([int(flag)])
    dist.all_reduce(told, dist.ReduceOp.MAX, _group())
    return bool(told.item())


@cache
def _group() -> Any:
    """On the CPU, whatever the trainer uses: nobody waits for a GPU."""
    import torch.distributed as dist

    return dist.new_group(backend="gloo")


def main(arguments: list[str]) -> int:
    """`accelerate launch`; its exit code is that of the first process that failed, or of one that was told to stop."""
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        launch_command(launch_command_parser().parse_args(arguments))
    except SignalException:
        return 128 + SIGTERM
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        if code < 0:  # a signal has ended it: so it is said to who waits for us
            os.kill(os.getpid(), -code)
        return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
