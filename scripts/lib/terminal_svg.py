#!/usr/bin/env python3
"""A picture of a terminal: terminal_svg.py TITLE <SCREEN >FILE

SCREEN is what `tmux capture-pane -e -p` prints: text with the escape codes of colours (ECMA-48, SGR). Every run of cells is
set to its exact width, so columns stay aligned whatever monospaced font the reader has.
"""

import re
import sys
import unicodedata
from xml.sax.saxutils import escape

CELL, LINE, SIZE, MARGIN, BAR = 8.4, 19, 14, 16, 34
BACK, TEXT = "#171c24", "#d7dde8"
# Black to white, then the same bright.
COLORS = ["#171c24", "#f07178", "#86d37f", "#e8c15f", "#6fb1fc", "#c792ea", "#5fd0d6", "#d7dde8"]
COLORS += ["#697589", "#ff8b92", "#9fe898", "#ffd97a", "#8cc5ff", "#ddb0ff", "#84e8ee", "#ffffff"]
PLAIN = {"color": None, "back": None, "bold": False, "dim": False, "underline": False, "reverse": False}
SWITCHES = {1: ("bold", True), 2: ("dim", True), 4: ("underline", True), 7: ("reverse", True)}
SWITCHES |= {24: ("underline", False), 27: ("reverse", False), 39: ("color", None), 49: ("back", None)}


def turn(style, codes):
    """The style after a list of SGR codes."""
    style, codes = dict(style), [int(code or 0) for code in codes.split(";")]
    while codes:
        code = codes.pop(0)
        if code == 0:
            style = dict(PLAIN)
        elif code == 22:
            style |= {"bold": False, "dim": False}
        elif code in SWITCHES:
            style[SWITCHES[code][0]] = SWITCHES[code][1]
        elif code in (38, 48) and codes[:1] == [5]:
            style["color" if code == 38 else "back"] = COLORS[codes[1] % 16]
            codes = codes[2:]
        elif 30 <= code % 60 <= 47 and code % 10 < 8:
            bright = 8 if code >= 90 else 0
            style["back" if code % 60 >= 40 else "color"] = COLORS[code % 10 + bright]
    return style


def runs(line, style):
    """[(column, text, style)], and the style at the line's end. Where two blanks follow each other, a run ends."""
    out, column = [], 0
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        if part.startswith("\x1b"):
            style = turn(style, part[2:-1])
            continue
        for text in re.split(r"( {2,})", re.sub(r"\x1b.|[\x00-\x1f]", "", part)):
            if text.strip() or style["back"] or style["reverse"]:
                out.append((column, text, style))
            column += sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
    return out, style


def shape(column, row, text, style):
    color, back = style["color"] or TEXT, style["back"]
    if style["reverse"]:
        color, back = back or BACK, color
    x, y, width = MARGIN + column * CELL, BAR + row * LINE, len(text) * CELL
    if back:
        yield f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{LINE}" fill="{back}"/>'
    if not text.strip():
        return
    more = "" if color == TEXT else f' fill="{color}"'
    more += ' font-weight="700"' if style["bold"] else ""
    more += ' opacity=".65"' if style["dim"] else ""
    more += ' text-decoration="underline"' if style["underline"] else ""
    lead = len(text) - len(text.lstrip())
    text = text.strip()
    x += lead * CELL
    yield f'<text x="{x:.1f}" y="{y + 14}" textLength="{len(text) * CELL:.1f}"{more}>{escape(text)}</text>'


def main():
    title, style, rows, widest = sys.argv[1], dict(PLAIN), [], 0
    for line in sys.stdin.read().rstrip("\n").split("\n"):
        found, style = runs(line, style)
        widest = max([widest, *(column + len(text) for column, text, _ in found)])
        rows.append(found)
    while rows and not rows[-1]:
        rows.pop()
    width, height = 2 * MARGIN + widest * CELL, BAR + len(rows) * LINE + MARGIN - 4
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}"'
          f' role="img" aria-label="{escape(title)}" font-size="{SIZE}" fill="{TEXT}" style="white-space:pre"'
          " font-family=\"ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace\">")
    print(f'<rect width="100%" height="100%" rx="8" fill="{BACK}"/>')
    for at, color in enumerate(("#f07178", "#e8c15f", "#86d37f")):
        print(f'<circle cx="{MARGIN + 4 + 16 * at}" cy="15" r="5" fill="{color}"/>')
    print(f'<text x="50%" y="19" text-anchor="middle" font-size="12" opacity=".6">{escape(title)}</text>')
    for row, found in enumerate(rows):
        for column, text, style in found:
            print(*shape(column, row, text, style), sep="")
    print("</svg>")


if __name__ == "__main__":
    main()
