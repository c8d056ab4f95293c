"""Names of flow runs: what they do, and what they do it to."""

from collections.abc import Callable, Mapping

from sgcldff.core.locations import named


def named_after(parameter: str) -> Callable[[], str]:
    """Return a function that names a run after its flow and a parameter: slides, data sets, a model or a folder."""

    def name() -> str:
        from prefect.runtime import flow_run

        value = flow_run.parameters[parameter]
        things = value if isinstance(value, list | tuple) else [value]
        folders = [
            thing["folder"] if isinstance(thing, Mapping) else getattr(thing, "folder", thing) for thing in things
        ]
        return f"{flow_run.flow_name} {named(map(str, folders))}"

    return name
