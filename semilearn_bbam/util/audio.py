"""torchaudio, which USB imports even without audio: a placeholder where it does not import."""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from semilearn_bbam.errors import InstallError, first_line

AUDIO = "torchaudio"


class AudioPlaceholder(ModuleType):
    """Replaces torchaudio where it does not import, since USB imports it even without audio; any use raises."""

    def __init__(self, reason: str) -> None:
        super().__init__(AUDIO, self.__doc__)
        self.__spec__ = ModuleSpec(AUDIO, None)
        self.__reason__ = reason

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # libraries look for such names in every module
            raise AttributeError(name)
        raise InstallError(
            f"torchaudio does not import here ({self.__reason__}), so USB's audio parts do not work; install a "
            "torchaudio made for this torch"
        )


def import_audio() -> str:
    """Import torchaudio, or put a placeholder in its place; the reason why it does not import, else an empty text."""
    loaded = sys.modules.get(AUDIO)
    if isinstance(loaded, AudioPlaceholder):
        return loaded.__reason__
    try:
        importlib.import_module(AUDIO)
    except Exception as error:  # whatever a build for another torch raises
        reason = first_line(error)
        sys.modules[AUDIO] = AudioPlaceholder(reason)
        return reason
    return ""
