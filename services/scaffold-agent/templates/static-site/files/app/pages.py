"""Reads the site into memory, once. What is not in it then can never be served."""

import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Optional

SITE = Path(__file__).resolve().parent.parent / "site"
# What the system's own tables do not say everywhere.
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Page:
    """One file of the site."""

    media_type: str
    etag: str
    body: bytes


class Site:
    """All files of a folder, by the paths they answer."""

    def __init__(self, folder: Path = SITE):
        self._pages: Dict[str, Page] = {}
        self.not_found: Optional[Page] = None
        for file in sorted(folder.rglob("*")):
            place = file.relative_to(folder)
            hidden = any(part.startswith(".") for part in place.parts)
            # A link could lead out of the folder.
            if hidden or file.is_symlink() or not file.is_file():
                continue
            page = _read(file)
            for path in answered_paths(place.as_posix()):
                self._pages[path] = page
        self.not_found = self._pages.get("/404.html")

    def page(self, path: str) -> Optional[Page]:
        """The page that answers a path."""
        return self._pages.get(path)

    def paths(self):
        """Every path that is answered."""
        return self._pages.keys()


def answered_paths(place: str) -> "list[str]":
    """The paths that a file answers: `a/index.html` also `/a/`, `b.html` also `/b`."""
    paths = ["/" + place]
    if place == "index.html" or place.endswith("/index.html"):
        paths.append("/" + place[: -len("index.html")])
    elif place.endswith(".html"):
        paths.append("/" + place[: -len(".html")])
    return paths


def _read(file: Path) -> Page:
    body = file.read_bytes()
    media_type = TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0]
    media_type = media_type or "application/octet-stream"
    if media_type.startswith("text/"):
        media_type += "; charset=utf-8"
    return Page(media_type, '"' + hashlib.sha256(body).hexdigest()[:32] + '"', body)
