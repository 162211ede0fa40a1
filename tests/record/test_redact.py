"""Secrets are taken out, ordinary text is left alone. Every secret here is made up."""

import json

import pytest

from record.redact import MASK, redact, redact_tree

TAIL = "AbCdEf0123456789AbCdEf0123456789AbCd"


@pytest.mark.parametrize(
    "secret",
    [
        f"hf_{TAIL}",
        f"hf_oauth_{TAIL}",
        f"hf_jwt_{TAIL}",
        f"sk-{TAIL}",
        f"sk-ant-api03-{TAIL}",
        f"sk-proj-{TAIL}",
        f"sk-or-v1-{TAIL}",
        f"ghp_{TAIL}",
        f"github_pat_{TAIL}",
        f"glpat-{TAIL}",
        f"gsk_{TAIL}",
        f"r8_{TAIL}",
        "AKIAABCDEFGHIJKLMNOP",
        f"AIza{TAIL}",
        f"xoxb-{TAIL}",
        f"npm_{TAIL}",
        f"pypi-{TAIL}",
        f"eyJ{TAIL}.eyJ{TAIL}.{TAIL}",
    ],
)
@pytest.mark.parametrize(
    "around", ["{}", "token {} ok", '{{"a": "{}"}}', "'{}'", "https://x.y/{}?a=1", "\n{}\n", "({})"]
)
def test_tokens_are_known_by_their_shape_wherever_they_stand(secret, around):
    text = redact(around.format(secret))
    assert secret not in text and secret[8:] not in text and MASK in text


@pytest.mark.parametrize(
    "text",
    [
        "API_KEY=swordfish99",
        "export OPENAI_API_KEY='swordfish99'",
        'password: "swordfish99"',
        json.dumps({"api_key": "swordfish99"}),
        json.dumps(json.dumps({"client_secret": "swordfish99"})),
        "Authorization: Bearer swordfish99swordfish99",
        "git clone https://me:swordfish99@host/repo",
        "http://127.0.0.1:7860/?write_token=swordfish99",
        "-----BEGIN RSA PRIVATE KEY-----\nswordfish99\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nswordfish99",
    ],
)
def test_values_with_the_name_of_a_secret_are_taken_out(text):
    assert "swordfish99" not in redact(text)


def test_a_known_value_is_taken_out_in_any_form():
    secret = 'quote"and\\slash'
    for text in (f"it is {secret}.", json.dumps({"x": secret})):
        assert MASK in redact(text, [secret])
    assert redact("the word is the", ["the"]) == "the word is the"  # too short to be a secret


def test_trees_are_walked_to_their_leaves_and_keys():
    tree = {"hf_token": "swordfish99", "n": [1, {"k": f"hf_{TAIL}"}], f"ghp_{TAIL}": (True, None)}
    assert redact_tree(tree) == {"hf_token": MASK, "n": [1, {"k": MASK}], MASK: [True, None]}


@pytest.mark.parametrize(
    "text",
    [
        "num_tokens: 12345678, mean_token_accuracy=0.98765",
        'eos_token: "<|endoftext|>" pad_token="<|endoftext|>" stop_token = "<|im_end|>"',
        json.dumps({"eos_token": "<|endoftext|>", "stop_token": "<|im_end|>", "max_new_tokens": 2048000}),
        "sha256 3b8444c4a634f99a2a5ad665e374347464298fa5f948c3a0c491b0a4251e0af4",
        "the lr is 1e-3 and the secret of good data is curation",
        "tokens per second: 11343.6; skip-connection; task-force",
        "Bearer of bad news: the loss is nan",
        "https://example.org/papers/2408.03314?page=2",
    ],
)
def test_ordinary_text_is_left_alone(text):
    assert redact(text) == text
    assert redact_tree({"config": text}) == {"config": text}


def test_the_settings_of_a_job_are_left_alone():
    config = {"eos_token": "<|endoftext|>", "stop_token": "<|im_end|>", "max_new_tokens": 4096, "pad_token": "<pad>..."}
    assert redact_tree(config) == config
