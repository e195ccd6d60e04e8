"""A report is written once, as Markdown; here it becomes one HTML page that needs no other file."""

import base64
import mimetypes
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import jinja2
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup
from matplotlib.figure import Figure

from trm_jax.reporting import markdown
from trm_jax.reporting.style import svg
from trm_jax.support.files import write_text


def template(package: str, name: str) -> jinja2.Template:
    """A template of one of our packages, in its `templates`; one of HTML escapes its values and may extend `page.html`.

    ``table`` and ``bullets`` of `markdown` are known to it; a name that is not given is an error.
    """
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader(place, "templates") for place in (package, "trm_jax.reporting")]
        ),
        autoescape=jinja2.select_autoescape(("html",)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {"table": markdown.table, "bullets": markdown.bullets}
    return environment.get_template(name)


def write_report(directory: Path, text: str, figures: Mapping[str, Figure]) -> None:
    """Write report.md without raw HTML, report.html and figures/NAME.svg, each file whole or not at all.

    ``text`` is Markdown that shows a figure as ``![caption](figures/NAME.svg)``.
    """
    pictures = {f"figures/{name}.svg": svg(figure) for name, figure in figures.items()}
    (directory / "figures").mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        write_text(directory / name, picture)
    text = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
    write_text(directory / "report.md", markdown.without_html(text))
    write_text(directory / "report.html", html_page(text, {name: text.encode() for name, text in pictures.items()}))


def html_page(text: str, pictures: Mapping[str, bytes]) -> str:
    """Markdown as a page with its pictures inside, which are given by the paths under which the text shows them.

    Raw HTML in the text is shown as text. The first heading is the title. Raises KeyError for a picture not given.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")

    def image(renderer: Any, tokens: Sequence[Token], place: int, options: Any, env: Any) -> str:
        path = str(tokens[place].attrs["src"])
        caption = escape(renderer.renderInlineAsText(tokens[place].children or [], options, env))
        data = base64.b64encode(pictures[path]).decode()
        return f'<img src="data:{mimetypes.guess_type(path)[0]};base64,{data}" alt="{caption}">'

    rules = {
        "image": image,
        "text": lambda _, tokens, place, *__: _unbroken(escape(tokens[place].content, quote=False)),
        "code_inline": lambda _, tokens, place, *__: (
            f"<code>{escape(tokens[place].content).replace('_', '_<wbr>')}</code>"
        ),
        "table_open": lambda *_: '<div class="scroll" tabindex="0"><table>\n',
        "table_close": lambda *_: "</table></div>\n",
    }
    for name, rule in rules.items():
        parser.add_render_rule(name, rule)
    title = re.search(r"^# (.+)", text, re.MULTILINE)
    content = Markup(parser.render(text))
    return template("trm_jax.reporting", "page.html").render(title=title[1] if title else "", content=content)


def _unbroken(text: str) -> str:
    """The text with no line break before a percent sign or after a p."""
    return text.replace(" %", "\xa0%").replace(" p ", " p\xa0")
