"""An answer while it is written: whole at every look, without secrets, and never a reason to fail."""

import json
import os
import threading
import time
from pathlib import Path

import pytest

from record.redact import MASK
from record.typing import EVERY, NAME, Typing, read_typing

TOKEN = "hf_" + "Ab1" * 12
KEY = "correct-horse-battery"


def after(typing: Typing, *shown: str) -> None:
    time.sleep(EVERY)
    typing.show(*shown)


def test_what_is_shown_is_read_and_then_gone(tmp_path: Path):
    assert read_typing(tmp_path) is None
    typing = Typing(tmp_path)
    typing.show("It grows", "as I thought")
    assert read_typing(tmp_path) == ("It grows", "as I thought")
    typing.clear()
    assert read_typing(tmp_path) is None and list(tmp_path.iterdir()) == []
    typing.clear()  # there is nothing to remove
    typing.show("again")  # at once: it is another answer
    assert read_typing(tmp_path) == ("again", "")


def test_a_text_that_comes_too_soon_is_kept_back_for_the_next(tmp_path: Path):
    typing, seen = Typing(tmp_path), set()
    start = time.monotonic()
    words = [f"{'so ' * n}" for n in range(1, 101)]
    for text in words:
        typing.show(text)
        seen.add(os.stat(tmp_path / NAME).st_mtime_ns)
        time.sleep(0.004)
    assert len(seen) <= (time.monotonic() - start) / EVERY + 1
    after(typing, words[-1])
    assert read_typing(tmp_path) == (words[-1], "")


def test_secrets_are_never_there_not_even_half(tmp_path: Path):
    typing = Typing(tmp_path, [KEY], every=0.0)  # each letter is written
    whole = f"token={TOKEN} and {KEY}, as said"
    for end in range(1, len(whole) + 1):
        typing.show(whole[:end], whole[:end])
        text, thought = read_typing(tmp_path) or ("", "")
        assert TOKEN[:8] not in text + thought and KEY[:8] not in text + thought, whole[:end]
    assert (read_typing(tmp_path) or ("", ""))[0] == f"token={MASK} and {MASK}, as said"


def test_half_characters_do_not_break_it(tmp_path: Path):
    Typing(tmp_path).show("an emoji, cut: \ud83d")
    assert read_typing(tmp_path) == ("an emoji, cut: ?", "")


def test_a_reader_never_sees_half_a_text(tmp_path: Path):
    typing, over, odd = Typing(tmp_path, every=0.0), threading.Event(), []
    typing.show("a " * 10_000)

    def look() -> None:
        while not over.is_set():
            text, _ = read_typing(tmp_path) or ("", "")
            if text not in ("a " * 10_000, "b " * 20_000):
                odd.append(text[:80])

    reader = threading.Thread(target=look)
    reader.start()
    for n in range(200):
        typing.show("a " * 10_000 if n % 2 else "b " * 20_000)
    over.set()
    reader.join()
    assert odd == []


@pytest.mark.parametrize(
    "content", ["", '{"text": "a', '{"text": 1, "thought": ""}', '{"text": "a"}', "[]", "\xff", "[" * 100_000]
)
def test_a_torn_or_odd_file_is_no_text(tmp_path: Path, content: str):
    (tmp_path / NAME).write_text(content, encoding="latin-1")
    assert read_typing(tmp_path) is None


def test_a_link_a_pipe_and_a_folder_are_no_text(tmp_path: Path):
    (tmp_path / "elsewhere").write_text(json.dumps({"text": "not yours", "thought": ""}))
    (tmp_path / NAME).symlink_to(tmp_path / "elsewhere")
    assert read_typing(tmp_path) is None
    (tmp_path / NAME).unlink()
    os.mkfifo(tmp_path / NAME)
    assert read_typing(tmp_path) is None
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).mkdir()
    assert read_typing(tmp_path) is None


def test_a_disk_that_refuses_ends_nothing(tmp_path: Path):
    gone = Typing(tmp_path / "no such folder")
    gone.show("text")
    gone.clear()
    (tmp_path / NAME).mkdir()  # a name that cannot be written to, and not be removed as a file
    refused = Typing(tmp_path)
    refused.show("text")
    refused.clear()


def test_a_long_answer_costs_little(tmp_path: Path):
    text, typing = "Some words, `code` and a | table |. " * 600, Typing(tmp_path, every=0.0)  # 21 kB
    start = time.thread_time()
    for n in range(20):
        typing.show(text[: len(text) - n], text)
    cost = (time.thread_time() - start) / 20
    print(f"{cost * 1000:.1f} ms of CPU a write of 42 kB")
    assert cost < 0.03  # at ten writes a second less than a third of a core
