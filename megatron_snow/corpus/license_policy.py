"""Whether a licence lets a file into the tiers: SPDX expressions against the categories of ScanCode's licence database.

The database comes with license-expression (both by AboutCode): each of some 2,500 licences has one category, "Permissive" and "Public
Domain" being those The Stack v2 keeps (arXiv 2402.19173, section 2.1; it adds what the Blue Oak Council approves, which is left out here).
"""

from __future__ import annotations

import difflib
from functools import cache
from typing import Any, Literal

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.corpus.settings import LicenseSettings

Verdict = Literal["allowed", "licence not allowed", "licence unknown", "no licence stated"]


@cache
def categories() -> dict[str, str]:
    """SPDX identifier (or ScanCode's ``LicenseRef-scancode-...``) in lower case -> category."""
    from license_expression import get_license_index

    found: dict[str, str] = {}
    for license_ in get_license_index():
        for name in (license_["spdx_license_key"], *license_["other_spdx_license_keys"]):
            if name:
                found[name.lower()] = license_["category"]
    return found


def check_licenses(settings: LicenseSettings) -> None:
    """Raises SnowError on a name that is neither a category nor an identifier."""
    known = categories()
    kinds = set(known.values())
    for field, names in (("allowed", settings.allowed), ("refused", settings.refused)):
        for name in names:
            if name not in kinds and name.lower() not in known:
                near = difflib.get_close_matches(name.lower(), [*known, *(kind.lower() for kind in kinds)], n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"give SPDX identifiers or one of {', '.join(sorted(kinds))}"
                raise SnowError(f"corpus.licenses.{field}: no licence or category of licences is called {name!r}; {hint}")


class Policy:
    """Judges expressions by the settings; what was judged once is remembered."""

    def __init__(self, settings: LicenseSettings) -> None:
        self._settings = settings
        self._allowed = {name.lower() for name in settings.allowed}
        self._refused = {name.lower() for name in settings.refused}
        self._known: dict[str, Verdict] = {}

    def verdict(self, expression: str) -> Verdict:
        """What is to be said of a file under ``expression`` ("" where none is stated)."""
        if not expression:
            return "allowed" if self._settings.none_stated == "keep" else "no licence stated"
        if expression not in self._known:
            self._known[expression] = self._judge(expression)
        return self._known[expression]

    def _judge(self, expression: str) -> Verdict:
        from license_expression import ExpressionError, Licensing

        try:
            tree = Licensing().parse(expression)
            allowed = None if tree is None else self._admits(tree)
        except ExpressionError:
            allowed = None
        if allowed is None:
            return "allowed" if self._settings.unknown == "keep" else "licence unknown"
        return "allowed" if allowed else "licence not allowed"

    def _admits(self, node: Any) -> bool | None:
        """True, False, or None where it hangs on a licence nobody knows. Of alternatives the best counts, of what is all in force the worst."""
        from license_expression import AND, OR, LicenseWithExceptionSymbol

        if isinstance(node, OR | AND):
            parts = [self._admits(part) for part in node.args]
            decisive = isinstance(node, OR)
            return decisive if decisive in parts else (None if None in parts else not decisive)
        # An exception only ever grants more: a licence with one is judged as the licence.
        key = (node.license_symbol.key if isinstance(node, LicenseWithExceptionSymbol) else node.key).lower()
        category = categories().get(key)
        if key in self._refused or (category is not None and category.lower() in self._refused):
            return False
        if key in self._allowed:
            return True
        return None if category is None else category.lower() in self._allowed
