"""What mkdocs does not do by itself: options and experiments become pages, formulas MathML, and nothing is loaded from a network."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from options import GROUPS, describe_component, describe_group

ROOT = Path(__file__).parents[2]
OPTIONS = re.compile(r"<!-- options (\w+)=([\w,]+) -->")
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
LOADED = re.compile(r"""<(?!link rel="canonical")(?:script|img|iframe|source|link)\b[^>]*?(?:src|href)=["']?((?:https?:)?//[^"'> ]+)""")


def on_config(config: Any) -> Any:
    """The experiments stand in the navigation in the order of the README's table."""
    names = re.findall(r"^\| \[(\w+)\]\(experiments/", _experiments_section(), re.MULTILINE)
    for entry in config.nav:
        if entry.get("Experiments"):
            entry["Experiments"] = [{"All experiments": "experiments.md"}, *({name: f"experiments/{name}/README.md"} for name in names)]
    return config


def on_files(files: Files, *, config: Any) -> Files:
    """A page of options for each group, the page of the config, and the experiments as they stand beside their figures."""
    for group in GROUPS:
        files.append(File.generated(config, f"options/{group}.md", content=describe_group(group)))
    files.append(File.generated(config, "options/config.md", content=_config_page()))
    files.append(File.generated(config, "experiments.md", content=_experiments_page()))
    for path in sorted((ROOT / "experiments").glob("*/*")):
        if path.name == "README.md" or path.suffix == ".svg":
            files.append(File(path.relative_to(ROOT).as_posix(), str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: Any, files: Files) -> str:
    """Links that lead to the repository's folders on a code host lead to the site's pages here; places for options are filled."""
    del page, config, files
    markdown = markdown.replace("](../experiments/", "](experiments/")
    return OPTIONS.sub(lambda found: describe_component(found[1], found[2].split(",")), markdown)


def on_page_content(html: str, *, page: Page, config: Any, files: Files) -> str:
    """Formulas as MathML, which browsers show by themselves."""
    del page, config, files
    return FORMULA.sub(lambda found: convert(unescape(found[2]), display="block" if found[1] == "div" else "inline"), html)


def on_post_page(output: str, *, page: Page, config: Any) -> str:
    """Errors: the page would load something from a network."""
    del config
    loaded = LOADED.search(output)
    if loaded:
        raise PluginError(f"{page.file.src_uri}: would load {loaded[1]} when it is opened; put the file under docs/")
    return output


def _config_page() -> str:
    said = "The top of the config: what every experiment has, whatever its components are. `experiment=NAME` sets some of it."
    return f"# Options: config.yaml\n\n{said}\n\n```yaml\n{(ROOT / 'conf/config.yaml').read_text(encoding='utf-8')}```\n"


def _experiments_page() -> str:
    return f"# Experiments\n{_experiments_section().replace('](docs/', '](')}"


def _experiments_section() -> str:
    """Of the README, which is the one list of the experiments."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return readme.partition("\n## Experiments\n")[2].partition("\n## ")[0]
