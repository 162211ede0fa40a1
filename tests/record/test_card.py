"""What stands on the card of a published model: what the log says, and nothing else."""

import io
import re

import pytest
import yaml
from PIL import Image

from lab.grade import wilson
from record.card import CERTIFICATE, dataset_card, lineage, model_card
from record.curves import curves, ticks
from record.events import (
    Budget,
    Ended,
    Event,
    Goal,
    Launched,
    Noted,
    Opened,
    Progressed,
    Published,
    Replied,
    Scored,
    Seal,
)
from record.paths import without_paths
from record.views import Views

SNAPSHOT = "/home/ada/.cache/huggingface/hub/models--org--base/snapshots/" + "a" * 40


def opened(model: str = "org/base", task: str = "table:org/questions") -> Opened:
    goal = Goal(text="Do it", task=task, model=model)
    return Opened(session="20261121-1-abc", goal=goal, budget=Budget(), driver="anthropic/m", seed=3, seq=1)


def trained(job: str, model: str, digest: str, price: float | None = 0.4, **config) -> list[Event]:
    config |= {"model": model, "data": f"/home/ada/s/jobs/{job}/data.jsonl", "data_sha256": digest, "lr": 0.003}
    return [
        Launched(job=job, recipe="sft", config=config, machine="t4", hours=1, folder=f"jobs/{job}", price=price, idea="a | b"),
        Progressed(job=job, step=1, values={"loss": 2.0 if model == SNAPSHOT else 1.0}),
        Progressed(job=job, step=20, values={"loss": 0.5, "eval_loss": "nan"}),
        Ended(job=job, state="done", seconds=1800, dollars=None if price is None else price / 2),
    ]  # fmt: skip


def scored(model: str, right: int, split: str = "heldout", judge: str = "j") -> Scored:
    interval = wilson(right, 400)
    return Scored(
        model=model, benchmark="table:org/questions", split=split, metric="accuracy", value=right / 400, low=interval.low,
        high=interval.high, n=400, items="i", seal=Seal(judge=judge, split="h" * 64, model="m"), job="evaluate-1",
    )  # fmt: skip


TWO_STAGES = [
    opened(),
    Noted(topic="data", text="", details={"file": "data/a.jsonl", "rows": 90, "source": "own", "sha256": "d1"}),
    *trained("sft-1", SNAPSHOT, "d1"),
    *trained("sft-2", "/home/ada/s/jobs/sft-1/model", "d2", teacher=SNAPSHOT),
    *trained("sft-9", SNAPSHOT, "d9"),
]
HEAD = "## Contamination"


def card(
    facts: list[Event], model: str = "sft-2", weights: tuple[str, ...] = ("model.safetensors",)
) -> tuple[dict, str]:
    text = model_card(facts, model, "t", weights, True)
    return yaml.safe_load(text.split("---")[1]), text


def test_a_score_on_the_card_is_the_logs_own_with_its_n_and_interval():
    mine, base = scored("sft-2", 312), scored("base", 40)
    data, text = card([*TWO_STAGES, base, scored("sft-2", 399, "dev"), mine])
    (result,) = data["model-index"][0]["results"]
    assert result["dataset"] == {"name": "org/questions", "type": "org/questions", "split": "heldout"}
    (metric,) = result["metrics"]
    assert metric["value"] == mine.value == 0.78
    assert metric["args"] == {"n": 400, "low": mine.low, "high": mine.high, "interval": "Wilson 95 %"}
    assert f"| **this model** | 0.780 | {mine.low:.3f} to {mine.high:.3f} | 312 | 400 |" in text
    assert "| base model | 0.100 | 0.074 to 0.133 | 40 | 400 |" in text
    assert "0.998" not in text, "a dev score is none to publish"
    other = card([*TWO_STAGES, scored("base", 40, judge="old"), mine])[1]
    assert "| base model |" not in other and "not measured by the same judge" in other


def test_a_model_without_a_sealed_score_says_so_and_prints_none():
    data, text = card([*TWO_STAGES, scored("base", 40), scored("sft-2", 399, "dev"), scored("sft-1", 1)])
    assert "no sealed score on held-out items" in text
    assert "model-index" not in data and "metrics" not in data and "Wilson" not in text and "0.9" not in text


def test_lineage_goes_back_to_the_base_and_names_it_only_where_the_hub_has_it():
    views = Views(TWO_STAGES)
    assert [job.id for job in lineage(views, "sft-2")] == ["sft-1", "sft-2"]
    data, text = card(TWO_STAGES)
    assert (data["base_model"], data["base_model_relation"]) == ("org/base", "finetune")
    assert (
        "revision `" + "a" * 40 in text
        and "sft-9" not in text
        and "`sft-2` (sft, 20 steps, with `org/base` as its teacher): a \\| b" in text
    )
    assert (
        card(TWO_STAGES, weights=("adapter_config.json", "adapter_model.safetensors"))[0]["base_model_relation"]
        == "adapter"
    )
    for model, said in (("starter", "not on the Hub"), ("/home/ada/models/mine", "`mine`), of no known Hub id")):
        data, text = card([opened(model), *TWO_STAGES[1:]])
        assert "base_model" not in data and "base_model_relation" not in data and said in text


@pytest.mark.parametrize(
    ("told", "said"),
    [("plain", ", given the chat template `plain`)"), ("own", "20 steps)"), ("<img>", "20 steps)"), ([], "20 steps)")],
)
def test_a_card_says_which_chat_template_a_model_was_given(told, said):
    facts = [
        fact.model_copy(update={"result": {"template": told}})
        if isinstance(fact, Ended) and fact.job == "sft-1"
        else fact
        for fact in TWO_STAGES
    ]
    (line,) = [line for line in card(facts)[1].splitlines() if line.startswith("2. `sft-1`")]
    assert said in line and "<img>" not in line


def test_no_path_of_the_machine_and_no_name_of_its_person_is_published():
    facts = [opened("/home/ada/models/mine", "table:/home/ada/secret/questions.csv"), *TWO_STAGES[1:]]
    files = {"sft-1": "data/sft-1.jsonl", "sft-2": "data/sft-1.jsonl"}
    rows = dataset_card(facts, "sft-2", "t", files, {"data/sft-1.jsonl": {"prompt": "str"}})
    for text in (card(facts)[1], rows):
        assert "ada" not in text.replace("metadata", "") and "secret" not in text
        assert "table:questions.csv" in text
    assert yaml.safe_load(rows.split("---")[1])["configs"] == [
        {"config_name": "sft-1", "data_files": [{"split": "train", "path": "data/sft-1.jsonl"}]}
    ]
    plain = "see https://hf.co/a/b, a/b, ./x/y and 1/2"
    assert without_paths(plain) == plain
    assert without_paths("in /home/ada, /root or ~/x/y.txt: /data/z/") == "in ~, ~ or …/y.txt: …"


def test_rows_are_named_with_hash_source_and_what_was_looked_for_in_them():
    details = {
        "task": "table:org/questions", "stages": {"sft-1": {"rows": 90, "hits": 2}, "sft-2": {"why": "They are gone."}},
        "items": {"dev": 200, "heldout": 400}, "sha256": {"dev": "x", "heldout": "h" * 64}, "ngram": 8, "tolerated": 3,
    }  # fmt: skip
    published = Published(what="dataset", where="https://hub/datasets/ada/rows/commit/c0ffee")
    certified = [*TWO_STAGES, scored("sft-2", 300), Noted(topic=CERTIFICATE, text="", details=details), published]
    data, text = card(certified)
    assert "| sft-1 | `data/a.jsonl` | 90 | `d1` | the person's own rows |" in text
    assert "| sft-2 | unknown | unknown | `d2` | written by the driver; not recorded |" in text
    assert "| sft-1 | 2 of 90 rows | no script |" in text and "| sft-2 | They are gone. | no script |" in text
    assert "200 dev and 400 heldout" in text and "the held-out ones are those of the score above" in text
    assert data["datasets"] == ["ada/rows"] and "revision `c0ffee`" in text
    assert "not compared" in card(TWO_STAGES)[1].split(HEAD)[1]
    other = details | {"sha256": {"dev": "x", "heldout": "other"}}
    text = card([*TWO_STAGES, scored("sft-2", 300), Noted(topic=CERTIFICATE, text="", details=other)])[1]
    assert "of the score above" not in text


def test_the_card_of_rows_has_their_schema_and_where_they_came_from():
    files = {"sft-1": "data/a.jsonl", "sft-2": "data/b.jsonl"}
    schema = {"data/a.jsonl": {"prompt": "str", "completion": "str"}, "data/b.jsonl": {"messages": "list"}}
    text = dataset_card([*TWO_STAGES, scored("sft-2", 300)], "sft-2", "Sums", files, schema)
    data = yaml.safe_load(text.split("---")[1])
    assert [(one["config_name"], one["data_files"][0]["path"]) for one in data["configs"]] == [
        ("a", "data/a.jsonl"),
        ("b", "data/b.jsonl"),
    ]
    assert data["pretty_name"] == "Sums" and {"ml-intern", "ml-intern-data", "sft"} <= set(data["tags"])
    (table,) = re.findall(r"## Schema\n\n(.*?)\n\n## Data", text, re.S)
    assert table.splitlines()[2:] == [
        "| `data/a.jsonl` | `prompt` | str |", "| `data/a.jsonl` | `completion` | str |", "| `data/b.jsonl` | `messages` | list |",
    ]  # fmt: skip
    assert "| sft-1 | `data/a.jsonl` | 90 | `d1` | the person's own rows |" in text
    assert "| sft-2 | unknown | unknown | `d2` | written by the driver; not recorded |" in text
    assert "Session `20261121-1-abc` of ML Intern, opened " in text and "seed 3, driven by" in text
    assert "not compared" in text.split(HEAD)[1] and "None is declared" in text


def test_what_it_cost_is_what_is_known():
    paid = Replied(model="m", dollars=1.5, tokens_in=10)
    assert "| training this model | 60.0 min | $0.40 |" in card([*TWO_STAGES, paid])[1]
    unknown = [opened(), *trained("sft-1", SNAPSHOT, "d1", price=None), Replied(model="m"), paid]
    text = card(unknown, "sft-1")[1]
    assert "| training this model | 30.0 min | unknown |" in text
    assert "| $1.50 with model calls, and 1 model calls of unknown price, and jobs of unknown price |" in text


def test_curves_are_a_picture_of_what_was_logged_and_the_same_each_time():
    drawn = curves(TWO_STAGES, ["sft-1", "sft-2"])
    assert drawn and drawn == curves(TWO_STAGES, ["sft-1", "sft-2"]) != curves(TWO_STAGES, ["sft-1"])
    image = Image.open(io.BytesIO(drawn))
    assert (image.format, image.size) == ("PNG", (960, 300))
    colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20) or []}
    assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)} <= colours, "a line for each job"
    reward = [Progressed(job="sft-1", step=3, values={"reward": 0.1, "kl": 0.0})]
    assert Image.open(io.BytesIO(curves([*TWO_STAGES, *reward], ["sft-1"]) or b"")).size == (960, 900)
    assert curves(TWO_STAGES, ["evaluate-1"]) is None
    for low, high in ((0, 1), (-3e-5, 2e-5), (7, 7.02), (0, 123456)):
        found = ticks(low, high)
        assert 2 <= len(found) <= 6 and low - 1e-9 <= found[0] and found[-1] <= high + 1e-9
