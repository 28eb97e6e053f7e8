#!/usr/bin/env python3
"""Draws a Grafana dashboard as SVG from the data of a Prometheus, without Grafana. A person can look at it after a test.

    draw.py PROMETHEUS DASHBOARD.json OUT.svg [--minutes N] [--set VARIABLE=VALUE ...]

Each panel is drawn at its place in the grid, with its own queries. Only what the dashboards of the chart use is there: stat, bar
gauge and time series. Exit code 1 if a panel has no data.
"""
import argparse
import json
import math
import sys
import time
import urllib.parse
import urllib.request
from html import escape

COLUMN, ROW, GAP = 60, 38, 6
COLOURS = ["#3274d9", "#e0752d", "#299c46", "#a352cc", "#c4162a", "#8f7a00", "#1f9e9e", "#705da0"]
TEXT, FAINT, LINE = "#1f2430", "#6c7280", "#dfe3ea"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("prometheus")
    parser.add_argument("dashboard")
    parser.add_argument("out")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--set", action="append", default=[])
    words = parser.parse_args()
    variables = dict(each.split("=", 1) for each in words.set)
    with open(words.dashboard) as file:
        dashboard = json.load(file)
    source = Source(words.prometheus, words.minutes, variables)
    panels = dashboard["panels"]
    height = max((p["gridPos"]["y"] + p["gridPos"]["h"]) for p in panels) * ROW + 50
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{24 * COLUMN + 20}" height="{height}" font-family="sans-serif">',
        f'<rect width="100%" height="100%" fill="#f4f5f8"/><text x="14" y="27" font-size="18" fill="{TEXT}">'
        f'{escape(dashboard["title"])}</text>',
    ]
    empty = []
    for panel in panels:
        parts.append(drawn(panel, source, empty))
    parts.append("</svg>")
    with open(words.out, "w") as file:
        file.write("\n".join(parts) + "\n")
    for title in empty:
        print(f"no data: {title}", file=sys.stderr)
    return 1 if empty else 0


class Source:
    """Asks Prometheus, with the variables filled in."""

    def __init__(self, address, minutes, variables):
        self.address, self.variables = address, variables
        self.end = time.time()
        self.start = self.end - minutes * 60
        self.step = max(minutes * 60 / 300, 1)

    def ask(self, target):
        query = target["expr"]
        for name, value in self.variables.items():
            query = query.replace("$" + name, value)
        if target["instant"]:
            path, fields = "query", {"query": query, "time": self.end}
        else:
            path, fields = "query_range", {"query": query, "start": self.start, "end": self.end, "step": self.step}
        address = f"{self.address}/api/v1/{path}?{urllib.parse.urlencode(fields)}"
        with urllib.request.urlopen(address) as answer:
            found = json.load(answer)["data"]["result"]
        for series in found:
            points = series["values"] if "values" in series else [series["value"]]
            points = [(float(at), float(value)) for at, value in points]
            yield legend(target["legendFormat"], series["metric"]), [p for p in points if math.isfinite(p[1])]


def legend(form, labels):
    for name, value in labels.items():
        form = form.replace("{{" + name + "}}", value)
    while "{{" in form:
        form = form[: form.index("{{")] + form[form.index("}}") + 2 :]
    return form.strip()


def drawn(panel, source, empty):
    grid = panel["gridPos"]
    x, y = grid["x"] * COLUMN + 10, grid["y"] * ROW + 42
    width, height = grid["w"] * COLUMN - GAP, grid["h"] * ROW - GAP
    if panel["type"] == "row":
        return f'<text x="{x + 4}" y="{y + 22}" font-size="15" font-weight="bold" fill="{TEXT}">{escape(panel["title"])}</text>'
    series = [each for target in panel["targets"] for each in source.ask(target) if each[1]]
    if not series:
        empty.append(panel["title"])
    inside = {"stat": stat, "bargauge": bars, "timeseries": lines}[panel["type"]](panel, series, source, width, height)
    return (
        f'<g transform="translate({x},{y})"><rect width="{width}" height="{height}" rx="3" fill="white" stroke="{LINE}"/>'
        f'<text x="8" y="18" font-size="12" font-weight="bold" fill="{TEXT}">{escape(panel["title"])}</text>{inside}</g>'
    )


def stat(panel, series, _source, width, height):
    defaults = panel["fieldConfig"]["defaults"]
    if not series:
        return text(width / 2, height / 2 + 14, defaults.get("noValue", "No data"), 22, FAINT, "middle")
    room, out = (height - 24) / len(series), []
    for index, (name, points) in enumerate(series):
        value = points[-1][1]
        mode = panel["options"]["textMode"]
        words = name if mode == "name" else shown(value, defaults)
        if mode == "value_and_name":
            words = f"{name}: {words}"
        size = min(26, room * 0.7, 1.7 * width / max(len(words), 1))
        out.append(text(width / 2, 24 + room * (index + 0.65), words, size, colour(value, defaults), "middle"))
    return "".join(out)


def bars(panel, series, _source, width, height):
    defaults = panel["fieldConfig"]["defaults"]
    largest = max([abs(points[-1][1]) for _, points in series] or [1]) or 1
    out = []
    for index, (name, points) in enumerate(series):
        y, value = 34 + index * 28, points[-1][1]
        long = (width - 190) * abs(value) / largest
        out.append(text(8, y + 13, name, 11, TEXT))
        out.append(f'<rect x="90" y="{y}" width="{long:.1f}" height="17" fill="{COLOURS[0]}" fill-opacity="0.7"/>')
        out.append(text(96 + long, y + 13, shown(value, defaults), 11, TEXT))
    return "".join(out)


def lines(panel, series, source, width, height):
    defaults = panel["fieldConfig"]["defaults"]
    left, top, bottom = 62, 30, 44
    wide, high = width - left - 12, height - top - bottom
    values = [value for _, points in series for _, value in points] or [0, 1]
    low, up = min(values), max(values)
    low, up = min(low, defaults.get("min", low)), max(up, defaults.get("max", up))
    if up - low < 1e-12:
        up, low = up + (abs(up) or 1) * 0.5, low - (abs(low) * 0.5 if low else 0)
    at_x = lambda at: left + wide * (at - source.start) / (source.end - source.start)
    at_y = lambda value: top + high * (1 - (value - low) / (up - low))
    out = []
    for tick in range(4):
        value = low + (up - low) * tick / 3
        out.append(f'<line x1="{left}" x2="{left + wide}" y1="{at_y(value):.1f}" y2="{at_y(value):.1f}" stroke="{LINE}"/>')
        out.append(text(left - 5, at_y(value) + 4, shown(value, defaults), 10, FAINT, "end"))
    for share in (0, 0.5, 1):
        at = source.start + (source.end - source.start) * share
        clock = time.strftime("%H:%M:%S", time.gmtime(at))
        out.append(text(at_x(at), top + high + 13, clock, 10, FAINT, ["start", "middle", "end"][int(share * 2)]))
    stepped = defaults.get("custom", {}).get("lineInterpolation") == "stepAfter"
    x = 8
    for index, (name, points) in enumerate(series):
        paint, path, before = COLOURS[index % len(COLOURS)], "", None
        for at, value in points:
            gap = before is None or at - before[0] > 1.5 * source.step
            if stepped and not gap:
                path += f"L{at_x(at):.1f} {at_y(before[1]):.1f}"
            path += f'{"M" if gap else "L"}{at_x(at):.1f} {at_y(value):.1f}'
            before = (at, value)
        out.append(f'<path d="{path}" fill="none" stroke="{paint}" stroke-width="1.3"/>')
        words = name or panel["title"]
        if x + 20 + 6 * len(words) < width:
            out.append(f'<rect x="{x}" y="{height - 16}" width="10" height="4" fill="{paint}"/>')
            out.append(text(x + 14, height - 11, words, 10.5, TEXT))
        x += 26 + 6 * len(words)
    if not series:
        out.append(text(width / 2, height / 2, "No data", 16, FAINT, "middle"))
    return "".join(out)


def text(x, y, words, size, paint, anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:.1f}" fill="{paint}" text-anchor="{anchor}">{escape(words)}</text>'


def mapped(value, defaults):
    for mapping in defaults.get("mappings", []):
        if f"{value:g}" in mapping["options"]:
            return mapping["options"][f"{value:g}"]
    return None


def colour(value, defaults):
    word = mapped(value, defaults)
    if word:
        return {"red": "#c4162a", "green": "#299c46"}.get(word["color"], TEXT)
    steps = defaults.get("thresholds", {}).get("steps", [])
    reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return {"red": "#c4162a", "green": "#299c46"}.get(reached[-1] if reached else "", TEXT)


def shown(value, defaults):
    word = mapped(value, defaults)
    if word:
        return word["text"]
    unit = defaults.get("unit")
    if unit == "percentunit":
        return f"{value * 100:.4g} %"
    if unit == "s":
        for factor, name in ((1, "s"), (1e3, "ms"), (1e6, "µs"), (1e9, "ns")):
            if abs(value) * factor >= 1 or name == "ns" or value == 0:
                return f"{value * factor:.3g} {name}"
    number = f"{value:.0f}" if defaults.get("decimals") == 0 else f"{value:.4g}"
    return number + (" /s" if unit == "reqps" else "")


if __name__ == "__main__":
    sys.exit(main())
