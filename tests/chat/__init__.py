"""A small honest program that stands in for what cannot be reached: a chat provider on loopback that reads from a script.

    with chat_server([says("", ("note", {"topic": "a", "text": "b"})), fails(529, "Overloaded"), says("Done.")]) as server:
        ...

It speaks both protocols on one port, with `stream: true` and without:

| protocol | address | litellm | `api_base` |
|---|---|---|---|
| OpenAI chat-completions | `POST /v1/chat/completions` | `openai/<any name>` | `server.base`, which ends in /v1 |
| Anthropic messages | `POST /v1/messages` | `anthropic/<any name>` | `server.root`, without /v1: litellm adds /v1/messages |

`GET /v1/models` lists one model, with `max_model_len` if the server was given one. With `strict=True` it takes only
messages that a provider would take: tests/chat/rules.py. What a turn can do: tests/chat/turns.py.
`server.requests`, `.headers`, `.paths`, `.spans` and `.left` tell what was asked, when, and who went away early.
"""
