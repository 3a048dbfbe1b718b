"""Recall against speed, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.harness import RESULTS

EFS = (10, 20, 40, 80, 160, 320)


@dataclass(frozen=True)
class Curve:
    """One point for each of EFS: recall@10 and queries a second."""

    name: str
    points: list[tuple[float, float]] = field(default_factory=list)

    def add(self, recall: float, speed: float) -> None:
        self.points.append((recall, speed))


def plot(curves: Mapping[str, Sequence[Curve]]) -> None:
    """Writes `results/vector.svg`, one panel for each set."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "vector"
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(curves), figsize=(6.2 * len(curves), 4.6), squeeze=False)
    for panel, (name, ones) in zip(panels[0], curves.items(), strict=True):
        for curve in ones:
            recalls, speeds = zip(*curve.points, strict=True)
            panel.plot(recalls, speeds, marker="o", markersize=4, label=curve.name)
        panel.set(title=name, xlabel="recall@10", ylabel="queries a second", yscale="log")
        panel.grid(which="both", alpha=0.25)
        panel.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(RESULTS / "vector.svg", metadata={"Date": None})
