"""The machine's peak: measured on a CPU, published for known GPUs, else not claimed."""

import pytest

from mytnano.training.peak import measured_peak, published_peak


def test_a_measured_peak_is_a_speed_of_matrix_products():
    assert 1e8 < measured_peak("fp32", seconds=0.05) < 1e15


@pytest.mark.parametrize(
    ("name", "flops"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA H200 NVL", None),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A100 80GB PCIe", 312e12),
        ("NVIDIA A100-PCIE-40GB", 312e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA GeForce RTX 4090", 165.2e12),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA GeForce RTX 3090", 71e12),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("Tesla T4", None),
        ("NVIDIA L400", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("AMD Instinct MI300X", 1307e12),
        ("AMD Instinct MI250X", None),
    ],
)
def test_published_peaks_are_of_that_very_device(name, flops):
    found = published_peak(name, "bf16")
    assert found.flops == flops
    if flops is None:
        assert name in found.source


def test_no_published_peak_stands_for_another_precision():
    found = published_peak("NVIDIA H200", "fp32")
    assert found.flops is None and "bf16" in found.source
