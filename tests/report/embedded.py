"""The data that a page draws from."""

from __future__ import annotations

import json
from typing import Any


def read_data(page: str) -> dict[str, Any]:
    """As the page's own script reads it."""
    found: dict[str, Any] = json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])
    return found
