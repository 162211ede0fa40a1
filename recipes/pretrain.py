"""Build the starter model from nothing: `python -m recipes.pretrain OUT [--steps N] [--seed S] [--threads T]`.

A Llama of 0.9M parameters learns raw equations, worked chains, single list operations and reversed words, as plain
text. It never sees a prompt, the word "Answer", or any dev or held-out question. The same seed and number of threads
give the same weights on the same machine.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from statistics import fmean
from string import ascii_lowercase
from typing import Any

from recipes.benchmarks import ADVERTISED, load

BATCH = 64  # documents a step, about 1,600 tokens: many small steps beat few large ones at this size
STEPS = 2_800  # 749 seconds on two cores that other work shared; the shipped model is this
WARMUP = 50
REPORT = 50  # steps
NOISE = 12  # letters; the prompts put 10 to 13 tokens between a question and its solution
MUON_LR, ADAMW_LR = 0.02, 3e-3  # Muon for the matrices reaches AdamW's loss of 400 steps in about 250 here
INITIAL_STD = 0.06  # Llama's 0.02 is for wide models: at width 128 attention would start flat, and stay so for long
DOCUMENTS = {"chains": 0.40, "lists": 0.25, "words": 0.25, "equations": 0.10}  # shares of documents
LEAST_DOCUMENTS = 4_000  # the tokenizer wants that many even for a run of few steps
WORDS = 12_000  # distinct train words to draw from; reasoning-gym has about 16,000 of them
VOCABULARY = 320  # 256 bytes, two specials, characters joined with the space before them, capitalised words of prompts
# A capitalised word may become one token; every other character is its own, with the space before it.
PIECES = r" ?[A-Z][a-z]+| ?\S|\s"
EOS, PAD = "<|endoftext|>", "<|pad|>"


def chains(count: int, seed: int) -> Iterator[str]:
    """`amm 3 + 4 - 2 excus: 3 + 4 = 7, 7 - 2 = 5`, with noise of varying length before and after the expression."""
    rng = Random(seed)
    for item in load("chains").items("train", count, seed):
        yield f"{noise(rng)}{item.question}{noise(rng)}: {item.worked}".strip()


def lists(count: int, seed: int) -> Iterator[str]:
    """`sort 3 1 4 = 1 3 4`: one operation at a time, never two in a row; noise before it."""
    rng = Random(seed)
    for item in load("lists").items("train", count, seed):
        yield f"{noise(rng)}{rng.choice(item.worked.split(', '))}".strip()


def words(count: int, seed: int) -> Iterator[str]:
    """`: ammonia qei | ainomma`, over and over: there are fewer words than documents."""
    rng = Random(seed)
    answers = [item.answer for item in load("gym:spell_backward").items("train", WORDS, seed)]
    for _ in range(count):
        answer = rng.choice(answers)
        yield f"{noise(rng)}: {answer[::-1]}\n{noise(rng)}| {answer}".strip()


def noise(rng: Random) -> str:
    """Nothing, or up to NOISE letters: a model that copies by distance alone fails at the first unseen prompt."""
    letters = "".join(rng.choice(ascii_lowercase) for _ in range(rng.randint(0, NOISE)))
    return f" {letters} " if letters and rng.random() < 0.7 else " "


def equations(count: int, seed: int) -> Iterator[str]:
    """`13 - 9 = 4, 7 + 8 = 15, -3 + 5 = 2`: two terms each, so never a question of the benchmark."""
    rng = Random(seed)
    for _ in range(count):
        pairs = [(rng.randint(-36, 45), rng.choice("+-"), rng.randint(0, 9)) for _ in range(3)]
        yield ", ".join(f"{a} {sign} {b} = {a + b if sign == '+' else a - b}" for a, sign, b in pairs)


def corpus(count: int, seed: int) -> list[str]:
    """About `count` documents in the shares of DOCUMENTS, shuffled."""
    sources = {"chains": chains, "lists": lists, "words": words, "equations": equations}
    documents = [text for name, share in DOCUMENTS.items() for text in sources[name](round(count * share), seed)]
    Random(seed).shuffle(documents)
    return documents


def build_tokenizer(documents: list[str], seed: int) -> Any:
    """Byte-level BPE over single characters: digits, letters and signs stay apart."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PIECES), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[EOS, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    prompts = [text for name in ADVERTISED for text in example_prompts(name, seed)]
    tokenizer.train_from_iterator(documents[:4_000] + prompts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, pad_token=PAD, model_max_length=512)


def example_prompts(name: str, seed: int, count: int = 500) -> list[str]:
    """Train prompts: the tokenizer, not the model, sees them, so that their words are single tokens."""
    benchmark = load(name)
    items = benchmark.items("train", count, seed)
    return [benchmark.prompt(item) + benchmark.completion(item, worked=False) for item in items]


def build_model(tokenizer: Any) -> Any:
    """An untrained Llama: hidden 128, four layers, four heads, tied embeddings, float32."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=INITIAL_STD,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def batches(documents: list[str], tokenizer: Any, seed: int) -> list[Any]:
    """Every document once, closed by EOS: int64 tensors of shape (BATCH, longest of the batch), padded on the right.

    Documents of like length share a batch, so that little is spent on padding; the order of batches is random.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    encoded = tokenizer.backend_tokenizer.encode_batch_fast(documents, add_special_tokens=False)
    ids = sorted((torch.tensor([*row.ids, tokenizer.eos_token_id]) for row in encoded), key=len)
    groups = [ids[start : start + BATCH] for start in range(0, len(ids), BATCH)]
    Random(seed).shuffle(groups)
    return [pad_sequence(group, batch_first=True, padding_value=tokenizer.pad_token_id) for group in groups]


def pace(step: int, steps: int) -> float:
    """The share of the peak learning rates: linear warm-up, then linear to zero."""
    return min((step + 1) / WARMUP, (steps - step) / max(1, steps - WARMUP), 1.0)


def build_optimizers(model: Any) -> list[Any]:
    """Muon for the matrices between the embeddings, AdamW for embeddings and norms (Jordan et al. 2024; torch's)."""
    import torch

    matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.dim() != 2 or "embed" in name]
    muon = torch.optim.Muon(matrices, lr=MUON_LR, weight_decay=0.01, momentum=0.95)
    return [muon, torch.optim.AdamW(others, lr=ADAMW_LR, betas=(0.9, 0.95), weight_decay=0.0)]


def train(model: Any, feed: list[Any], steps: int) -> float:
    """`steps` batches of `feed`, which starts again where it ends early. Returns the mean loss of the last REPORT steps."""
    from torch.nn.utils import clip_grad_norm_
    from torch.optim.lr_scheduler import LambdaLR

    optimizers = build_optimizers(model)
    schedules = [LambdaLR(o, lambda step: pace(step, steps)) for o in optimizers]
    model.train()
    started, tokens, losses = time.time(), 0, []
    for step in range(steps):
        batch = feed[step % len(feed)]
        real = batch != model.config.pad_token_id
        loss = model(input_ids=batch, attention_mask=real.long(), labels=batch.masked_fill(~real, -100)).loss
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        for stepper in (*optimizers, *schedules):
            stepper.step()
        model.zero_grad(set_to_none=True)
        tokens += int(real.sum())
        losses = [*losses[1 - REPORT :], loss.item()]  # one batch says little: words are harder than equations
        if step % REPORT == 0 or step == steps - 1:
            speed = tokens / (time.time() - started)
            print(f"step {step} of {steps}: loss {fmean(losses):.4f}, {speed:,.0f} tokens/s", flush=True)
    return fmean(losses)


def pretrain(out: Path, steps: int = STEPS, seed: int = 0, threads: int = 2) -> dict[str, float]:
    """Train a starter model and save it, with its tokenizer, into `out`. Returns steps, documents, loss and seconds."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # must be there before torch is
    import torch

    started = time.time()
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    documents = corpus(max(LEAST_DOCUMENTS, steps * BATCH), seed)
    tokenizer = build_tokenizer(documents, seed)
    model = build_model(tokenizer)
    loss = train(model, batches(documents, tokenizer, seed), steps)
    model.eval().save_pretrained(out)
    tokenizer.save_pretrained(out)
    return {"steps": steps, "documents": len(documents), "loss": loss, "seconds": round(time.time() - started, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the starter model.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    print(json.dumps(pretrain(arguments.out, arguments.steps, arguments.seed, arguments.threads)))


if __name__ == "__main__":
    main()
