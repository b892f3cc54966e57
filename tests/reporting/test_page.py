"""report.html: self-contained, and in a browser its figures are shown and its tables sort."""

import json
import re

import pytest
from browser import needs_browser, shown

from autoslim.reporting.figures import save_figure, search_curve
from autoslim.reporting.markdown import Facts, report_markdown
from autoslim.reporting.page import report_page

# Clicks on the heads of the first table, one after another; notes the first column after each click.
PROBE = """
<script>
addEventListener("load", () => {
  const table = document.querySelector("table"), heads = [...table.querySelectorAll("th")];
  const order = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
  const click = (title) => { heads.find((head) => head.textContent === title).click(); return order(); };
  const seen = {
    start: order(), up: click("FLOPs"), down: click("FLOPs"), text: click("network"), sums: null,
    images: [...document.images].map((image) => image.naturalWidth),
    aria: heads.map((head) => head.ariaSort),
  };
  const channels = [...document.querySelectorAll("table")].find((one) => one.textContent.includes("stem"));
  channels.querySelectorAll("th")[1].click();
  seen.sums = [...channels.tBodies[0].rows].map((row) => row.cells[0].textContent);
  document.body.dataset.seen = JSON.stringify(seen);
});
</script>
"""


@pytest.fixture
def page(results, full, trajectory, groups, tmp_path):
    path = save_figure(search_curve(trajectory, [0.5]), tmp_path / "a search.png")
    facts = {"arch": "resnet20", "dataset": "<digits>", "seed": 3, "test_images": 200, "folder": tmp_path}
    text = report_markdown(Facts(results, full, groups=groups, figures={"The search": path}, **facts))
    return report_page(text, tmp_path)


def test_nothing_is_loaded_from_elsewhere(page):
    assert re.findall(r'(?:src|href)="(?!data:)[^"]*"', page) == [] and "@import" not in page
    assert page.count("data:image/svg+xml;base64,") == 1
    assert "<title>resnet20 on &lt;digits&gt;, seed 3</title>" in page and "<digits>" not in page
    assert re.search(
        r"<p>AutoSlim 0\.7: .*<br />\nAutoSlim 0\.5: ", page
    )  # a sentence for each, on lines of their own


@pytest.mark.slow
@needs_browser
def test_in_a_browser(page, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(page.replace("</body>", PROBE + "</body>"))
    found = re.search(r'data-seen="([^"]*)"', shown(file.as_uri(), tmp_path / "profile"))
    assert found
    seen = json.loads(found[1].replace("&quot;", '"'))
    assert seen["start"] == ["baseline", "AutoSlim 0.7", "AutoSlim 0.5", "uniform 0.5"]
    assert seen["up"] == ["AutoSlim 0.5", "uniform 0.5", "AutoSlim 0.7", "baseline"]
    assert seen["down"] == seen["up"][::-1]
    assert seen["text"] == ["AutoSlim 0.5", "AutoSlim 0.7", "baseline", "uniform 0.5"]
    assert seen["aria"].count("ascending") == 1 and seen["images"][0] > 300
    assert seen["sums"] == ["stem", "block1|conv", "block2", "head", "sum"]
