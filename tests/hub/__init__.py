"""A Hub on loopback that speaks the Hub's protocol to the real clients: huggingface_hub, datasets, the hf command, gradio.

    with tests.hub.serve(folder) as hub: HfApi(endpoint=hub.url, token=hub.people.add("ada").token)
    python -m tests.hub FOLDER --person ada:hf_ada     # for developing offline

Everything it knows lies in its folder: stopped and started again, it is the same Hub. One module a part of the Hub, each
with `routes(hub)`; the protocol was read off huggingface_hub 1.33, not off the live Hub.
"""

from tests.hub.server import Hub, serve

__all__ = ["Hub", "serve"]
