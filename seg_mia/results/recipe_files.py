"""Files of a recipe's audit: numbers, tables and figures."""

import re
from collections.abc import Sequence
from pathlib import Path

from seg_mia.results.charts.drawing import Drawing
from seg_mia.results.charts.png import pixels
from seg_mia.results.charts.recipe import network_drawing, recipe_roc_drawing, survival_drawing
from seg_mia.results.files import write_bytes, write_json, write_text
from seg_mia.results.pictures import png
from seg_mia.results.recipe import RecipeResult
from seg_mia.results.tables import markdown, recipe_table

FILE = "recipe.json"


def write_recipes(folder: Path, results: Sequence[RecipeResult]) -> None:
    """Write the results of attacks on one recipe into a folder.

    `recipe.json` holds them all, `recipe.md` a table, `recipe_roc.png`, `recipe_networks.png` and, for each
    attack, `recipe_LABEL.png` the figures.
    """
    write_json(folder / FILE, {"recipes": [result.plain() for result in results]})
    write_text(folder / "recipe.md", markdown(recipe_table(results)) + "\n")
    for name, drawing in recipe_figures(results).items():
        file_name = re.sub(r"[^\w.-]+", "_", name)
        write_bytes(folder / f"recipe_{file_name}.png", png(pixels(drawing)))


def recipe_figures(results: Sequence[RecipeResult]) -> dict[str, Drawing]:
    """Return the figures of attacks on one recipe: ROC, number of networks, and patients of each attack."""
    figures = {"roc": recipe_roc_drawing(results)}
    if curves := [result for result in results if result.curve]:
        figures["networks"] = network_drawing(curves)
    return figures | {result.label: survival_drawing(result) for result in results}
