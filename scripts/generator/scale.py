"""The regions about larger models: the coordinate check, and memory planned against measured."""

from __future__ import annotations

from generator.tables import Project, conditions, paragraphs, table

COORDINATES = "results/scale/coordinates.json"
MEMORY = "results/scale/memory.json"
SHOWN = (("width", "stream"), ("width", "logits"), ("layers", "stream"), ("layers", "logits"))
NAMES = {"width": "width", "layers": "depth"}


def coordinates(project: Project) -> str:
    """With which power of the size activations grow, the lowest and the highest seed."""
    found = project.read(COORDINATES)
    if found is None:
        return "Not measured in this tree: `scripts/publish.py scale` makes it."
    rows = []
    for scaling, axes in found["scalings"].items():
        cells = []
        for axis, place in SHOWN:
            powers = [growth[place] for growth in axes[axis]["growth"].values()]
            cells.append(f"{min(powers):+.2f} to {max(powers):+.2f}")
        rows.append((f"`{scaling}`", *cells))
    header = ("scaling", *(f"{NAMES[axis]}: {place}" for axis, place in SHOWN))
    seeds = len(next(iter(found["scalings"].values()))["width"]["growth"])
    told = f"Lowest and highest of {seeds} seeds, {found['steps']} steps at a rate of "
    told += f"{found['config']['optim']['lr']:g} (`{COORDINATES}`). "
    return paragraphs(table(header, rows, header[1:]), told + conditions(found["environment"]))


def memory(project: Project) -> str:
    """Planned over measured memory of each shape."""
    found = project.read(MEMORY)
    if found is None:
        return "Not measured in this tree: `scripts/publish.py scale` makes it."
    rows = [
        (
            name,
            f"{shape['measured'] / 1e6:,.0f} MB",
            f"{shape['ratio']:.3f}",
            f"{shape['tensors_ratio']:.3f}",
        )
        for name, shape in found["shapes"].items()
    ]
    header = ("shape", "resident, measured", "planned / measured", "tensors alone")
    return paragraphs(table(header, rows, header[1:]), conditions(found["environment"]))
