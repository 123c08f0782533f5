import tempfile
import unittest
from pathlib import Path

from app.links import broken_links, main
from app.pages import SITE, Site, answered_paths


class FolderTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def write(self, place, text=""):
        file = self.folder / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


class PagesTest(FolderTest):
    def test_pages_answer_with_and_without_their_ending(self):
        self.assertEqual(answered_paths("index.html"), ["/index.html", "/"])
        self.assertEqual(answered_paths("blog/index.html"), ["/blog/index.html", "/blog/"])
        self.assertEqual(answered_paths("about.html"), ["/about.html", "/about"])
        self.assertEqual(answered_paths("myindex.html"), ["/myindex.html", "/myindex"])
        self.assertEqual(answered_paths("logo.svg"), ["/logo.svg"])

    def test_hidden_files_and_links_are_not_part_of_the_site(self):
        self.write(".secret", "x")
        self.write(".git/config", "x")
        self.write("index.html", "x")
        (self.folder / "passwd").symlink_to("/etc/passwd")
        self.assertEqual(set(Site(self.folder).paths()), {"/index.html", "/"})

    def test_media_types_follow_the_ending(self):
        for name, media_type in (
            ("a.html", "text/html; charset=utf-8"),
            ("a.css", "text/css; charset=utf-8"),
            ("a.js", "text/javascript; charset=utf-8"),
            ("a.svg", "image/svg+xml"),
            ("a.png", "image/png"),
            ("a.unheard-of", "application/octet-stream"),
        ):
            self.write(name)
            self.assertEqual(Site(self.folder).page("/" + name).media_type, media_type)

    def test_equal_pages_have_equal_tags_and_others_do_not(self):
        self.write("a.html", "1")
        self.write("b.html", "1")
        self.write("c.html", "2")
        site = Site(self.folder)
        self.assertEqual(site.page("/a").etag, site.page("/b").etag)
        self.assertNotEqual(site.page("/a").etag, site.page("/c").etag)


class LinksTest(FolderTest):
    def test_this_site_has_no_broken_link(self):
        self.assertEqual(broken_links(SITE), [])
        self.assertEqual(main(), 0)

    def test_a_broken_link_is_found_with_its_line(self):
        self.write("index.html", '<a href="/about">\n<img src="logo.svg">')
        self.write("about.html", '<a href="https://example.org/x"><a href="#top"><a href="/health">')
        self.assertEqual(broken_links(self.folder), ["index.html:2: logo.svg leads nowhere"])
        self.assertEqual(main(self.folder), 1)

    def test_a_site_without_a_first_page_does_not_build(self):
        self.write("about.html")
        self.assertEqual(main(self.folder), 1)


if __name__ == "__main__":
    unittest.main()
