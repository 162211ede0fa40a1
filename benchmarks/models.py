"""The config.json of published models of 0.1 to 2.6 billion parameters, as far as it decides what training costs."""

from typing import Any

LLAMA = {"model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-5, "tie_word_embeddings": True}
QWEN = {"model_type": "qwen2", "hidden_act": "silu", "rms_norm_eps": 1e-6, "tie_word_embeddings": True}
GEMMA = {"model_type": "gemma2", "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True}


def sizes(hidden: int, layers: int, inner: int, heads: int, shared: int, words: int, length: int) -> dict[str, int]:
    """Width, layers, width between the matrices of the MLP, heads of queries and of keys, vocabulary, most tokens."""
    return {
        "hidden_size": hidden, "num_hidden_layers": layers, "intermediate_size": inner, "num_attention_heads": heads,
        "num_key_value_heads": shared, "vocab_size": words, "max_position_embeddings": length,
    }  # fmt: skip


PUBLISHED: dict[str, dict[str, Any]] = {
    "SmolLM2-135M": LLAMA | sizes(576, 30, 1536, 9, 3, 49_152, 8_192),
    "SmolLM2-360M": LLAMA | sizes(960, 32, 2560, 15, 5, 49_152, 8_192),
    "Qwen2.5-0.5B": QWEN | sizes(896, 24, 4864, 14, 2, 151_936, 32_768),
    "Llama-3.2-1B": LLAMA | sizes(2048, 16, 8192, 32, 8, 128_256, 131_072) | {"head_dim": 64},
    "Qwen2.5-1.5B": QWEN | sizes(1536, 28, 8960, 12, 2, 151_936, 131_072),
    "gemma-2-2b": GEMMA
    | sizes(2304, 26, 9216, 8, 4, 256_000, 8_192)
    | {"head_dim": 256, "query_pre_attn_scalar": 256, "sliding_window": 4096},
}


def llama(hidden: int, layers: int, inner: int, heads: int, words: int) -> dict[str, Any]:
    """A small one."""
    return LLAMA | sizes(hidden, layers, inner, heads, heads, words, 512)
