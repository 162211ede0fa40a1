"""Secrets are taken out, ordinary text is left alone. Every secret here is made up."""

import json
import time

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
        f"hf_api_{TAIL}",
        f"api_org_{TAIL}",
        f"sk-svcacct-{TAIL}",
        f"sk-admin-{TAIL}",
        *(f"gh{letter}_{TAIL}" for letter in "pousr"),
        f"github_pat_{TAIL}",
        f"glpat-{TAIL}",
        f"gsk_{TAIL}",
        f"r8_{TAIL}",
        f"xai-{TAIL}",
        f"pplx-{TAIL}",
        "AKIAABCDEFGHIJKLMNOP",
        "ASIAABCDEFGHIJKLMNOP",
        f"ya29.{TAIL}",
        f"xapp-1-{TAIL}",
        f"dop_v1_{'a0' * 20}",
        f"sq0atp-{TAIL}",
        f"sk_live_{TAIL}",
        f"rk_test_{TAIL}",
        f"AIza{TAIL}",
        f"xoxb-{TAIL}",
        f"npm_{TAIL}",
        f"pypi-{TAIL}",
        f"eyJ{TAIL}.eyJ{TAIL}.{TAIL}",
    ],
)
@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "token {} ok",
        '{{"a": "{}"}}',
        "'{}'",
        "https://x.y/{}?a=1",
        "\n{}\n",
        "({})",
        "a\\n{}\\n",
        "?t%3D{}",
        "_{}",
    ],
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
        json.dumps({"apiKey": "swordfish99"}),
        json.dumps(json.dumps({"client_secret": "swordfish99"})),
        json.dumps(json.dumps(json.dumps({"hf_token": "swordfish99"}))),
        "x-api-key: swordfish99",
        "train.py --hf-token=swordfish99",
        "train.py --api-key swordfish99 --steps 10",
        "login --token swordfish99",
        "HUGGINGFACE_HUB_TOKEN=swordfish99",
        "GITLAB_TOKEN=swordfish99",
        "password = 'a swordfish99 with spaces'",
        "Authorization: Basic swordfish99",
        '"Authorization": "token swordfish99"',
        "postgres://me:swordfish99@host/db",
        "https://bucket.s3/x?X-Amz-Signature=swordfish99&y=1",
        '{"token": "swordfish99swordfish99"}',
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
    assert redact_tree(
        {"password": "of two words", "api_key": ["a", {"b": "c"}], "HF_TOKEN": "short", "secret": 7}
    ) == {
        "password": MASK,
        "api_key": [MASK, {"b": MASK}],
        "HF_TOKEN": MASK,
        "secret": 7,
    }


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
        "max_new_tokens: 2048000 pad_token_id=151643 num_token: 12345678901234567890",
        "dollars_per_token=0.0000025 loss_per_token: 1.234567890123e-05 stop_token_trained: 0.9912345",
        "pad_token = '[PAD]abc' unk_token: '[UNK]xx' first_token: Answering eos_token = tokenizer.eos_token",
        "hf_hub_download, hf_raise_for_status, hf_hub_enable_hf_transfer_timeout in HF_HUB_ENABLE_HF_TRANSFER=1",
        "sk-learn-based-classifier-pipelines and task-sk-abcdefghijklmnopqrst",
        "Basic understanding-of-things, basic arithmetic/subtraction",
        "def load(token: str, api_key: Optional[str] = None, password=os.environ['P'])",
        '{"url":"http://127.0.0.1:7860","mail":"a@b.c"}',
        '{"token": " the", "logprob": -0.0123456789012345}',
    ],
)
def test_ordinary_text_is_left_alone(text):
    assert redact(text) == text
    assert redact_tree({"config": text}) == {"config": text}


def test_the_settings_of_a_job_are_left_alone():
    config = {
        "eos_token": "<|endoftext|>",
        "stop_token": "<|im_end|>",
        "max_new_tokens": 4096,
        "pad_token": "<pad>...",
    } | {"EOS_TOKEN": "<eos>"}
    assert redact_tree(config) == config


def test_what_is_redacted_stays_as_it_is():
    once = redact(f"HF_TOKEN=swordfish99 hf_{TAIL} Authorization: Bearer {TAIL} https://a:b12345@c/?token={TAIL}")
    assert redact(once) == once


@pytest.mark.parametrize(
    "piece",
    ["a-", "a.", "a_", "sk-", "hf_", "eyJ-", "_token=", "--a-", "http://a:", "&a", "bearer ", "password= ", "\\n"],
)
def test_the_cost_is_linear_in_the_text_whatever_it_holds(piece):
    def seconds(characters: int) -> float:
        text = piece * (characters // len(piece))
        start = time.thread_time()  # of this thread alone: other work on the machine does not count
        redact(text)
        return time.thread_time() - start

    redact(piece)
    small, large = (min(seconds(n) for _ in range(3)) for n in (5_000, 40_000))
    assert large < 4 * 8 * small + 0.05  # 8 times the text; a quadratic pattern needs 64 times, and took minutes
