"""A kept adapter inside its base, as a whole model: `python -m recipes.merge FOLDER SETTINGS`, which is a Merge as JSON.

FOLDER/adapter is the best checkpoint of a job that was stopped; FOLDER/model is made of it, in one move. Where that
cannot be, why not is the last line that it prints. The base has the precision that the job's model would have had. Under
QLoRA it has its own weights, as recipes.weights.saved has: unfolding those of four bits, which a job that ends by itself
does, takes bitsandbytes, and the machine of a rented job may have been the only one that has it.
"""

import shutil
import signal
import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from recipes.catalogue import RECIPES
from recipes.job import ConfigError
from recipes.training import load_model, load_tokenizer, prepare_machine
from recipes.weights import HEADS, save_whole, shape_in

SMALL = ["*.json", "*.txt", "*.model", "*.jinja"]
OTHERS = ["original/*", "*.gguf", "*.onnx", "*.h5", "*.msgpack", "*.pth"]  # the same weights for other libraries
LONGEST = 1800  # seconds; whoever waits for it may have died, so it ends itself [H]
SPARE = 1.2  # times the weights: what merging a layer and writing a file hold beside them [H]


class Merge(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: str  # of the job: it says which head the model has
    model: str  # the base: a folder or a Hub id
    revision: str = ""  # of a Hub id, where the job had one
    half: bool  # bfloat16, as a GPU's job leaves it
    memory: int  # bytes that are free for it


def main(folder: Path, asked: Merge) -> None:
    """Make FOLDER/model. Raises ConfigError where memory or disk is short, and what the libraries raise."""
    prepare_machine("cpu")  # the next job has the GPU by now
    base, kind = whole_base(asked, folder), RECIPES[asked.recipe]
    check_room(base, folder, asked)
    from peft import PeftModel
    from transformers.trainer_utils import align_special_tokens

    tokenizer = load_tokenizer(str(folder / "adapter"))
    model = load_model(base, asked.half, HEADS[kind.TASK], **kind.HEAD)
    merged = PeftModel.from_pretrained(model, str(folder / "adapter")).merge_and_unload()
    align_special_tokens(merged, tokenizer)  # as trainers do before they begin (transformers 5.23)
    try:
        save_whole(merged, tokenizer, folder / "model")
    finally:
        shutil.rmtree(folder / ".model.tmp", ignore_errors=True)  # half a model would keep a full disk full


def check_room(base: str, folder: Path, asked: Merge, copies: int = 1) -> None:
    """Raises ConfigError where memory, or the disk for so many copies of it, is short of the merged model."""
    if shape := shape_in(base):
        needs = int(SPARE * shape.parameters * (2 if asked.half else 4))
        for name, free, times in (("memory", asked.memory, 1), ("disk", shutil.disk_usage(folder).free, copies)):
            if times * needs > free:
                what = f"The merged model needs {times * needs / 2**30:.1f} GiB of {name}"
                raise ConfigError(f"{what}, and {free / 2**30:.1f} GiB are free.")


def whole_base(asked: Merge, folder: Path) -> str:
    """The folder of the base. One of the Hub is taken from the cache, and fetched only at a commit."""
    if Path(asked.model).is_dir():
        return asked.model
    from huggingface_hub import snapshot_download

    at = {"revision": asked.revision or None, "local_files_only": not asked.revision}
    few = snapshot_download(asked.model, allow_patterns=SMALL, **at)
    check_room(few, folder, asked, 2)  # its own files, too
    whole = snapshot_download(asked.model, allow_patterns=[*SMALL, "*.safetensors"], **at)
    return (
        whole
        if any(Path(whole).glob("*.safetensors"))
        else snapshot_download(asked.model, ignore_patterns=OTHERS, **at)
    )


if __name__ == "__main__":
    signal.alarm(LONGEST)
    try:
        main(Path(sys.argv[1]), Merge.model_validate_json(sys.argv[2]))
    except ConfigError as error:
        sys.exit(str(error))
