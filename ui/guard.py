"""What every request must pass, whoever answers it: our own host and origin, JSON, and only reading on a public Space."""

from urllib.parse import SplitResult, parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui import mcp
from ui.auth import Auth
from ui.signin import PROVE

READING = ("GET", "HEAD", "OPTIONS")
LARGEST = 2 * 2**20  # bytes of a request; the largest honest one is a form with an edited config
LOOPBACK = ("127.0.0.1", "localhost", "::1")
SIGN_IN = "Sign in first: here everybody has sessions of their own."
READ_ONLY = "This Space is read-only: nobody can sign in here. Duplicate it, or run ML Intern on your own machine."
# Gradio's page has inline scripts and compiles its templates with `new Function`, so script-src cannot be stricter.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'self' https://huggingface.co"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
# The player alone may stand in a frame of any site: it shows what is public, and has nothing to press that acts.
EMBED = HEADERS | {"content-security-policy": POLICY[: POLICY.index("frame-ancestors")] + "frame-ancestors *"}


def _bounded(receive: Receive, headers: Headers) -> Receive:
    """The same body, but one that does not say its length ends at LARGEST: the connection counts as lost then."""
    if "content-length" in headers:
        return receive
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return message if seen <= LARGEST else {"type": "http.disconnect"}

    return counted


class Guard:
    """ASGI middleware around everything, Gradio included."""

    def __init__(self, app: ASGIApp, auth: Auth):
        self._app = app
        self._auth = auth
        settings = auth.wallet.settings
        self._mcp = settings.mcp and auth.way == "local"
        self._local = settings.host in LOOPBACK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope["method"], scope["path"], Headers(scope=scope))
        if refusal:
            status, sentence = refusal
            await JSONResponse({"error": sentence}, status, HEADERS)(scope, receive, send)
            return

        receive = _bounded(receive, Headers(scope=scope))
        policy = EMBED if is_embed(scope["path"], scope["query_string"]) else HEADERS

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in policy.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers)

    def _refusal(self, method: str, path: str, headers: Headers) -> tuple[int, str] | None:
        """The status and the sentence for a request that must not go on."""
        host = headers.get("host", "")
        name = _split(f"//{host}")
        if name is None or (self._local and (name.hostname or "") not in LOOPBACK):
            # A name of somebody else that resolves to this machine (DNS rebinding) would be of our own origin.
            return (
                421,
                f"This server answers on this machine only, not as {host!r}; set ML_INTERN_HOST=0.0.0.0 to change that.",
            )
        if int(headers.get("content-length") or 0) > LARGEST:
            return 413, f"The request has more than {LARGEST >> 20} MiB; nothing here needs as much."
        if method in READING:
            return None
        origin = headers.get("origin")
        if origin is not None and ((page := _split(origin)) is None or page.netloc != host):
            return 403, f"A page of {origin} may not act here."
        if self._auth.way == "none":
            return 403, READ_ONLY
        if path != PROVE and not self._auth.person(headers.get("cookie")):
            return 401, SIGN_IN
        if self._mcp and path.startswith(mcp.PATH):
            return None
        if not path.startswith(("/api/", "/trackio/api/")):
            # the page has no Gradio events and takes no files, so Gradio's upload and queue would only be open doors
            return 405, f"{path} takes no commands; see /api/openapi.json."
        if not headers.get("content-type", "").startswith("application/json"):  # a form of another site can post text
            return 415, "Send JSON, with the header Content-Type: application/json."
        return None


def _split(address: str) -> SplitResult | None:
    """The parts of an address; None for one that is none, as "http://[" is."""
    try:
        return urlsplit(address)
    except ValueError:
        return None


def is_embed(path: str, query: bytes) -> bool:
    """Whether this is the address of an embedded replay. The page builds nothing but the player where `replay` is named."""
    asked = parse_qs(query.decode("latin-1"))
    return path == "/" and bool(asked.get("replay")) and asked.get("embed") == ["1"]
