#!/usr/bin/env python3
"""Compares the app's texts with its catalogue, Localizable.xcstrings: what Xcode does when it builds, on any machine.

    strings.py            says what differs
    strings.py --write    writes the catalogue anew; translations stay
"""

import json
import re
import sys
from pathlib import Path

APP = Path(__file__).resolve().parents[1] / "App"
CATALOGUE = APP / "Resources" / "Localizable.xcstrings"

# What takes a text to be translated as its first argument.
CALLS = (
    "Text|Button|Label|Section|Toggle|Picker|Stepper|Slider|TextField|LabeledContent|ProgressView|ShareLink|NavigationLink|"
    r"Tab|ContentUnavailableView|Bytes|localized|\.navigationTitle|\.alert"
)
LITERAL = re.compile(rf'(?:^|[^\w.])(?:{CALLS})\("((?:[^"\\]|\\.)*)"', re.MULTILINE)
LOCALIZED = re.compile(r'[^\w.]localized\("((?:[^"\\]|\\.)*)"')
# What a number is in a text; all else that is put in is a text itself.
UNSIGNED = ("video.stepsDone", "video.steps")
TEXTS = ("time", "timing.seconds", "Duration.")


def key(literal):
    """The key that SwiftUI looks for: what is put in becomes a place for it."""
    found, at = "", 0
    while (start := literal.find("\\(", at)) >= 0:
        end, depth = start + 2, 1
        while depth:
            depth += {"(": 1, ")": -1}.get(literal[end], 0)
            end += 1
        inside = literal[start + 2 : end - 1]
        place = "%@" if inside.startswith(TEXTS) else "%u" if inside in UNSIGNED else "%lld"
        found, at = found + literal[at:start] + place, end
    return found + literal[at:]


def used(literals):
    texts = set()
    for file in sorted((APP / "Sources").rglob("*.swift")):
        # A literal with a quotation mark within what is put in would end early: there is none.
        texts |= {key(literal) for literal in literals.findall(file.read_text())}
    # Addresses are examples, and the same in every language.
    return {text for text in texts if "://" not in text and text != "0.0.0.0:9090" and text}


def unmarked(entry):
    """The entry without the mark of a text that Xcode does not find."""
    return {name: value for name, value in entry.items() if (name, value) != ("extractionState", "manual")}


def main():
    catalogue = json.loads(CATALOGUE.read_text())
    listed, wanted = catalogue["strings"], used(LITERAL)
    # Xcode does not find these in the sources, and would drop them.
    manual = used(LOCALIZED)
    kept = {text: entry for text, entry in listed.items() if entry.get("extractionState") == "manual"}
    if "--write" in sys.argv:
        marks = {text: {"extractionState": "manual"} if text in manual else {} for text in wanted}
        catalogue["strings"] = {text: {**marks[text], **unmarked(listed.get(text, {}))} for text in sorted(wanted)}
        CATALOGUE.write_text(json.dumps(catalogue, indent=2, ensure_ascii=False) + "\n")
    elif set(listed) != wanted:
        sys.exit(f"strings.py: missing {sorted(wanted - set(listed))}, not used {sorted(set(listed) - wanted)}")
    elif set(kept) != manual:
        sys.exit(f"strings.py: to be marked as manual, or not: {sorted(set(kept) ^ manual)}")
    # The system's dialog has a text of the app's properties, which is translated elsewhere.
    name = "NSLocalNetworkUsageDescription"
    info = json.loads((APP / "Resources" / "InfoPlist.xcstrings").read_text())["strings"][name]
    if f"{name}: {info['localizations']['en']['stringUnit']['value']}\n" not in (APP / "project.yml").read_text():
        sys.exit(f"strings.py: {name} is another one in project.yml")
    print(f"strings.py: {len(wanted)} texts")


main()
