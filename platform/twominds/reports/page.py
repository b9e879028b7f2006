"""A report as one HTML page that loads nothing: templates extend `page.html.j2`, which has the style and the macros."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, **values: Any) -> str:
    """Fills an HTML template and returns the page.

    Args:
        template: Its path below `reports/`.
        **values: What it shows. Text is escaped; a name that the template does not know is an error.
    """
    environment = Environment(
        loader=PackageLoader("twominds", "reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
