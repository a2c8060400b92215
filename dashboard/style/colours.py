"""The colours of every page: Okabe-Ito colours, each with a mark of its own.

Colour alone never carries a meaning: each role has a glyph and a word too, so that it is clear in grey, in print and to
colour-blind readers. Badges, histograms, maps and tables take their colours from here only.

Source: Okabe and Ito, "Color Universal Design" (2008).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Role:
    """One meaning: its colour, the text colour that is readable on it, its mark and its word."""

    colour: str
    on: str
    mark: str
    word: str


LABEL = Role("#0072B2", "#FFFFFF", "●", "label")
PREDICTION = Role("#E69F00", "#000000", "▲", "prediction")
WRONG = Role("#D55E00", "#000000", "✕", "prediction differs from the label")
DECIDED = Role("#009E73", "#000000", "✓", "decided")
FLAGGED = Role("#CC79A7", "#000000", "⚑", "flagged for discussion")
NEUTRAL = Role("#767676", "#FFFFFF", "–", "none")

ROLES = {"label": LABEL, "prediction": PREDICTION, "wrong": WRONG, "decided": DECIDED, "flagged": FLAGGED}

# The remaining colours of the palette, for series that have no role (classes, slices), in a fixed order.
SERIES = ("#56B4E9", "#009E73", "#E69F00", "#0072B2", "#CC79A7", "#D55E00", "#F0E442")


def contrast(one: str, other: str) -> float:
    """Returns the contrast ratio of two colours as WCAG 2 defines it, from 1 to 21.

    >>> round(contrast("#000000", "#ffffff"))
    21
    """
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def css_variables() -> str:
    """Returns the roles as CSS custom properties, ``--hl-label`` and ``--hl-on-label`` and so on.

    >>> css_variables().split(";")[0]
    '--hl-label:#0072B2'
    """
    pairs = [(f"--hl-{name}", role.colour) for name, role in ROLES.items()]
    pairs += [(f"--hl-on-{name}", role.on) for name, role in ROLES.items()]
    return ";".join(f"{name}:{value}" for name, value in pairs)


def theme_options() -> dict[str, str]:
    """Returns Streamlit's theme settings, light and dark: neutral greys that leave the colour to the roles.

    Streamlit shows captions at 60 % of the text's colour, which must still have a contrast of 4.5.
    """
    light = {"backgroundColor": "#FFFFFF", "secondaryBackgroundColor": "#F2F3F4", "textColor": "#111315"}
    dark = {"backgroundColor": "#15181B", "secondaryBackgroundColor": "#22262A", "textColor": "#E8EAEC"}
    options = {f"theme.light.{key}": value for key, value in light.items()}
    options |= {f"theme.dark.{key}": value for key, value in dark.items()}
    return options | {"theme.light.primaryColor": LABEL.colour, "theme.dark.primaryColor": SERIES[0]}
