import re

from recipes.benchmarks import ADVERTISED, load, split_of
from recipes.benchmarks.base import normalise
from recipes.pretrain import chains, corpus, lists, pretrain, words
from recipes.seal import model_hash
from tests.recipes.rig import STARTER


def test_three_steps_twice_give_the_same_model(tmp_path):
    for name in ("one", "two"):
        pretrain(tmp_path / name, steps=3, seed=7, threads=1)
    assert model_hash(tmp_path / "one") == model_hash(tmp_path / "two")


def test_the_corpus_holds_no_dev_or_heldout_question():
    expressions = [re.search(r"\d( [+-] \d)+", text) for text in chains(2_000, seed=1)]
    assert all(split_of(found[0]) == "train" for found in expressions)
    template = "Spell this word backward (example: sun -> nus): "
    spelled = [re.search(r": (\S+)\n", text) for text in words(2_000, seed=1)]
    assert all(split_of(template + found[1]) == "train" for found in spelled)
    assert not any("then" in text for text in lists(2_000, seed=1))  # every list question has two operations
    everything = normalise(" ; ".join(corpus(4_000, seed=1)))
    for name in ADVERTISED:
        benchmark = load(name)
        for item in benchmark.items("heldout", 100) + benchmark.items("dev", 100):
            assert normalise(benchmark.prompt(item)) not in everything


def test_the_shipped_model_is_small_and_knows_how_to_stop():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    model = AutoModelForCausalLM.from_pretrained(STARTER)
    assert model.num_parameters() < 1_000_000
    assert tokenizer.chat_template is None
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id != tokenizer.pad_token_id
    assert sum(file.stat().st_size for file in STARTER.iterdir()) < 4_500_000
