"""How often tests do what they do: as often as a build has time for, or with RAYDESK_FULL_COUNTS=1 a night."""

import os

FULL_COUNTS = "RAYDESK_FULL_COUNTS"
IS_FULL = os.environ.get(FULL_COUNTS) == "1"
