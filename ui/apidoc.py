"""The REST and SSE doors as a page of documentation, from the same OpenAPI that the server tells.

`python -m ui.apidoc > docs/api.md`; a test holds the two together.
"""

from typing import Any

from agent.settings import quiet_libraries, read

TOP = """# The API

Made by `python -m ui.apidoc` from the server's own `/api/openapi.json`. Everything speaks JSON; a refusal is
`{"error": "one sentence"}` with a status of 4xx. Whoever may open the page may use it; a POST or DELETE needs the header
`Content-Type: application/json`. On a Space it answers for whom the cookie of a sign-in names, with their sessions alone.

`GET /api/sessions/{session}/events` is a stream of server-sent events: JSON arrays of facts, whose `id` is the `seq` of
the last one; `Last-Event-ID` or `?after=` resumes without loss or doubles. The facts are those of `record/events.py`.

```python
from agent import Client

with Client("http://127.0.0.1:7860") as intern:
    session = intern.start("Make it spell", task="gym:spell_backward", target=0.9, hours=0.3)
    for fact in intern.follow(session):
        print(fact.seq, fact.kind)
    print(intern.report(session))
```

With `ML_INTERN_MCP=1` the server, where it is no Space, also speaks the Model Context Protocol at `/mcp`: `start_session`, `session_status`,
`session_results`, `stop_session`.
"""


def document(schema: dict[str, Any]) -> str:
    """Markdown for an OpenAPI schema: each route under /api, its parameters and its body."""
    parts = [TOP]
    for path, methods in schema["paths"].items():
        for method, about in methods.items():
            if path.startswith("/api/"):
                parts.append(_route(path, method, about, schema))
    return "\n".join(parts)


def _route(path: str, method: str, about: dict[str, Any], schema: dict[str, Any]) -> str:
    lines = [f"## `{method.upper()} {path}`", ""]
    if said := about.get("description"):
        lines += [" ".join(said.split()), ""]
    given = [p for p in about.get("parameters", []) if p["in"] == "query"]
    lines += [f"- `?{p['name']}`: {_type(p['schema'], schema)}" for p in given]
    body = about.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if body:
        fields = _resolved(body, schema).get("properties", {})
        lines += [f"- `{name}`: {_type(kind, schema)}" for name, kind in fields.items()]
    return "\n".join(lines) + "\n"


def _resolved(kind: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = kind.get("$ref", "").rpartition("/")[2]
    return schema["components"]["schemas"][name] if name else kind


def _type(kind: dict[str, Any], schema: dict[str, Any]) -> str:
    kind = _resolved(kind, schema)
    if "anyOf" in kind:
        return " or ".join(_type(one, schema) for one in kind["anyOf"])
    if "enum" in kind:
        return ", ".join(f"`{value}`" for value in kind["enum"])
    return kind.get("type", "anything")


def main() -> None:
    """Print the page."""
    quiet_libraries()
    from ui.server import build_app

    print(document(build_app(read()).openapi()), end="")


if __name__ == "__main__":
    main()
