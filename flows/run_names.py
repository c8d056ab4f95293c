"""Names of flow runs: what they do, and what they do it to."""

from collections.abc import Callable

from sgcldff.core.locations import named
from sgcldff.data.adapters import Source


def named_after(parameter: str) -> Callable[[], str]:
    """Return a function that names a run after its flow and a parameter: slides, data sets, a model or a folder."""

    def name() -> str:
        from prefect.runtime import flow_run

        value = flow_run.parameters[parameter]
        things = value if isinstance(value, list | tuple) else [value]
        if things and isinstance(things[0], Source):
            things = [source.folder for source in things]
        return f"{flow_run.flow_name} {named(map(str, things))}"

    return name
