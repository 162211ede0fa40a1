"""A batch in several passes of rows of like length: the same learning for less padding."""

import pytest

from recipes import grpo, probe, sft
from recipes.training import Parts, arguments, load_tokenizer, prepare_machine
from tests.recipes.rig import STARTER, metric

ROWS = [{"prompt": "Go on:", "completion": "1 2 3 " * (1 + at * 2)} for at in range(16)]
TWO_STEPS = {
    "batch_size": 16,
    "max_steps": 2,
    "max_length": 256,
    "eval_fraction": 0.0,
    "log_steps": 1,
    "warmup_steps": 0,
}


def test_rows_of_one_length_stay_together_and_others_are_cut_where_it_pays():
    """64 rows of 8 to 250 tokens: 16,000 padded tokens in one pass; 10,168 in four, and four times 256 for them."""
    assert sft.passes([60] * 256, 64, "cpu") == 1
    assert sft.passes(list(range(8, 251)), 64, "cpu") == 4
    assert sft.passes(list(range(8, 251)), 64, "cuda") == 1  # a pass costs more than the padding
    assert sft.passes(list(range(8, 4097)), 64, "cuda") > 1
    assert sft.passes([], 64, "cpu") == 1  # lengths that nobody knows, and packed rows


def test_the_rows_of_a_step_in_the_probe_are_sorted_as_the_trainer_does():
    config = sft.Config.model_validate({"model": "m", "data": "d", **TWO_STEPS})
    given = {"gradient_accumulation_steps": 1, "train_sampling_strategy": "sequential"}
    made = sft.in_passes(Parts(config, "cpu", None, ROWS[::-1], [], given, [], list(range(8, 251))))
    assert made.train == ROWS
    cut = made.arguments["gradient_accumulation_steps"]
    assert cut > 1 and made.arguments["per_device_train_batch_size"] * cut == 16
    assert made.arguments["train_sampling_strategy"] == "sequential"
    assert made.arguments["per_device_eval_batch_size"] == 16 // cut  # no more memory than a pass
    assert probe._pass(config, made.lengths) == {"batch_size": 16 // cut, "grad_accumulation": cut}  # nor foretold


def test_rows_are_not_repeated_to_fill_passes():
    config = sft.Config.model_validate({"model": "m", "data": "d", **TWO_STEPS})
    few = Parts(config, "cpu", None, ROWS[:3], [], {"gradient_accumulation_steps": 1}, [], [10, 400, 2400])
    assert sft.passes(few.lengths, 16, "cpu") == 4
    assert sft.in_passes(few) is few


@pytest.mark.slow
def test_a_step_is_that_of_the_whole_batch_also_where_the_models_own_loss_knows_no_batch(tmp_path, monkeypatch):
    from transformers import LlamaForCausalLM

    monkeypatch.setattr(LlamaForCausalLM, "accepts_loss_kwargs", False, raising=False)  # as Gemma 3
    config = sft.Config.model_validate({"model": str(STARTER), "data": "d", **TWO_STEPS})
    tokenizer, device = load_tokenizer(config.model), prepare_machine()
    given = arguments(config, tmp_path, device, False)
    whole, cut = (
        sft.build(Parts(config, device, tokenizer, ROWS, [], given, [], lengths))
        for lengths in ([], config.lengths(ROWS, tokenizer))
    )
    assert cut.args.gradient_accumulation_steps > whole.args.gradient_accumulation_steps == 1
    whole.train()
    cut.train()
    for name in ("loss", "grad_norm", "num_tokens"):
        one, other = ([line[name] for line in t.state.log_history if name in line] for t in (whole, cut))
        assert one == pytest.approx(other, rel=1e-4)
    pairs = zip(whole.model.parameters(), cut.model.parameters(), strict=True)
    assert max((one - other).abs().max().item() for one, other in pairs) < 1e-4  # AdamW moves each by 1e-3 a step
    collate, sizes = cut.data_collator, []
    cut.data_collator = lambda rows: sizes.append(len(rows)) or collate(rows)
    cut.args.per_device_train_batch_size = 2
    probe._overfit(cut, config, 0.0)
    assert sizes == [2, 2, 2, 2]  # 8 rows; more at once may not fit into memory


@pytest.mark.slow
def test_an_evaluation_of_grpo_has_whole_groups(tmp_path):
    """Memory may have made the batch smaller than a group of answers."""
    made = {"batch_size": 2, "grad_accumulation": 4, "generations": 4, "rewards": [{"kind": "format", "pattern": "7"}]}
    config = grpo.Config.model_validate({"model": str(STARTER), "data": "d", **made})
    rows, device = [{"prompt": row["prompt"]} for row in ROWS], prepare_machine()
    given = arguments(config, tmp_path, device, True)
    trainer = grpo.build(Parts(config, device, load_tokenizer(config.model), rows, rows[:4], given, [], []))
    assert (trainer.args.per_device_train_batch_size, trainer.args.per_device_eval_batch_size) == (2, 4)


@pytest.mark.slow
def test_the_gallery_trains_as_the_recipe_does(tmp_path):
    from benchmarks import gallery

    gallery.sft(tmp_path, 0, rows=40, max_steps=1)
    assert len(metric(tmp_path, "loss")) == 1
