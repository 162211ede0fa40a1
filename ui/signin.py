"""The routes on which people come in and go."""

from html import escape
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Cookie, Depends, HTTPException
from fastapi import Request as Http
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict

from agent.sessions import NAMES
from ui.auth import BEGINS, BEGUN, CALLBACK, COOKIE, STAYS, Auth
from ui.oauth import SignInError

LOGIN = "/oauth/login"
PROVE = "/api/sign-in"
# "none": on the Hub the page stands in a frame of another site. What another site may do with it, ui.guard says.
KEPT = {"path": "/", "secure": True, "httponly": True}
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>ML Intern</title>
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<body style="font:16px/1.5 system-ui;max-width:34em;margin:18vh auto;padding:0 24px">
<h1 style="font-size:22px">You are not signed in</h1><p>{}</p><p><a href="/">Back to the page</a></p>"""

signin_api = APIRouter()


class Token(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)
    token: str


async def auth_of(http: Http) -> Auth:
    return http.app.state.auth


Ours = Annotated[Auth, Depends(auth_of)]


@signin_api.get(LOGIN, include_in_schema=False)
def login(auth: Ours, session: str = "") -> Response:
    """Off to the Hub."""
    if auth.way != "oauth":
        raise HTTPException(404, "Nobody signs in here with the Hub.")
    try:
        address, begun = auth.begin(session if NAMES.fullmatch(session) else "")
    except SignInError as error:
        return _sorry(error)
    answer = RedirectResponse(address, 303)
    answer.set_cookie(BEGUN, begun, max_age=BEGINS, samesite="lax", **KEPT)
    return answer


@signin_api.get(CALLBACK, include_in_schema=False)
def callback(auth: Ours, code: str = "", state: str = "", begun: Annotated[str, Cookie(alias=BEGUN)] = "") -> Response:
    """Back from the Hub."""
    if auth.way != "oauth":
        raise HTTPException(404, "Nobody signs in here with the Hub.")
    try:
        if not code:
            raise SignInError("The Hub let nobody in; you may have declined.")
        cookie, session = auth.finish(code, state, begun)
    except SignInError as error:
        return _sorry(error)
    answer = RedirectResponse(f"/?session={quote(session)}" if session else "/", 303)
    answer.set_cookie(COOKIE, cookie, max_age=STAYS, samesite="none", **KEPT)
    answer.delete_cookie(BEGUN, samesite="lax", **KEPT)
    return answer


@signin_api.post(PROVE)
def prove(auth: Ours, form: Token) -> JSONResponse:
    """On a duplicate without OAuth: prove by a token that the Space is yours. The token is not kept."""
    try:
        cookie = auth.prove(form.token.strip())
    except SignInError as error:
        raise HTTPException(403, str(error)) from error
    answer = JSONResponse({})
    answer.set_cookie(COOKIE, cookie, max_age=STAYS, samesite="none", **KEPT)
    return answer


@signin_api.post("/api/sign-out")
def sign_out(http: Http, auth: Ours) -> JSONResponse:
    """Forget this browser. Sessions that work go on for as long as the sign-in allows."""
    try:
        auth.leave(http.headers.get("cookie"))
    except SignInError as error:
        raise HTTPException(503, str(error)) from error
    answer = JSONResponse({})
    answer.delete_cookie(COOKIE, samesite="none", **KEPT)
    return answer


def _sorry(error: SignInError) -> HTMLResponse:
    return HTMLResponse(PAGE.format(escape(str(error))), 403, {"cache-control": "no-store"})
