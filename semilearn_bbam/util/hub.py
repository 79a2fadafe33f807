"""The Hugging Face hub without long waits: local files first, and a quick check whether it answers."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from huggingface_hub import constants

from semilearn_bbam.errors import first_line

T = TypeVar("T")
TIMEOUT = 5.0  # seconds


class Unavailable(Exception):
    """A file is neither in a folder nor in the local cache, and cannot be downloaded; the text has the reason."""


def hub_answers() -> bool:
    """Whether the hub may be used (HF_HUB_OFFLINE, HF_ENDPOINT) and answers within a few seconds."""
    return not constants.HF_HUB_OFFLINE and answers(constants.ENDPOINT)


def answers(address: str) -> bool:
    """Whether a server answers at `address` within a few seconds; an error page is an answer too."""
    responses: list[bool] = []

    def request_head() -> None:
        try:
            request = urllib.request.Request(address, method="HEAD")
            urllib.request.urlopen(request, timeout=TIMEOUT).close()
        except urllib.error.HTTPError:
            pass
        except (OSError, ValueError):  # no connection, or no address
            return
        responses.append(True)

    # In a thread, because the time limit of a request does not cover the look-up of the host's name.
    thread = threading.Thread(target=request_head, daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    return bool(responses)


def load_local_or_hub(name: str, load: Callable[[str, bool], T]) -> T:
    """`load(folder or name, local files only)` of a folder, else of the local cache, else of the hub.

    Unavailable where that fails, within seconds if the hub does not answer; its text is part of a sentence.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        try:
            return load(str(folder), True)
        except Exception as error:  # transformers raises a dozen types here, from OSError to KeyError
            raise Unavailable(f"the folder {folder} cannot be used ({first_line(error)})") from error
    if folder.is_absolute() or name.startswith((".", "~")):
        raise Unavailable(f"the folder {folder} does not exist")
    try:
        return load(name, True)
    except Exception as error:
        if not hub_answers():
            raise Unavailable(
                f"{name!r} is neither a folder nor in the local cache, and the hub cannot be reached"
            ) from error
    try:
        return load(name, False)
    except Exception as error:
        raise Unavailable(f"{name!r} cannot be downloaded from the hub ({first_line(error)})") from error
