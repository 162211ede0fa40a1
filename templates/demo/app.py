"""Ask a trained model, and the one that it was made from, exactly as its evaluation did."""

import json
import sys
from pathlib import Path
from typing import Any

import gradio as gr
from huggingface_hub import snapshot_download

from recipes.benchmarks import Item, load
from recipes.evaluate import Config, generate
from recipes.training import load_model, load_tokenizer, prepare_machine

ABOUT = json.loads(Path(__file__).with_name("demo.json").read_text())
TASK = load(ABOUT["task"])
ASKED = Config(model=ABOUT["model"]["id"], benchmark=ABOUT["task"], items="", split="heldout", batch_size=1)
LONGEST = 4000  # characters of a question


def folder(one: dict[str, Any]) -> str:
    """Where a model's files are: mounted into this Space, or fetched from the Hub."""
    if "folder" in one and Path(one["folder"]).is_dir():
        return one["folder"]
    try:
        return snapshot_download(one["id"], revision=one["revision"])
    except OSError as error:
        why = str(error).strip().partition("\n")[0]
        advice = "make it public, publish this demo again, or set a secret HF_TOKEN that may read it and nothing else"
        sys.exit(f"This Space cannot read {one['id']} ({why}); {advice}.")


def opened() -> dict[str, tuple[Any, Any]]:
    """Model and tokenizer by the name to show, the trained one first."""
    place, base = folder(ABOUT["model"]), folder(ABOUT["base"]) if ABOUT["base"] else ""
    model = load_model(base if ABOUT["adapter"] else place, half=False)
    if ABOUT["adapter"]:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, place)
    own = Path(place, "tokenizer_config.json").is_file()
    found = {ABOUT["model"]["id"]: (model.eval(), load_tokenizer(place if own else base))}
    if base:
        found[ABOUT["base"]["id"]] = (load_model(base, half=False).eval(), load_tokenizer(base))
    return found


def ask(question: str) -> Any:
    """What each model answers: a text for each output."""
    if not question.strip() or len(question) > LONGEST:
        raise gr.Error(f"The question has {len(question)} characters; ask with 1 to {LONGEST}.", print_exception=False)
    item = Item(id="", question=question.strip(), answer="")
    said = [next(generate(ASKED, TASK, [item], *one))[1][0].text for one in MODELS.values()]
    return said if len(said) > 1 else said[0]


prepare_machine()
MODELS = opened()
gr.Interface(
    ask,
    gr.Textbox(label="Question", lines=3, max_length=LONGEST),
    [gr.Textbox(label=name, lines=5) for name in MODELS],
    title=ABOUT["title"],
    description=f"Asked as: `{' '.join(TASK.prompt(Item(id='', question='…', answer='')).split())}`",
    examples=None if ABOUT["task"].startswith("table:") else [[item.question] for item in TASK.items("train", 3)],
    cache_examples=False,
    flagging_mode="never",
    analytics_enabled=False,
).queue(max_size=20).launch()
