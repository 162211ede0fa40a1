"""The door of the page: `python app.py`. Starts the worker and serves; it thinks nothing."""

import argparse
import sys
from dataclasses import replace

from agent import settings as env
from agent import shroud
from ui.door import AlreadyOpen, address, listen


def main(argv: list[str] | None = None) -> int:
    """Serve until stopped. 0: done, or ML Intern is there already; 2: a person must act."""
    parser = argparse.ArgumentParser("python app.py", description="ML Intern's page, and the worker behind it.")
    parser.add_argument("--host", help="the address to listen on (default: ML_INTERN_HOST, or 127.0.0.1)")
    parser.add_argument("--port", type=int, help="the port to listen on (default: ML_INTERN_PORT, or 7860)")
    given = {name: value for name, value in vars(parser.parse_args(argv)).items() if value is not None}
    try:
        settings = replace(env.read(), **given)
        door = listen(settings)
    except AlreadyOpen as already:
        print(already)
        return 0
    except env.SettingsError as error:
        print(f"ml-intern: {error}", file=sys.stderr)
        return 2
    env.take_keys_out()
    env.quiet_libraries()
    shroud.redact_errors(settings.secrets)
    from ui.run import serve  # after the line above, which Gradio reads when it is imported

    print(f"ML Intern is at {address(settings)}", flush=True)
    return serve(settings, door)


if __name__ == "__main__":
    sys.exit(main())
