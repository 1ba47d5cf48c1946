"""Looks at the dashboard and the catalogue of a running gateway in headless Chromium.

    python3 tests/dashboard/look.py http://127.0.0.1:9901 [directory for screenshots]

Needs playwright (pip) and a Chromium on the PATH. On a desk and on a phone, dark and light: the page must come to
life, write nothing to the console, open no dialog, ask nobody but the gateway and not scroll sideways. Ends with 1
and says why if it does not.
"""

import pathlib
import shutil
import sys

from playwright.sync_api import sync_playwright

SIZES = {"desk": (1400, 1000), "phone": (390, 844)}


def look(browser, address, path, size, scheme, pictures):
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    wrong = []
    page.on("console", lambda said: wrong.append(f"console: {said.text}"))
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda asked: asked.url.startswith((address + "/", "data:")) or wrong.append(f"asked {asked.url}"))
    page.goto(address + path)
    if path == "/":
        page.wait_for_selector('html[data-answered="3"]', state="attached", timeout=20_000)
        for wanted in ["#tiles .tile", "#rates canvas", "#latency canvas", "#endpoints tbody tr"]:
            if not page.query_selector(wanted):
                wrong.append(f"there is no {wanted}")
    for foreign in page.query_selector_all("td img, td script, td b, td a"):
        wrong.append(f"markup from outside: {foreign}")
    if page.evaluate("() => document.documentElement.scrollWidth > innerWidth"):
        wrong.append("scrolls sideways")
    if pictures:
        name = f"{path.strip('/') or 'dashboard'}-{size}-{scheme}.png"
        page.screenshot(path=pictures / name, full_page=True)
    context.close()
    return [f"{path} on a {size}, {scheme}: {what}" for what in wrong]


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    address = sys.argv[1].rstrip("/")
    pictures = pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else None
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        wrong = [
            what
            for path in ("/", "/catalogue")
            for size in SIZES
            for scheme in ("dark", "light")
            for what in look(browser, address, path, size, scheme, pictures)
        ]
        browser.close()
    print("\n".join(wrong) or "all is well")
    sys.exit(1 if wrong else 0)


main()
