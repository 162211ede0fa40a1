"""The vault of items."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from lab.errors import BadInput
from lab.tasks import SIZES, Vault, check_training_rows, read_rows


@pytest.mark.parametrize("name", ["chains", "lists", "gym:spell_backward"])
def test_items_are_made_once_distinct_and_readable_by_nobody_else(tmp_path: Path, name):
    vault = Vault(tmp_path / "vault")
    files = {split: vault.items(name, split) for split in SIZES}
    rows = {split: read_rows(path) for split, path in files.items()}
    questions = [row["question"] for split in rows for row in rows[split]]
    assert {split: len(found) for split, found in rows.items()} == SIZES
    assert len(set(questions)) == len(questions)
    assert (tmp_path / "vault").stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in files.values())
    written = files["dev"].stat().st_mtime_ns
    assert vault.items(name, "dev").stat().st_mtime_ns == written


def test_a_persons_file_that_changes_is_another_task(tmp_path: Path):
    table = tmp_path / "questions.jsonl"
    vault = Vault(tmp_path / "vault")

    def write(count: int) -> None:
        rows = [{"question": f"What is {i} plus {i}?", "answer": str(2 * i)} for i in range(count)]
        table.write_text("".join(json.dumps(row) + "\n" for row in rows))

    write(300)
    first = vault.items(f"table:{table}", "heldout")
    write(600)
    second = vault.items(f"table:{table}", "heldout")
    assert first != second and len(read_rows(second)) > len(read_rows(first))


@pytest.mark.parametrize("text", ["", "[1, 2]\n", '{"prompt": "a"}\n', "\xff\xfe"])
def test_training_rows_that_cannot_be_used_are_one_sentence(tmp_path: Path, text):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(BadInput) as error:
        check_training_rows(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(BadInput, match="could not be read"):
        check_training_rows(tmp_path)


def test_a_line_separator_inside_a_text_is_not_the_end_of_a_row(tmp_path: Path):
    table = tmp_path / "questions.jsonl"
    rows = [{"question": f"What is {i}\u2028plus {i}?", "answer": str(2 * i)} for i in range(300)]
    table.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    vault = Vault(tmp_path / "vault")
    assert all("\u2028" in row["question"] for row in read_rows(vault.items(f"table:{table}", "heldout")))
    assert vault.index(f"table:{table}")


def test_sessions_that_begin_at_once_share_one_vault(tmp_path: Path):
    with ThreadPoolExecutor(8) as sessions:
        for home in range(10):
            together = Barrier(8)

            def first(_: int, home: int = home, together: Barrier = together) -> Path:
                together.wait()
                return Vault(tmp_path / f"vault-{home}").items("chains", "dev")

            (made,) = set(sessions.map(first, range(8)))
            assert len(read_rows(made)) == SIZES["dev"]
