"""Which keys are down and which were struck, by name. On the GUI's thread, between frames."""

from __future__ import annotations

from . import gui

# Dear PyGui 2.3 names these four by codes its own backend no longer uses; Dear ImGui's are right.
_EQUAL, _PAGE_UP, _PAGE_DOWN, _SUPERS = 602, 517, 518, (530, 534)

HELD: dict[str, str | int] = {
    **{name: f"mvKey_{name}" for name in ("W", "A", "S", "D", "Q", "E", "C", "Left", "Right", "Up", "Down")},
    "Space": "mvKey_Spacebar",
}
STRUCK: dict[str, str | int] = {
    **{name: f"mvKey_{name}" for name in "FRBGKTOPQSZY"},
    **{str(digit): f"mvKey_{digit}" for digit in range(1, 10)},
    "[": "mvKey_Open_Brace", "]": "mvKey_Close_Brace", "+": _EQUAL, "-": "mvKey_Minus", ",": "mvKey_Comma", ".": "mvKey_Period",
    "Tab": "mvKey_Tab", "F1": "mvKey_F1", "Escape": "mvKey_Escape", "PageUp": _PAGE_UP, "PageDown": _PAGE_DOWN,
}  # fmt: skip


def _code(constant: str | int) -> int:
    return constant if isinstance(constant, int) else int(getattr(gui, constant))


def shift() -> bool:
    return bool(gui.is_key_down(_code("mvKey_LShift")) or gui.is_key_down(_code("mvKey_RShift")))


def control() -> bool:
    names = ("mvKey_LControl", "mvKey_RControl", *_SUPERS)
    return any(gui.is_key_down(_code(name)) for name in names)


def held() -> list[str]:
    return [name for name, constant in HELD.items() if gui.is_key_down(_code(constant))]


def struck() -> list[str]:
    return [name for name, constant in STRUCK.items() if gui.is_key_pressed(_code(constant))]
