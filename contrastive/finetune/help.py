"""How the help of `contrastive finetune` is laid out."""

from __future__ import annotations

import argparse


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps line breaks, shows each flag in one spelling, and defaults only where there are any."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        spellings = [x for x in action.option_strings if x.startswith("--") and "-" not in x[2:]]
        if len(action.option_strings) < 2 or not spellings:
            return super()._format_action_invocation(action)
        return f"{spellings[0]} {self._format_args(action, action.dest.upper())}".strip()

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        if action.required:
            return f"{text} (required)"
        if action.default in (None, []) or not action.option_strings:
            return text
        return super()._get_help_string(action) or text

    def _split_lines(self, text: str, width: int) -> list[str]:
        split = super()._split_lines
        return [part for line in text.split("\n") for part in split(line, width)]
