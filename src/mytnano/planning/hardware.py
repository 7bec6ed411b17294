"""Devices that a plan may be made for: what their makers publish, and nothing about the rest."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mytnano.errors import UserError


@dataclass(frozen=True)
class Device:
    """One accelerator.

    Attributes:
        flops: dense bf16 operations a second, without sparsity.
        memory: bytes.
        source: the maker's document that has both.
    """

    name: str
    flops: float
    memory: int
    source: str


def _device(name: str, teraflops: float, gigabytes: float, source: str) -> Device:
    return Device(name, teraflops * 1e12, round(gigabytes * 1e9), source)


DEVICES = {
    device.name: device
    for device in (
        _device("H200", 989, 141, "NVIDIA H200 Tensor Core GPU datasheet (SXM)"),
        _device("H100", 989, 80, "NVIDIA H100 Tensor Core GPU datasheet (SXM)"),
        _device("H100-PCIe", 756, 80, "NVIDIA H100 PCIe product brief"),
        _device("A100-80GB", 312, 80, "NVIDIA A100 Tensor Core GPU datasheet"),
        _device("A100-40GB", 312, 40, "NVIDIA A100 Tensor Core GPU datasheet"),
        _device("L40S", 362, 48, "NVIDIA L40S GPU datasheet"),
        _device("L4", 121, 24, "NVIDIA L4 Tensor Core GPU datasheet"),
        _device("RTX-4090", 165.2, 24, "NVIDIA Ada GPU architecture whitepaper, appendix A"),
        _device("RTX-3090", 71, 24, "NVIDIA Ampere GA102 GPU architecture whitepaper"),
        _device("MI300X", 1307, 192, "AMD Instinct MI300X data sheet"),
    )
}
"""Where a datasheet prints a figure with sparsity, half of it stands here."""


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
        known = ", ".join(DEVICES)
        raise UserError(
            f"'{text}' is no hardware whose figures are known; there are {known}, and numbers of "
            "them such as 8xH100"
        )
    if not 1 <= count <= 100_000:
        raise UserError(f"'{text}' is not a number of devices: give one such as 8x{device.name}")
    return count, device


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def parse_count(text: str, what: str) -> int:
    """``20B`` -> 20,000,000,000; k, M, B (or G) and T as powers of a thousand.

    Raises:
        UserError: it is not a number above zero.
    """
    match = re.fullmatch(r"([0-9.,_]+) ?([kmbgt]?)", text.strip().lower())
    try:
        number = float(match[1].replace(",", "").replace("_", "")) if match else 0.0
    except ValueError:
        number = 0.0
    scale = {"": 1, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
    count = round(number * scale[match[2]]) if match and number < 1e15 else 0
    if count < 1:
        raise UserError(f"'{text}' is not a number of {what}: give one such as 20B or 500M")
    return count
