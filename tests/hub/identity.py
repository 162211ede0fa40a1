"""Who a token belongs to, and what clients ask by themselves."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.hub.server import Hub


def routes(hub: Hub) -> list[Route]:
    def whoami(request: Request) -> Response:
        person = hub.known(request)
        about = {"type": "user", "id": f"id-{person.name}", "name": person.name, "fullname": person.name.title()}
        about |= {"isPro": person.pro, "canPay": True, "orgs": [{"name": name, "type": "org"} for name in person.orgs]}
        token = {"displayName": "loopback", "role": person.role}
        return JSONResponse(about | {"auth": {"type": "access_token", "accessToken": token}})

    def nothing(_: Request) -> Response:
        return JSONResponse({})

    return [
        Route("/api/whoami-v2", whoami),
        Route("/api/telemetry/{rest:path}", nothing),
        Route("/api/agent-harnesses", nothing),
    ]
