"""Pages: where the next one is."""

import re

# Source: RFC 8288, "Web Linking"; the server sends one link of this kind, with a path of its own.
NEXT = re.compile(r'<(/[^>\s]*)>\s*;\s*rel="?next"?')


def next_page(link: str | None) -> str | None:
    """Give the path of the next page from a Link header, or None on the last page."""
    found = NEXT.search(link or "")
    return found[1] if found else None
