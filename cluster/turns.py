"""Reads the turn log of the running application, through the room that owns it: nobody else may open its files."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import sys
from pathlib import Path
from typing import Any

from cluster.detached import join_running
from deployments.answering.protocols import Rating

_TIMEOUT_S = 30.0


def print_turns(state: Path, tenant: str, limit: int, as_json: bool, rating: Rating | None = None) -> int:
    """rating: only turns of which customers said that, with their comments."""
    running = join_running(state)
    if running is None:
        print("Raydesk is not running in this folder, and the turn log is its own: 'make serve' starts it.")
        return 1
    rows = asyncio.run(recent_turns(running.app_name, tenant, limit, rating))
    if as_json:
        for row in rows:
            sys.stdout.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
    elif rows:
        width = shutil.get_terminal_size().columns
        print("\n".join(line(row, width) for row in reversed(rows)))  # the newest at the bottom, where the eye is
    else:
        print(f"No turn of tenant '{tenant}'{f' rated {rating}' if rating else ''} is in the log.")
    return 0


async def recent_turns(app_name: str, tenant: str, limit: int, rating: Rating | None = None) -> list[dict[str, Any]]:
    import ray

    from deployments.app import turn_log_of

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    ray.init(log_to_driver=False, logging_level="ERROR")
    turn_log = turn_log_of(app_name, _TIMEOUT_S)
    return await (turn_log.recent(tenant, limit) if rating is None else turn_log.rated(tenant, rating, limit))


def line(row: dict[str, Any], width: int) -> str:
    """Time (UTC), what came of it and which path answered, milliseconds, intent, question; cut to `width`.

    What the customer said of the answer stands below it, whole.
    """
    came = row["path"] or "-" if row["outcome"] == "answered" else row["error_code"] or row["outcome"]
    intent = f"{row['intent']} {row['intent_confidence']:.2f}" if row["intent"] else ""
    question = " ".join(row["question"].split())
    text = f"{row['started_at']:%m-%d %H:%M:%S}  {came:14} {row['duration_ms']:8.0f} ms  {intent:26} {question}"
    text = text if len(text) <= width else text[: width - 1] + "…"
    comment = " ".join(row.get("comment", "").split())
    return f"{text}\n{'':16}“{comment}”" if comment else text
