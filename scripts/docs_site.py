"""What MkDocs adds to the pages in docs/: the configuration reference, the tutorials, README as first page.

`mkdocs build` calls the functions that begin with `on_` (hooks of MkDocs, see mkdocs.yml).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from autoslim.schema.reference import reference

ROOT = Path(__file__).parent.parent
BESIDE = ("CHANGELOG.md", "CONTRIBUTING.md")  # of the repository, pages of the site too


def on_page_markdown(text: str, **_: Any) -> str:
    """Links to notebooks lead to their pages."""
    return re.sub(r"(tutorials/\w+)\.ipynb\)", r"\1.md)", text)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made of something else, and leave the notebooks' own files away."""
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        files.remove(notebook)
        text = notebook_page(Path(str(notebook.abs_src_path)), notebook.name)
        files.append(File.generated(config, notebook.src_uri.replace(".ipynb", ".md"), content=text))
    made = {"index.md": first_page((ROOT / "README.md").read_text(encoding="utf-8"))}
    made["configuration.md"] = reference()
    made |= {name.lower(): first_page((ROOT / name).read_text(encoding="utf-8")) for name in BESIDE}
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def first_page(text: str) -> str:
    """A page of the repository with its links as they are within docs/.

    >>> first_page("[methods](docs/methods.md), [how](CONTRIBUTING.md), [web](https://a/docs/b)")
    '[methods](methods.md), [how](contributing.md), [web](https://a/docs/b)'
    """
    text = re.sub(r"(\]\(|src=\")docs/", r"\1", text)
    for name in BESIDE:
        text = text.replace(f"]({name})", f"]({name.lower()})")
    return text.replace("](LICENSE)", "](contributing.md)")


def notebook_page(path: Path, name: str) -> str:
    """A notebook as a page: its text, its code, and what it printed and drew."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts = []
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        parts += [_output(one) for one in cell["outputs"]]
    first, *rest = parts
    return "\n\n".join([first, f"The notebook: `docs/tutorials/{name}.ipynb`.", *rest]) + "\n"


def _output(output: dict[str, Any]) -> str:
    """What a cell left, in Markdown."""
    data = output.get("data", {"text/plain": output.get("text", "")})
    if "image/png" in data:
        return f'<img alt="figure" src="data:image/png;base64,{"".join(data["image/png"]).strip()}">'
    if "text/html" in data:
        html = re.sub(r"<style.*?</style>", "", "".join(data["text/html"]), flags=re.S)
        return "\n".join(line.strip() for line in html.splitlines() if line.strip())
    return f"```text\n{''.join(data['text/plain']).rstrip()}\n```"
