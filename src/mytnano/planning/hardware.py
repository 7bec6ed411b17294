"""Hardware by the words that people write: ``8xH100``."""

from __future__ import annotations

import re

from mytnano.errors import UserError
from mytnano.measure.devices import DEVICES, Device


def parse_hardware(text: str) -> tuple[int, Device]:
    """``8xH100`` -> (8, the H100); a name alone is one device.

    Raises:
        UserError: an unknown device, or no such number of them.
    """
    match = re.fullmatch(r"(?:([0-9]+) ?[x*] ?)?(.+)", text.strip())
    count = int(match[1] or 1) if match else 0
    name = _plain(match[2]) if match else ""
    device = next((each for each in DEVICES.values() if _plain(each.name) == name), None)
    if device is None:
        raise UserError(
            f"unknown hardware '{text}'; known: {', '.join(DEVICES)}, and several such as 8xH100"
        )
    if not 1 <= count <= 100_000:
        raise UserError(f"'{text}' is not a number of devices: give one such as 8x{device.name}")
    return count, device


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
