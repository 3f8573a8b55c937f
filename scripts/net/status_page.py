"""What a browser makes of the status page; each verb is one check of status-page.sh, told by its exit status.

status_page.py DRIVER PROFILE URL VERB [ARGUMENT...]
"""

import pathlib
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from browser import Browser  # noqa: E402

# The cells of a table by the title of its section: [[text, ...], ...]
ROWS = """const block = [...document.querySelectorAll('.block')].find((one) => one.getAttribute('aria-label') === %r);
const rows = [...block.querySelectorAll('tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent));"""
FILTER = """const field = document.getElementById('filter'); field.value = arguments[0];
field.dispatchEvent(new Event('input'));"""
# The least contrast of what is written, by the formula of WCAG 2.1 (section 1.4.3), and where it is.
CONTRAST = """
const parse = (color) => color.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
const back = (node) => { for (; node; node = node.parentElement) { const color = parse(getComputedStyle(node).backgroundColor);
  if (color.length < 4 || color[3] > 0) return color; } return [255, 255, 255]; };
let least = [99, ''];
for (const node of document.querySelectorAll('body *')) {
  if (![...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim()) || !node.checkVisibility()) continue;
  if (node.disabled || node.closest('noscript')) continue;
  const [a, b] = [light(parse(getComputedStyle(node).color)), light(back(node))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < least[0]) least = [ratio, node.tagName + '.' + node.className + ' ' + node.textContent.slice(0, 30)];
}
return least;"""


def loaded(browser, url):
    browser.open(url)
    browser.wait("two readings", "return document.querySelector('.card .value')?.textContent.match(/\\d/)")


def rows(browser, title):
    return browser.run(ROWS % title + "return rows")


def shows(browser, url):
    """Every service, backend, worker and port; rates under load; no complaint of the browser."""
    loaded(browser, url)
    browser.wait("a rate", ROWS % "Services" + "return rows.some((row) => Number.parseFloat(row[6]) > 0)")
    counts = {title: len(rows(browser, title)) for title in ("Services", "Backends", "Workers", "Ports")}
    print(counts, browser.run("return document.getElementById('state').textContent"))
    assert counts == {"Services": 8, "Backends": 24, "Workers": 1, "Ports": 2}, counts
    assert browser.run("return document.getElementById('state').textContent") == "live"
    assert browser.run("return [...document.querySelectorAll('svg .line')].some((one) => one.getAttribute('points'))")


def filters(browser, url):
    """A filter leaves what it names, and a service's name is a short cut to it."""
    loaded(browser, url)
    browser.run(FILTER, "nat4-udp")
    assert [row[0] for row in rows(browser, "Services")] == ["nat4-udp"], rows(browser, "Services")
    assert len(rows(browser, "Backends")) == 3
    browser.run(FILTER, "")
    browser.run("document.querySelector('tbody th button').click()")
    assert len(rows(browser, "Backends")) in (3, 6), len(rows(browser, "Backends"))
    browser.run(FILTER, "")
    browser.run("document.getElementById('trouble').click()")
    print(rows(browser, "Backends"))
    assert [row[2] for row in rows(browser, "Backends")] == ["disabled"]


def text_only(browser, url):
    """What looks like markup in a name is text."""
    loaded(browser, url)
    text = browser.run("return document.getElementById('notices').textContent")
    print(text)
    assert "<img src=x id=injected>" in text
    assert not browser.run("return document.getElementById('injected')")


def many(browser, url, count):
    """However many backends there are, the document is small, and they are found."""
    loaded(browser, url)
    size = browser.run("return document.querySelectorAll('*').length")
    total = browser.run("return document.querySelectorAll('.block .count')[1].textContent")
    print(f"{size} elements for {total} backends")
    assert total == count and len(rows(browser, "Backends")) == 50 and size < 4000
    browser.run("document.querySelectorAll('.block')[1].querySelectorAll('.pages button')[1].click()")
    place = browser.run("return document.querySelectorAll('.block')[1].querySelector('.pages span').textContent")
    assert place.startswith("51 to 100 of "), place
    browser.run(FILTER, "10.77.9.7:")
    assert [row[0] for row in rows(browser, "Backends")] == ["10.77.9.7:80"], rows(browser, "Backends")


def fits(browser, url):
    """On a narrow screen nothing but tables is wider than it."""
    browser.size(360, 800)
    loaded(browser, url)
    assert browser.run("return document.documentElement.scrollWidth") <= 360


def readable(browser, url):
    """Light and dark, everything that is written has the contrast that WCAG's level AA asks for, and controls have names."""
    pages = []
    for scheme in ("light", "dark"):
        browser.scheme(scheme)
        loaded(browser, url)
        pages.append(browser.run("return getComputedStyle(document.body).backgroundColor"))
        least = browser.run(CONTRAST)
        print(scheme, least)
        assert least[0] >= 4.5, least
    assert pages[0] != pages[1]
    nameless = browser.run("""return [...document.querySelectorAll('input, button, svg')].filter((one) =>
      !one.textContent.trim() && !one.getAttribute('aria-label') && !one.labels?.length).length""")
    assert nameless == 0, f"{nameless} controls have no name"


def absent(browser, url, stop):
    """When the daemon is gone, the page says so and keeps what it had."""
    loaded(browser, url)
    pathlib.Path(stop).touch()
    browser.wait("it says so", "return document.getElementById('state').textContent.startsWith('no answer')", 60)
    assert len(rows(browser, "Services")) > 0


def main():
    driver, profile, url, verb, *arguments = sys.argv[1:]
    browser = Browser(driver, profile)
    try:
        globals()[verb](browser, url, *arguments)
        complaints = browser.complaints()
        assert verb == "absent" or not complaints, complaints
    finally:
        browser.quit()


if __name__ == "__main__":
    main()
