import json

import pytest

from recipes.benchmarks import ADVERTISED, load, split_of

FAMILIES = (*ADVERTISED, "gym:leg_counting")


@pytest.mark.parametrize("name", FAMILIES)
def test_splits_share_no_question(name):
    benchmark = load(name)
    questions = {s: {i.question for i in benchmark.items(s, 300, seed=3)} for s in ("train", "dev", "heldout")}
    assert all(split_of(question) == s for s, asked in questions.items() for question in asked)
    assert not questions["train"] & questions["dev"] | questions["dev"] & questions["heldout"]
    assert not questions["train"] & questions["heldout"]


@pytest.mark.parametrize("name", FAMILIES)
def test_dev_and_heldout_are_distinct_and_the_same_for_every_session(name):
    benchmark = load(name)
    for split in ("dev", "heldout"):
        items = benchmark.items(split, 100, seed=1)
        assert len({item.id for item in items}) == 100
        assert items == load(name).items(split, 100, seed=2)
    assert benchmark.items("train", 50, seed=1) != benchmark.items("train", 50, seed=2)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("worked", [True, False])
def test_what_is_trained_scores_and_nonsense_does_not(name, worked):
    benchmark = load(name)
    for item in benchmark.items("train", 50, seed=5):
        assert benchmark.score(benchmark.completion(item, worked), item)
        assert not benchmark.score("", item)
        assert not benchmark.score("Answer: nothing like it", item)


def test_the_question_of_a_chain_computes_to_its_answer():
    for item in load("chains").items("heldout", 200):
        assert str(eval(item.question)) == item.answer  # digits, + and - of our own making
        assert item.worked.endswith(f"= {item.answer}")


def test_a_list_answer_is_read_with_commas_and_brackets_too():
    lists = load("lists")
    assert lists.extract("sort it.\nAnswer: [1, 2, 14]\n") == "1 2 14"
    assert lists.extract("1 2 14") is None


def test_only_full_marks_of_a_gym_scorer_count():
    benchmark = load("gym:spell_backward")
    item = next(i for i in benchmark.items("train", 50) if len(set(i.answer)) > 3)
    swapped = item.answer[1] + item.answer[0] + item.answer[2:]  # reasoning-gym gives this part marks
    assert not benchmark.score(f"Answer: {swapped}", item) or swapped == item.answer


@pytest.mark.parametrize(
    ("name", "says"),
    [("chians", "chains, lists, gym:"), ("gym:nothing_like_it", "has no family"), ("gym:", "There is no benchmark")],
)
def test_an_unknown_name_is_one_sentence(name, says):
    with pytest.raises(ValueError, match=says) as caught:
        load(name)
    assert str(caught.value).count("\n") == 0


def write_table(path, rows):
    if path.suffix == ".csv":
        path.write_text("Problem,Solution\n" + "".join(f'"{q}","{a}"\n' for q, a in rows))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in rows))
    else:
        from pyarrow import Table, parquet

        parquet.write_table(Table.from_pylist([{"prompt": q, "completion": a} for q, a in rows]), path)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_table_is_read_and_its_duplicates_cannot_straddle(tmp_path, suffix):
    rows = [(f"What is {a} times {b}?", str(a * b)) for a in range(12) for b in range(12)]
    write_table(tmp_path / f"t{suffix}", rows + [(q.upper().replace(" ", "  "), a) for q, a in rows])
    table = load(f"table:{tmp_path / f't{suffix}'}")
    ids = [{item.id for item in table.items(split, 1_000)} for split in ("train", "dev", "heldout")]
    assert sum(map(len, ids)) == len(set.union(*ids)) == len(rows)


def test_a_table_in_the_gsm8k_style_has_worked_solutions(tmp_path):
    path = tmp_path / "t.jsonl"
    rows = [{"question": f"{n} + 1?", "answer": f"{n} + 1 = {n + 1}. #### {n + 1}"} for n in range(30)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = load(f"table:{path}")
    item = table.items("train", 1)[0]
    assert table.completion(item, worked=True).startswith(item.question[:-1] + " = ")
    assert table.score(table.completion(item, worked=True), item)
    assert not table.score(f"Answer: {item.answer}0", item)


@pytest.mark.parametrize(
    ("content", "says"),
    [("", "has no rows"), ('{"text": "a"}\n', "it has 'text'"), ("not json\n", "cannot be read")],
)
def test_a_bad_table_is_one_sentence(tmp_path, content, says):
    (tmp_path / "t.jsonl").write_text(content)
    with pytest.raises(ValueError, match=says):
        load(f"table:{tmp_path / 't.jsonl'}").items("dev", 5)


def test_a_missing_table_file_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="There is no file"):
        load(f"table:{tmp_path / 'none.csv'}").items("dev", 5)


def test_table_answers_match_after_normalisation(tmp_path):
    (tmp_path / "t.csv").write_text('question,answer\nHow many?,"1,250"\nWhere?,New  York.\n')
    table = load(f"table:{tmp_path / 't.csv'}")
    number, place = table.rows
    assert table.score("It is so. Answer: 1250.", number)
    assert table.score("new york", place)
    assert not table.score("Answer: York", place)
