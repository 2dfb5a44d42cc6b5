"""What a build says where the order of the frames is not certain, and the pattern that would choose another number."""

import re
from collections.abc import Iterator, Sequence

from data_prep.sources.frame_candidates import Candidate, Names
from data_prep.sources.frame_names import Field

# cost of a number among varying text up to which it is a frame number: it counts 1, 2, 3, is padded or labelled
_SURE = -0.5


def order_notes(
    chosen: Candidate,
    rivals: Sequence[Candidate],
    sample: Sequence[Names],
    name: tuple[Field, ...],
    file: str,
    uncertain: bool,
) -> Iterator[str]:
    """Sentences for the user; none where the order is certain.

    Arguments:
      chosen: What orders the frames.
      rivals: What could be the frame number as well and would give another order.
      sample: The names of several tracklets.
      name: The numbers of one name, the example.
      file: That name.
      uncertain: Whether the text between the numbers varies, as in hashes, whose digits may rise by chance.
    """
    example = f'names such as {file}'
    if rivals:
        others = ' or '.join(shown(c, name) for c in rivals[:3])
        yield (
            f'The frame number is ambiguous in {example}. Taken: {shown(chosen, name)}. '
            f'Not taken, though it would give another order: {others}. '
            f"To choose another: --frame_pattern='{suggestion(rivals[0], name)}'."
        )
    elif not chosen.plausible or (uncertain and chosen.cost > _SURE):
        yield (
            f'The order of frames is uncertain: in {example} {shown(chosen, name)} is taken as the frame number, '
            'but it may be a score, a position or an id. If it is, give each frame a number that rises with time.'
        )
    if where := _restarted(chosen, sample):
        yield (
            f'The frame number of {example} may have started again ({where}); the frames are ordered by it as it is. '
            'If the low numbers come last, rename them.'
        )


def _restarted(chosen: Candidate, sample: list[Names]) -> str:
    """'9998 to 0003' where the counter of a tracklet ran over its digits."""
    if len(chosen.parts) != 1 or not isinstance(chosen.parts[0], int):
        return ''
    for t in sample:
        texts = sorted((n[chosen.parts[0]].text for n in t), key=float)
        width = len(texts[0])
        if width < 3 or {len(x) for x in texts} != {width} or not all(x.isdecimal() for x in texts):
            continue
        near = 2 * len(texts)
        if int(texts[0]) <= near and int(texts[-1]) >= 10**width - 1 - near and 10**width > 8 * near:
            return f'{texts[-1]} and {texts[0]} in one tracklet'
    return ''


def shown(candidate: Candidate, name: tuple[Field, ...]) -> str:
    """Which numbers of a name, and what they are in this one: 'number 2 (0003)'."""
    texts = [name[i].text for i in sorted(candidate.fields(len(name)))]
    return f'{ordinal(candidate, name)} ({" ".join(texts)})'


def ordinal(candidate: Candidate, name: tuple[Field, ...]) -> str:
    places = [str(i + 1) for i in sorted(candidate.fields(len(name)))]
    what = 'the time in number' if candidate.is_time else 'number'
    return f'{what}{"s" if len(places) > 1 else ""} {", ".join(places)}'


def suggestion(candidate: Candidate, name: tuple[Field, ...]) -> str:
    """A pattern that takes the first to the last field of a candidate."""
    taken = sorted(candidate.fields(len(name)))
    runs = [len(re.findall(r'\d+', f.text)) for f in name]
    before, inside = sum(runs[: taken[0]]), sum(runs[taken[0] : taken[-1] + 1])
    head = rf'^(?:\D*\d+){{{before}}}\D*' if before else r'^\D*'
    return head + r'(?P<frame>\d+' + (rf'(?:\D\d+){{{inside - 1}}}' if inside > 1 else '') + ')'
