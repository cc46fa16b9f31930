"""Figure of a cross-validation: rank of the network that left a patient out."""

from seg_mia.results.charts.drawing import COLOURS, INK, Drawing, Key, framed, style
from seg_mia.results.folds import FoldsResult


def ranks_drawing(result: FoldsResult) -> Drawing:
    """Return how many patients have each rank under the network that left them out, against chance."""
    places = list(range(1, result.networks + 1))
    expected = result.chance * result.patients
    with style():
        figure, axes = framed(2.8)
        axes.bar(places, result.ranks, color=COLOURS[0], width=0.7)
        axes.axhline(expected, color=INK, lw=1, ls=(0, (1, 2)))
        axes.set(
            xlabel="rank of the network that left the patient out, by its confidence",
            ylabel="patients",
            xticks=places,
        )
    counts = ", ".join(f"rank {rank}: {count:.3g}" for rank, count in zip(places, result.ranks, strict=True))
    title = f"Patients by rank of the network that left them out. {counts}; {expected:.1f} expected at each"
    caption = (
        "Rank 1: of all networks, the one that never saw the patient is the least confident. Dotted: as "
        "many as "
        "expected at each rank if nothing leaked."
    )
    return Drawing(figure, title, [Key("patients", COLOURS[0], "", "s", filled=True)], caption)
