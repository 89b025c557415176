"""JSON as scene files use it: comments and trailing commas allowed, and errors that say where."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ..errors import UserError

# A string (kept), or a comment: // and # to the end of the line, /* ... */ across lines.
_TOKEN = re.compile(r'"(?:\\.|[^"\\\n])*"|//[^\n]*|\#[^\n]*|/\*.*?\*/', re.DOTALL)
_TRAILING_COMMA = re.compile(r'"(?:\\.|[^"\\\n])*"|,(?=\s*[\]}])')


def _blank(match: re.Match[str]) -> str:
    text = match.group()
    return text if text.startswith('"') else re.sub(r"[^\n]", " ", text)


def strip_comments(text: str) -> str:
    """``text`` with comments and trailing commas turned into blanks, so that positions stay true."""
    return _TRAILING_COMMA.sub(_blank, _TOKEN.sub(_blank, text))


def read_json(path: Path) -> dict[str, Any]:
    """The object a JSON file holds; a byte-order mark and comments are allowed.

    Raises:
        UserError: missing, unreadable, not UTF-8, invalid (with line and column), or not an object.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file (byte {error.start} is no UTF-8); give a JSON file") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        document = json.loads(strip_comments(text))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: invalid JSON at line {error.lineno}, column {error.colno} ({error.msg}); correct the file") from error
    except RecursionError as error:
        raise UserError(f"{path}: invalid JSON (nested too deeply); correct the file") from error
    if not isinstance(document, dict):
        raise UserError(f"{path}: the file must hold a JSON object with a list of frames, not a {type(document).__name__}")
    return document
