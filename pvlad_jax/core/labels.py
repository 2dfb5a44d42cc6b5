"""Labels with a meaning of their own, as MARS numbers them; identities count from 1, cameras from 0."""

JUNK = -1  # person: ignored everywhere
DISTRACTOR = 0  # person: never a match
UNKNOWN_CAMERA = -1
