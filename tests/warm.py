"""Everything that a first model call imports, imported: a process that is forked from here begins at once."""

from contextlib import suppress

import litellm
import litellm.responses.mcp.chat_completions_handler  # what the first answer imports: the call below gets none
import openai

import agent.session  # noqa: F401

with suppress(openai.OpenAIError):
    litellm.suppress_debug_info = litellm.disable_token_counter = True
    asked = [{"role": "user", "content": "Is anybody there?"}]
    litellm.completion(
        "openai/nobody", asked, api_key="none", api_base="http://127.0.0.1:9/v1", stream=True, max_retries=0
    )
