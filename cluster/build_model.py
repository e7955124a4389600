"""Builds one bundled model: `python -m cluster.build_model encoder|small-llm FOLDER`.

A process of its own, so that Ctrl-C can end it and the launcher never has to load torch.
"""

from __future__ import annotations

import sys
from pathlib import Path

from models.bundled import ModelBuildError, ensure_encoder, ensure_small_llm

_BUILDERS = {"encoder": ensure_encoder, "small-llm": ensure_small_llm}


def main(name: str, root: str) -> int:
    try:
        _BUILDERS[name](Path(root), lambda line: print(line, flush=True))
    except ModelBuildError as error:
        print(error, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
