"""Checks that every link inside the site leads to a page: `python3 -m app.links`."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from app.pages import SITE, Site

# What a server answers beside the site's own files.
SERVED = {"/health"}


class Links(HTMLParser):
    """Collects what a page links to, with the line."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("href", "src") and value:
                self.found.append((self.getpos()[0], value))


def broken_links(folder: Path) -> "list[str]":
    """One sentence for each link that leads nowhere."""
    known = SERVED | set(Site(folder).paths())
    problems = []
    for file in sorted(folder.rglob("*.html")):
        place = file.relative_to(folder).as_posix()
        links = Links()
        links.feed(file.read_text(encoding="utf-8"))
        for line, link in links.found:
            target = urlsplit(urljoin(f"http://site/{place}", link))
            if target.netloc == "site" and unquote(target.path) not in known:
                problems.append(f"{place}:{line}: {link} leads nowhere")
    return problems


def main(folder: Path = SITE) -> int:
    problems = broken_links(folder)
    if not (folder / "index.html").is_file():
        problems.append("index.html is missing")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
