"""A batch in several passes of rows of like length: the same learning for less padding."""

import pytest

from recipes import sft
from recipes.training import Parts, arguments, load_tokenizer, prepare_machine
from tests.recipes.rig import STARTER

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
    """64 rows of 8 to 250 tokens: 16,000 padded tokens in one pass; 9,199 in eight, and eight times 128 for them."""
    assert sft.passes([60] * 256, 64, "cpu") == 1
    assert sft.passes(list(range(8, 251)), 64, "cpu") == 8
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


@pytest.mark.slow
def test_a_step_is_that_of_the_whole_batch(tmp_path):
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
