"""Make the README's picture of a report.

    python scripts/make_report_image.py REPORT_HTML [OUT_PNG]

REPORT_HTML is that of a run, such as ``reports/runs/demo/resnet8/report.html`` after ``ferd-eval
demo``. The picture shows its opening, its table of attacks and its classes; the other sections are
left out. Needs Chromium.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

OUT = Path(__file__).parents[1] / "docs" / "images" / "report.png"
WIDTH, HEIGHT = 1000, 1400
#: All but the opening, the table of attacks and the bars of the classes.
HIDDEN = """
.controls, main > section ~ :not(article), article > :not(section:has(.bars)) {
  display: none !important;
}
"""


def make_report_image(page: Path, out: Path) -> None:
    """Photograph the page at its light colours and write it as a PNG of 64 colours."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("no Chromium on this machine: install it, or run this elsewhere.")
    with tempfile.TemporaryDirectory() as folder:
        shown, photo = Path(folder) / "report.html", Path(folder) / "photo.png"
        style = f"<style>{HIDDEN}</style></head>"
        shown.write_text(page.read_text("utf-8").replace("</head>", style, 1), "utf-8")
        subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={photo}", shown.as_uri(),
            ],
            check=True, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        with Image.open(photo) as image:
            whole = image.convert("RGB")
    blank = Image.new("RGB", whole.size, whole.getpixel((0, 0)))
    drawn = ImageChops.difference(whole, blank).getbbox()
    assert drawn is not None, "the picture is blank"
    out.parent.mkdir(parents=True, exist_ok=True)
    cut = whole.crop((0, 0, WIDTH, drawn[3] + drawn[0]))
    cut.quantize(64, dither=Image.Dither.NONE).save(out, optimize=True)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    make_report_image(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else OUT)
