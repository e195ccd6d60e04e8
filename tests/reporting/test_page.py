"""A page holds what its Markdown says, escaped, with its pictures inside; tables and templates."""

import base64

import jinja2
import pytest
from markdown_it import MarkdownIt
from matplotlib.figure import Figure

from trm_jax.reporting.markdown import bullets, table
from trm_jax.reporting.page import html_page, template, write_report


def test_a_page_has_its_title_its_pictures_and_no_markup_of_its_text():
    text = "# 1 < 2\n\n<script>x</script> `a_b` 5 % **sure**\n\n![a & b](figures/x.svg)\n\n"
    text += table(["a", "b"], [["c", 1]])
    page = html_page(text, {"figures/x.svg": b"<svg/>"})
    assert "<title>1 &lt; 2</title>" in page and "<h1>1 &lt; 2</h1>" in page
    assert "<script>" not in page and "&lt;script&gt;" in page and "5\xa0% <strong>sure</strong>" in page
    data = base64.b64encode(b"<svg/>").decode()
    assert f'<img src="data:image/svg+xml;base64,{data}" alt="a &amp; b">' in page
    assert '<td style="text-align:right">1</td>' in page and page.count('<div class="scroll"') == 1
    assert "<code>a_<wbr>b</code>" in page and "prefers-color-scheme: dark" in page
    with pytest.raises(KeyError, match="gone"):
        html_page("![x](gone.svg)", {})


def test_a_report_is_markdown_page_and_figures(tmp_path):
    write_report(tmp_path / "new", "# T\n\n\n\n![p](figures/plot.svg)\n", {"plot": Figure((2, 2))})
    assert (tmp_path / "new/report.md").read_text() == "# T\n\n![p](figures/plot.svg)\n"
    drawing = (tmp_path / "new/figures/plot.svg").read_bytes()
    assert base64.b64encode(drawing).decode() in (tmp_path / "new/report.html").read_text()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["figures", "report.html", "report.md"]


def test_names_of_the_user_put_no_html_into_the_markdown(tmp_path):
    names = ["<img src=x onerror=alert(1)>", "`", "<script>alert(1)</script>", "<!-- ", "</td>", "<?x?>", "a < b <3"]
    write_report(tmp_path, "# <b>T</b>\n\n" + table(["arm"], [[name] for name in names]) + "\n\n" + bullets(names), {})
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse((tmp_path / "report.md").read_text())
    inside = [child for token in tokens for child in token.children or ()]
    assert not {"html_block", "html_inline"} & {token.type for token in [*tokens, *inside]}
    shown = [token.content for token in tokens if token.type == "inline"]
    assert len(shown) == 2 + 2 * len(names)
    page = (tmp_path / "report.html").read_text()
    assert "<title>&lt;b&gt;T&lt;/b&gt;</title>" in page and page.count("&lt;script&gt;") == 2 and "a &lt; b" in page


def test_columns_of_numbers_stand_to_the_right_and_pipes_are_kept():
    text = table(["a", "b|c", "d"], [["1", "-0.5 (-1 to 2)", "x|y"], ["2", "", "z"]])
    assert text.splitlines() == [
        "| a | b\\|c | d |",
        "| --- | ---: | --- |",
        "| 1 | -0.5 (-1 to 2) | x\\|y |",
        "| 2 |  | z |",
    ]
    assert table(["a", "b"], []).splitlines() == ["| a | b |", "| --- | --- |"]
    assert bullets(["x", 1]) == "- x\n- 1"


def test_a_template_refuses_a_name_that_was_not_given():
    with pytest.raises(jinja2.UndefinedError, match="title"):
        template("trm_jax.reporting", "page.html").render(content="")
