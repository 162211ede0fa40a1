"""Papers: a handful of them, in papers.json beside this file. `hub.papers` is that list, and tests may append to it."""

import json
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests.hub.server import Hub, Refusal, param

OWN = ("id", "authors", "publishedAt", "title", "summary", "upvotes", "githubRepo")


def _row(paper: dict) -> dict:
    """A paper in a list."""
    own = {name: paper[name] for name in OWN if name in paper}
    by = {"_id": "id-ada", "user": "ada", "fullname": "Ada", "name": "ada", "type": "user", "avatarUrl": ""}
    row = {"paper": own, "title": paper["title"], "summary": paper["summary"], "publishedAt": paper["submittedAt"]}
    return row | {"numComments": 0, "submittedBy": by, "thumbnail": ""}


def _found(papers: list[dict], question: str) -> list[dict]:
    """Those with most of the words first, those with none not at all."""
    words = question.lower().split()
    ranked = [(sum(word in f"{one['title']} {one['summary']}".lower() for word in words), one) for one in papers]
    return [one for hits, one in sorted(ranked, key=lambda pair: -pair[0]) if hits]


def routes(hub: Hub) -> list[Route]:
    papers = hub.papers = json.loads(Path(__file__).with_name("papers.json").read_text())  # type: ignore[attr-defined]

    def one(request: Request) -> dict:
        id = param(request, "id")
        paper = next((paper for paper in papers if paper["id"] == id), None)
        if paper is None:
            raise Refusal(404, f"Paper not found: {id}")
        return paper

    def search(request: Request) -> Response:
        query = request.query_params
        found = _found(papers, query["q"]) if query.get("q") else papers
        return JSONResponse([_row(paper) for paper in found[: int(query.get("limit", 20))]])

    def daily(request: Request) -> Response:
        query, key = (
            request.query_params,
            "upvotes" if request.query_params.get("sort") == "trending" else "submittedAt",
        )
        rows = sorted(papers, key=lambda paper: paper[key], reverse=True)
        start = query.get("date") or query.get("month") or ""
        rows = [_row(paper) for paper in rows if paper["submittedAt"].startswith(start)]
        limit = int(query.get("limit", 50))
        first = int(query.get("p", 0)) * limit
        return JSONResponse(rows[first : first + limit])

    def info(request: Request) -> Response:
        paper = one(request)
        linked = {
            "linkedModels": [],
            "numTotalModels": 0,
            "linkedDatasets": [],
            "numTotalDatasets": 0,
            "linkedSpaces": [],
        }
        return JSONResponse({name: paper[name] for name in OWN if name in paper} | linked)

    def read(request: Request) -> Response:
        paper = one(request)
        authors = ", ".join(author["name"] for author in paper["authors"])
        text = f"# {paper['title']}\n\n{authors}\n\n## Abstract\n\n{paper['summary']}\n\n{paper['body']}\n"
        return PlainTextResponse(text, media_type="text/markdown")

    return [
        Route("/api/papers/search", search),
        Route("/api/daily_papers", daily),
        Route("/api/papers/{id}", info),
        Route("/papers/{id}.md", read),
    ]
