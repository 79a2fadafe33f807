"""Settings without the folders of this machine, so that a run is recognised on another one."""

from __future__ import annotations

import re

# An absolute path up to its last "/": it begins a value, or follows what nets and encoders have before a path.
_FOLDERS = re.compile(r"""(?:^|(?<=[\s:@,'"]))/[^,@'"\n]*/""", re.MULTILINE)


def without_folders(text: str) -> str:
    """Text of settings with the names of files and folders alone where it has absolute paths.

    >>> without_folders("/data/weights/lite0.pth"), without_folders("hf:/models/minilm, timm:vit@/data/vit.pth")
    ('lite0.pth', 'hf:minilm, timm:vit@vit.pth')
    >>> without_folders("runs/first.yaml"), without_folders("/")
    ('runs/first.yaml', '/')
    """
    return _FOLDERS.sub("", text)
