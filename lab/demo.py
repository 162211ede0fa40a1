"""The Space in which a published model can be tried: its app, the judge's own code, and demo.json, which says what it opens.

A Space gets no token. What only its owner may read is mounted into it by the Hub, read-only, at the published commit.
"""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lab.errors import BadInput, NotThere, Refused
from lab.parcel import CPU_WHEELS, ROOT, requirements
from lab.upload import Files, asked
from record.card import PIPELINES, base_model, base_revisions, lineage, published, space_card
from record.views import Views

TEMPLATE = ROOT / "templates" / "demo" / "app.py"
ABOUT = "demo.json"


def demo_files(views: Views, places: Mapping[str, str], model: str, title: str, api: Any, public: bool) -> Files:
    """All files of the Space.

    Args:
        places: Where each job's model was published, by job.
        public: Whether anybody may use it; refused where somebody who may not read a model would then ask it.

    Raises:
        BadInput: A model that writes no text, or an adapter without the model it belongs to.
        NotThere: It is not published.
        Refused: See `public`; or the Hub says no.
        LabError: The Hub cannot be reached.
    """
    job, base = views.jobs[model], base_model(views)[0]
    if job.recipe in PIPELINES:
        raise BadInput(
            f"{model} was trained by {job.recipe}: it marks texts and writes none, so there is nothing to try."
        )
    found = published(places.get(model, ""))
    if found is None:
        raise NotThere(f"{model} is not on the Hub yet; publish it with what=model, and then its demo.")
    trained, names = _opened(api, "model", *found)
    adapter = "adapter_config.json" in names and not any(name.startswith("model") for name in names)
    if adapter and (not base or len(lineage(views, model)) > 1):
        raise BadInput(f"{model} is an adapter of a model that the Hub has not; only one of a Hub model can be tried.")
    known = next(iter(base_revisions(views)), None)
    before = _opened(api, "base", base, known)[0] if base else None
    kind, _, source = views.goal.task.partition(":")
    task = f"{kind}:{Path(source).name}" if kind == "table" else views.goal.task  # how to ask; its rows stay here
    about = {"title": title, "task": task, "adapter": adapter, "model": trained, "base": before}
    _check(about, public)
    needs = "\n".join([f"--extra-index-url {CPU_WHEELS}", *requirements({"benchmark": task})])
    made = {ABOUT: json.dumps(about, indent=1), "requirements.txt": f"{needs}\n", "README.md": _card(views, about)}
    code = {str(file.relative_to(ROOT)): file for file in sorted((ROOT / "recipes").rglob("*.py"))}
    return {**code, "app.py": TEMPLATE, **{name: text.encode() for name, text in made.items()}}


def mount(api: Any, space: str, text: Any, private: bool) -> None:
    """Have the Hub mount what the Space may not read by itself; nothing where that is so already. Raises Refused.

    Args:
        text: Content of its demo.json.
        private: Whether the Space is.
    """
    from huggingface_hub import Volume

    about = json.loads(text)
    _check(about, not private)
    ones = [one for one in _models(about) if "folder" in one]
    wanted = [
        Volume(type="model", source=one["id"], revision=one["revision"], mount_path=one["folder"], read_only=True)
        for one in ones
    ]
    there = [volume.to_dict() for volume in api.get_space_runtime(space).volumes or []]
    if wanted and [volume.to_dict() for volume in wanted] != there:
        api.set_space_volumes(space, wanted)


def _opened(api: Any, name: str, repo: str, revision: str | None) -> tuple[dict[str, Any], list[str]]:
    """What demo.json says of a repository, with the folder where it is mounted if it must be; and its files' names."""
    info = asked(f"the model {repo}", lambda: api.model_info(repo, revision=revision))
    mounted = {"folder": f"/{name}"} if info.private or info.gated else {}
    about = {"id": repo, "revision": info.sha, "private": bool(info.private), **mounted}
    return about, [file.rfilename for file in info.siblings or []]


def _models(about: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [about[name] for name in ("model", "base") if about[name]]


def _check(about: Mapping[str, Any], public: bool) -> None:
    """Raise Refused where anybody could ask a model that not everybody may read."""
    if shut := [one["id"] for one in _models(about) if public and one["private"]]:
        what = f"{' and '.join(shut)} may not be read by everybody, and a public demo would let everybody ask"
        raise Refused(f"{what}; publish the model as public, or the demo as private and under another name.")


def _card(views: Views, about: Mapping[str, Any]) -> str:
    models = _models(about)
    asks = " and ".join(
        f"[{one['id']}](https://huggingface.co/{one['id']}) at `{one['revision'][:12]}`" for one in models
    )
    shut = [one for one in models if "folder" in one]
    mounts = ", ".join(f"`{one['id']}` at `{one['folder']}`" for one in shut)
    reads = f"It holds no token: the Hub mounts {mounts}, read-only." if shut else "It holds no token and needs none."
    return space_card(
        views, "demo", about["title"], [one["id"] for one in models],
        [
            f"Asks {asks} what you like.",
            "A question goes through the words of the task, then the chat template where the model has one, and is "
            "answered greedily: `recipes/` is the code that evaluated the model.",
            f"{reads} On the free CPU a model of a billion parameters takes minutes for an answer.",
        ],
        sdk="gradio", sdk_version=version("gradio"), python_version="3.11", app_file="app.py", emoji="💬",
    )  # fmt: skip
