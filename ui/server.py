"""One FastAPI app: the REST door, our files, and Gradio's shell around the page."""

import hashlib
from pathlib import Path

import gradio as gr
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles

from agent.settings import Settings
from agent.wallet import Wallet
from ui import mcp
from ui.api import REFUSALS, api, refusal, session_api
from ui.auth import Auth
from ui.dashboard import mount_trackio
from ui.guard import Guard
from ui.live import Live
from ui.page import head, page
from ui.replays import replay_api
from ui.shelf import Shelf
from ui.signin import signin_api
from ui.work_api import work_api

STATIC = Path(__file__).parent / "static"
EVENTS_AT_ONCE = 200  # Gradio's own default of 40 is for the whole app, all viewers together


class Assets(StaticFiles):
    """Files whose address holds a hash of all of them, so that a browser may keep them for ever."""

    def file_response(self, *args, **kwargs):
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "public, max-age=31536000, immutable"
        return response


def build_app(settings: Settings, wallet: Wallet | None = None) -> FastAPI:
    """The whole web process, without the worker. `app.state.page` is Gradio's page, `app.state.live` the streams.

    `wallet` gets the sign-ins, where somebody else wants to know of them.
    """
    app = FastAPI(
        title="ML Intern",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        exception_handlers=dict.fromkeys(REFUSALS, refusal),
    )
    app.state.auth = auth = Auth(wallet or Wallet(settings))
    app.state.shelf = Shelf()
    app.state.live = Live()
    for router in (api, session_api, work_api, replay_api, signin_api):
        app.include_router(router)
    mount_trackio(app, settings)
    if settings.mcp and auth.way == "local":  # on a Space its tools would be everybody's
        mcp.serve(app, settings)
    assets = f"/assets/{version()}"
    app.mount(assets, Assets(directory=STATIC), name="assets")
    app.state.page = _mount(app, assets)
    # its presence also turns off Gradio's own CORS, which lets any origin in with credentials
    app.add_middleware(CORSMiddleware, allow_origins=[], allow_methods=["GET", "POST"])
    app.add_middleware(Guard, auth=auth)
    return app


def version() -> str:
    """A short hash of every file under static/."""
    digest = hashlib.sha256()
    for path in sorted(p for p in STATIC.rglob("*") if p.is_file()):
        digest.update(path.relative_to(STATIC).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _mount(app: FastAPI, assets: str) -> gr.Blocks:
    blocks = page()
    blocks.max_threads = EVENTS_AT_ONCE
    blocks.queue(api_open=False)
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        show_error=False,
        head=head(assets),
        favicon_path=str(STATIC / "icon.svg"),
        app_kwargs={"docs_url": None, "redoc_url": None},
    )
    # mounting leaves this False, and then Gradio serves any file of the machine that a request names
    blocks.has_launched = True
    return blocks
