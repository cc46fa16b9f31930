"""Files of a recipe's audit: numbers, tables and figures."""

from collections.abc import Sequence
from pathlib import Path

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
    attack, `recipe_NAME.png` the figures.
    """
    write_json(folder / FILE, {"recipes": [result.plain() for result in results]})
    write_text(folder / "recipe.md", markdown(recipe_table(results)) + "\n")
    figures = {"roc": recipe_roc_drawing(results)}
    if curves := [result for result in results if result.curve]:
        figures["networks"] = network_drawing(curves)
    figures |= {result.name: survival_drawing(result) for result in results}
    for name, drawing in figures.items():
        write_bytes(folder / f"recipe_{name}.png", png(pixels(drawing)))
