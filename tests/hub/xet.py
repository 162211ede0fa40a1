"""Xet's content-addressed store, as much of it as hf_xet 1.8 needs: xorbs of chunks, and shards that make files of them.

A file is put together as soon as its shard comes, so every other part of the Hub sees plain content. The hashes that
clients give (keyed BLAKE3) are believed, the sha256 of a file is not. A xorb mixes files, private and public ones: so a
shard may use those of its own person only, an address gives the bytes of one range, and everybody has a store of their
own to look at (hf_xet remembers by the store's address what is there already).
"""

import hashlib
import struct
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import pyarrow
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.hub.access import readable, repo_of, signed, taking, unsigned, writable
from tests.hub.people import Person
from tests.hub.server import Hub, Refusal, param
from tests.hub.store import Missing, Repo

LZ4 = pyarrow.Codec("lz4")
HEAD, ROW = 8, 48  # bytes of a chunk's header, and of a row of a shard
VERIFIED, WITH_SHA = 1 << 31, 1 << 30  # flags of a file in a shard


def printed(raw: bytes) -> str:
    """A hash as Xet writes it: four little-endian words."""
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", raw))


def chunks(xorb: bytes) -> Iterator[tuple[int, int, int, int]]:
    """(offset, scheme, bytes packed, bytes unpacked) of every chunk; a footer is none."""
    at = 0
    while at + HEAD <= len(xorb) and xorb[at] == 0:
        packed, scheme, size = int.from_bytes(xorb[at + 1 : at + 4], "little"), xorb[at + 4], xorb[at + 5 : at + 8]
        yield at, scheme, packed, int.from_bytes(size, "little")
        at += HEAD + packed


def unpacked(scheme: int, data: bytes, size: int) -> bytes:
    """Scheme 0 is plain, 1 an LZ4 frame, 2 an LZ4 frame of every fourth byte, then the next ones."""
    if scheme == 0:
        return data
    plain = LZ4.decompress(data, size, asbytes=True)
    if scheme == 1:
        return plain
    mixed, at = bytearray(size), 0
    for first in range(4):
        part = plain[at : at + len(range(first, size, 4))]
        mixed[first::4], at = part, at + len(part)
    return bytes(mixed)


def files_of(shard: bytes) -> Iterator[tuple[str, list[tuple[str, int, int, int]], str | None]]:
    """(file hash, [(xorb, bytes, first chunk, chunk after the last)], sha256 if given) of every file in a shard."""
    at = ROW
    while (raw := shard[at : at + 32]) != b"\xff" * 32:
        flags, count = struct.unpack_from("<2I", shard, at + 32)
        rows = [shard[at + ROW * n : at + ROW * (n + 1)] for n in range(1, count + 1)]
        at += ROW * (1 + count + (count if flags & VERIFIED else 0))
        sha = printed(shard[at : at + 32]) if flags & WITH_SHA else None
        at += ROW if flags & WITH_SHA else 0
        yield printed(raw), [(printed(row[:32]), *struct.unpack_from("<3I", row, 36)) for row in rows], sha


def _put_together(hub: Hub, person: str, terms: list[tuple[str, int, int, int]]) -> bytes:
    parts = []
    for name, size, first, last in terms:
        xorb = _xorb(hub, person, name).read_bytes()
        parts.append(b"")
        for at, scheme, packed, plain in list(chunks(xorb))[first:last]:
            parts[-1] += unpacked(scheme, xorb[at + HEAD : at + HEAD + packed], plain)
        if len(parts[-1]) != size:
            raise Refusal(400, f"The chunks {first} to {last} of {name} have {len(parts[-1])} bytes, not {size}.")
    return b"".join(parts)


def _xorb(hub: Hub, person: str, name: str) -> Path:
    file = hub.repos.xorb(person, name)
    if not name.isalnum() or not file.exists():
        raise Refusal(400, f"{person} has sent no xorb {name!r}.")
    return file


def _holder(hub: Hub, request: Request, verb: str) -> tuple[Repo, str]:
    """The repository that a token of this store speaks for, and its person's name."""
    key, may, person = unsigned(hub, request.headers.get("authorization", "").removeprefix("Bearer "))
    if verb not in may.split("+"):
        raise Refusal(403, f"This token may {may}.")
    return repo_of(hub, key), person


def token_answer(hub: Hub, repo: Repo, may: str, person: Person | None) -> JSONResponse:
    """Where the store is, and a token for one repository; `may` is read or read+write."""
    name = person.name if person else "-"
    mark = hashlib.sha256(hub.seal).hexdigest()[:8]  # another Hub at this port has another store
    end, token, there = int(time.time()) + 3600, signed(hub, repo.key, may, name), f"{hub.url}/cas/{name}-{mark}"
    known = {"x-xet-cas-url": there, "x-xet-access-token": token, "x-xet-token-expiration": str(end)}
    return JSONResponse({"casUrl": there, "exp": end, "accessToken": token}, headers=known)


def _window(request: Request, size: int) -> tuple[int, int]:
    """First byte asked for, and the one after the last."""
    asked = request.headers.get("range", "bytes=0-").removeprefix("bytes=")
    first, _, last = asked.partition("-")
    start, end = int(first), min(int(last) + 1 if last else size, size)
    if start >= end:
        raise Refusal(416, f"The file has {size} bytes: {asked} is not among them.")
    return start, end


def _recipe(hub: Hub, person: str, terms: list[list], start: int, end: int) -> dict:
    """How to put bytes of a file together: the terms that they lie in, and where the chunks of those are to be had."""
    ends = list(accumulate(term[1] for term in terms))
    wanted = [(term, stop) for term, stop in zip(terms, ends, strict=True) if stop - term[1] < end and stop > start]
    answer: dict = {"offset_into_first_range": start - (wanted[0][1] - wanted[0][0][1]), "terms": [], "fetch_info": {}}
    for (name, size, first, last), _ in wanted:
        places = list(chunks(_xorb(hub, person, name).read_bytes()))[first:last]
        among = {"start": first, "end": last}
        answer["terms"].append({"hash": name, "unpacked_length": size, "range": among})
        span = {"start": places[0][0], "end": places[-1][0] + HEAD + places[-1][2] - 1}
        key = signed(hub, person, name, span["start"], span["end"])
        where = {"range": among, "url": f"{hub.url}/xorbs?key={key}", "url_range": span}
        answer["fetch_info"].setdefault(name, []).append(where)
    return answer


def _keep_files(hub: Hub, repo: Repo, person: str, shard: bytes) -> None:
    for xet, terms, sha in files_of(shard):
        content = _put_together(hub, person, terms)
        if sha and sha != hashlib.sha256(content).hexdigest():
            raise Refusal(400, f"The file {xet} has not the sha256 {sha} that its shard gives.")
        hub.repos.set_pieces(xet, person, terms)
        hub.repos.hold(repo, hub.repos.keep(content), len(content), xet)


def routes(hub: Hub) -> list[Route]:
    def read_token(request: Request) -> Response:
        return token_answer(hub, readable(hub, request), "read", hub.asker(request))

    def write_token(request: Request) -> Response:
        repo, person = writable(hub, request)
        return token_answer(hub, repo, "read+write", person)

    def put_xorb(request: Request, body: bytes) -> Response:
        _, person = _holder(hub, request, "write")
        name = param(request, "hash")
        if not name.isalnum() or not list(chunks(body)):
            raise Refusal(400, f"{name!r} of {len(body)} bytes has no chunks.")
        hub.repos.keep_xorb(person, name, body)
        return JSONResponse({"was_inserted": True})

    def put_shard(request: Request, body: bytes) -> Response:
        _keep_files(hub, *_holder(hub, request, "write"), body)
        return JSONResponse({"result": 1})

    def reconstruction(request: Request) -> Response:
        repo, _ = _holder(hub, request, "read")
        held = hub.repos.held(repo, xet=param(request, "hash"))
        if held is None:
            raise Missing("EntryNotFound", f"{repo.id} has no file {param(request, 'hash')}.")
        recipe = _recipe(hub, *hub.repos.pieces(held.xet or ""), *_window(request, held.size))
        return JSONResponse(recipe)

    def xorb(request: Request) -> Response:
        person, name, first, last = unsigned(hub, request.query_params["key"])
        size = _xorb(hub, person, name).stat().st_size
        start, end = _window(request, size)
        if start < int(first) or end > int(last) + 1:
            raise Refusal(403, f"This address is for the bytes {first} to {last}.")
        content = _xorb(hub, person, name).read_bytes()[start:end]
        return Response(content, 206, {"content-range": f"bytes {start}-{end - 1}/{size}"})

    where = "/api/{t:kind}/{ns}/{name}"
    return [
        Route(f"{where}/xet-read-token/{{rev}}", read_token),
        Route(f"{where}/xet-write-token/{{rev}}", write_token),
        Route("/cas/{store}/v1/xorbs/default/{hash}", taking(put_xorb), methods=["POST"]),
        Route("/cas/{store}/v1/shards", taking(put_shard), methods=["POST"]),
        Route("/cas/{store}/v1/reconstructions/{hash}", reconstruction),
        Route("/xorbs", xorb),
    ]
