"""What the makers of accelerators publish of them, and nothing about the rest."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """One accelerator.

    Attributes:
        name: the words that its driver's name has, joined by '-'.
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
        _device("H100-NVL", 835, 94, "NVIDIA H100 NVL product brief"),
        _device("H100-PCIe", 756, 80, "NVIDIA H100 PCIe product brief"),
        _device("A100-80GB", 312, 80, "NVIDIA A100 Tensor Core GPU datasheet"),
        _device("A100-80GB-PCIe", 312, 80, "NVIDIA A100 Tensor Core GPU datasheet"),
        _device("A100-40GB", 312, 40, "NVIDIA A100 Tensor Core GPU datasheet"),
        _device("L40S", 362, 48, "NVIDIA L40S GPU datasheet"),
        _device("L4", 121, 24, "NVIDIA L4 Tensor Core GPU datasheet"),
        _device("RTX-4090", 165.2, 24, "NVIDIA Ada GPU architecture whitepaper, appendix A"),
        _device("RTX-3090", 71, 24, "NVIDIA Ampere GA102 GPU architecture whitepaper"),
        _device("MI300X", 1307, 192, "AMD Instinct MI300X data sheet"),
    )
}
"""Where a datasheet prints a figure with sparsity, half of it stands here."""

LESS = {"Laptop", "MIG"}
"""Words of drivers' names that stand for less than the device that they also name."""

VARIANTS = {"NVL", "PCIe", "Ti", "SUPER", "D"}
"""Words that make another device of the one that stands before them."""


def device_named(driver: str) -> Device | None:
    """The device that a driver's name stands for, such as ``NVIDIA A100-SXM4-80GB``.

    Every word of the device's name must be one of the driver's, so that 'NVIDIA L40S' is no L4, and
    every variant that the driver names one of the device's, so that 'RTX 3090 Ti' is no RTX 3090;
    of several that fit, the one of most words. None for a device that is not in the table.
    """
    words = set(driver.replace("-", " ").split())
    if words & LESS:
        return None
    fitting = [
        each for each in DEVICES.values() if words & VARIANTS <= set(each.name.split("-")) <= words
    ]
    return max(fitting, key=lambda each: each.name.count("-"), default=None)
