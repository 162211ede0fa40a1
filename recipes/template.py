"""The chat template of SFT on conversations: a model's own, or one that it is given, trained with and saved with it.

The judge and every later recipe find it in the tokenizer. None of these adds a token: its rows would have to be drawn at
random and learned, in the head, too, and an adapter leaves both as they are. So under an adapter, which could not teach
ChatML's two tokens to a model that has them and has never seen them, turns end with the EOS of its own pre-training.
"""

from typing import Any, Literal

from recipes.job import ConfigError

Template = Literal["auto", "own", "chatml", "plain"]
CHATML = ("<|im_start|>", "<|im_end|>")
# {% generation %} marks what is learned: TRL 1.16 and transformers 5.23 leave all else out of the loss.
TURNS = (
    "{% for message in messages %}{{ OPEN }}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + CLOSE }}{% endgeneration %}"
    "{% else %}{{ message['content'] + CLOSE }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ FIRST }}{% endif %}"
)
WORDS = {  # (before a turn, after it, before an answer), as Jinja has them
    "chatml": ("'<|im_start|>' + message['role'] + '\n'", "'<|im_end|>'", "'<|im_start|>assistant\n'"),
    "plain": ("message['role'] | capitalize + ':\n'", "eos_token", "'Assistant:\n'"),
}


def chosen(asked: Template, tokenizer: Any, adapter: bool) -> str:
    """Which template to train with: "own", "chatml" or "plain". Raises ConfigError for one that cannot be."""
    if tokenizer.chat_template and asked in ("auto", "own"):
        return "own"
    known = all(len(tokenizer.encode(mark, add_special_tokens=False)) == 1 for mark in CHATML)
    if asked == "own":
        raise ConfigError("The model has no chat template of its own; leave template at auto, and it is given one.")
    if asked == "chatml" and not known:
        raise ConfigError(f"The model has no tokens {' and '.join(CHATML)}; leave template at auto.")
    return asked if asked != "auto" else "chatml" if known and not adapter else "plain"


def dressed(tokenizer: Any, name: str) -> Any:
    """The tokenizer with this template, and with its end of turn as EOS: trainers take that over into the model's configs."""
    if name == "own":
        return tokenizer
    opens, closes, first = WORDS[name]
    turns = TURNS.replace("OPEN", opens).replace("CLOSE", closes).replace("FIRST", first)
    begins = tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    tokenizer.chat_template = ("{{ bos_token }}" if begins else "") + turns
    if name == "chatml":
        tokenizer.eos_token = CHATML[1]
    return tokenizer
