import unittest

from app.settings import DEFAULT_PORT, InvalidSetting, Settings


class SettingsTest(unittest.TestCase):
    def test_an_empty_environment_gives_the_defaults(self):
        self.assertEqual(Settings.read({}), Settings("127.0.0.1", DEFAULT_PORT))

    def test_host_and_port_come_from_the_environment(self):
        self.assertEqual(
            Settings.read({"HOST": "0.0.0.0", "PORT": "65535"}), Settings("0.0.0.0", 65535)
        )

    def test_a_port_that_is_none_is_refused(self):
        for text in ("65536", "-1", "http", "8080.0", "٣"):
            with self.subTest(text), self.assertRaises(InvalidSetting):
                Settings.read({"PORT": text})


if __name__ == "__main__":
    unittest.main()
