"""Nothing is exported that these tests do not call."""

import enum
import inspect
import unittest
from pathlib import Path

import sora_ios_runner as sora

TESTS = "".join(path.read_text() for path in sorted(Path(__file__).parent.glob("*.py")) if path != Path(__file__))


def exported():
    """What the bindings offer, by name."""
    for name in sora.__all__:
        yield name, getattr(sora, name)


class Surface(unittest.TestCase):
    def test_every_function_is_called(self):
        calls = set()
        for name, what in exported():
            if inspect.isfunction(what):
                calls.add(f"sora.{name}(")
            elif name in ("SoraRunner", "SoraJob", "SoraFrame"):
                calls |= {f".{method}(" for method in vars(what) if not method.startswith("_")}
        self.assertGreater(len(calls), 25)
        self.assertEqual({call for call in calls if call not in TESTS}, set())

    def test_every_choice_is_made(self):
        choices = set()
        for name, what in exported():
            if inspect.isclass(what) and issubclass(what, enum.Enum) and name in ("ComputeDevice", "ComputePrecision"):
                choices |= {f"{name}.{choice.name}" for choice in what}
            elif name in ("LeapSetting", "MergeSetting"):
                choices |= {f"{name}.{choice}" for choice in vars(what) if choice.isupper()}
        self.assertGreater(len(choices), 9)
        self.assertEqual({choice for choice in choices if choice not in TESTS}, set())

    def test_every_setting_of_a_video_is_used(self):
        settings = set(inspect.signature(sora.VideoRequest.__init__).parameters) - {"self"}
        self.assertGreater(len(settings), 12)
        unused = {name for name in settings if f"{name}=" not in TESTS and f'"{name}":' not in TESTS}
        self.assertEqual(unused, set())


if __name__ == "__main__":
    unittest.main()
