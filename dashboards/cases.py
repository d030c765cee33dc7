"""Cases in SQL: how a row of the views is named in one line, and which rows are picked."""

from __future__ import annotations

from typing import Final

from dashboards import variables
from dashboards.variables import Variable

#: What ran, in one line: "onnxruntime int8-static, t1 b1 burst". As the label `options` of Prometheus tells the rest:
#: weights where they are not random; and means where no median was to be had, for the two are never compared.
VARIANT: Final = (
    "concat_ws(' ', runtime, recipe || ',', 't' || threads, 'b' || batch, mode, NULLIF(options_text, ''), "
    "NULLIF(weights, 'random'))"
)
#: The same where rows have a statistic.
VARIANT_OF: Final = VARIANT[:-1] + ", CASE WHEN statistic LIKE '%mean%' THEN '(means)' END)"
#: A device's name, marked where it is made up.
DEVICE: Final = "CASE WHEN simulated THEN device || ' (simulated)' ELSE device END"

MODEL: Final = "model = ${model:sqlstring}"
VARIANTS: Final = f"{MODEL} AND {variables.picked('runtime', 'recipe')}"


def model_to_recipe(*, source: str = "coverage") -> list[Variable]:
    """Variables model -> runtime -> recipe.

    Args:
        source: the view whose rows are offered: `coverage` also has what never worked.
    """
    return [
        variables.rows("model", "Model", f"SELECT DISTINCT model FROM {source} ORDER BY model", multi=False),
        variables.rows("runtime", "Runtime", f"SELECT DISTINCT runtime FROM {source} WHERE {MODEL} ORDER BY runtime"),
        variables.rows(
            "recipe",
            "Recipe",
            f"SELECT DISTINCT recipe FROM {source} WHERE {MODEL} AND {variables.picked('runtime')} ORDER BY recipe",
        ),
    ]
