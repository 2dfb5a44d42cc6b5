"""Finds {train,query,gallery}/PERSON/CAMERA/TRACKLET/FRAME in a list of paths, below any folder."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from unicodedata import normalize

from data_prep.sources.archives import FrameFiles
from data_prep.sources.frame_suffixes import is_frame
from pvlad_jax.core.errors import UserError
from pvlad_jax.data.dataset_format import LAYOUTS

ROLES = LAYOUTS['roles']
TEST_ROLES = ('query', 'gallery')
LAYOUT = '{train,query,gallery}/PERSON/CAMERA/TRACKLET/FRAME.jpg (camera c0 where it is unknown)'
_MAX_LISTED = 20


class TrackletKey(NamedTuple):
    role: str
    person: str
    camera: str
    tracklet: str

    @property
    def name(self) -> str:
        return '/'.join(self)


class Groups(NamedTuple):
    """Paths by tracklet, in the order of the keys; files that are no frames; what lies at a wrong depth or is empty."""

    tracklets: dict[TrackletKey, list[str]]
    others: list[str]
    issues: list[str]


def find_root(files: FrameFiles, source: str) -> str:
    """The folder within the source that holds train, query and gallery: '', or 'mydata/' in an archive of a folder.

    Where none holds all three, one that holds query and gallery: people to test on alone. Raises UserError where there
    is neither, or several below other folders.
    """
    below: dict[str, set[str]] = {}
    for path in (*files.names, *(f'{f}/' for f in files.empty_folders)):
        parts = path.split('/')[:-1]
        for i, part in enumerate(parts):
            if part in ROLES:
                below.setdefault('/'.join([*parts[:i], '']), set()).add(part)
    whole = [root for root, roles in below.items() if roles == set(ROLES)]
    if not whole and not _has_train(files.names):
        whole = [root for root, roles in below.items() if roles == set(TEST_ROLES)]
    if '' in whole or len(whole) == 1:  # what lies deeper next to a data set at the top is none of it
        return '' if '' in whole else whole[0]
    if whole:
        listed = ', '.join(root or 'its top' for root in sorted(whole))
        raise UserError(
            f'{source} holds several data sets, each with query and gallery: {listed}. '
            'Give the folder of one of them as --source; unpack it where it is in an archive.'
        )
    raise UserError(_wrong_layout(files, source, below))


def group_paths(names: Iterable[str], empty_folders: Sequence[str] = (), root: str = '') -> Groups:
    """Groups the paths below `root` by tracklet. A role's folder may be doubled, as where each is its own archive.

    Names that Unicode holds to be the same (é as one character or as e and an accent, as macOS writes it) are one name.
    """
    tracklets: dict[TrackletKey, list[str]] = {}
    spellings: dict[str, str] = {}  # the first one of each name that is not ASCII
    others, issues = [], []
    names = [n for n in names if n.startswith(root) and n[len(root) :].split('/')[0] in ROLES]
    doubled = _doubled(names, root)
    for name in names:
        parts = name[len(root) :].split('/')
        if parts[0] in doubled:
            parts = parts[1:]
        if not is_frame(name):
            others.append(name)
        elif len(parts) != 5:
            issues.append(f'{name} is too {"deep" if len(parts) > 5 else "high"} for {LAYOUT.partition(" ")[0]}')
        else:
            key = (p if p.isascii() else spellings.setdefault(normalize('NFC', p), p) for p in parts[:4])
            tracklets.setdefault(TrackletKey(*key), []).append(name)
    filled = {path.rpartition('/')[0] for paths in tracklets.values() for path in paths}
    for folder in sorted({n.rpartition('/')[0] for n in others} - filled):
        if folder[len(root) :].count('/') == 3 + (folder[len(root) :].split('/')[0] in doubled):
            issues.append(f'{folder} holds no frames')
    within = [f for f in empty_folders if f.startswith(root) and f[len(root) :].split('/')[0] in ROLES]
    issues += [f'{folder} is empty, or a link to nothing' for folder in within]
    return Groups({k: sorted(tracklets[k]) for k in sorted(tracklets)}, others, issues)


def outside_note(names: Iterable[str], root: str) -> list[str]:
    """A sentence that counts the pictures in other folders than train, query and gallery; or none."""
    found: Counter[str] = Counter()
    for name in names:
        top = name.removeprefix(root).partition('/')[0]
        if not (name.startswith(root) and top in ROLES) and is_frame(name):
            found[top] += 1
    if not found:
        return []
    shown = ', '.join(f'{top} ({n:,})' for top, n in found.most_common(5))
    return [f'Pictures outside train, query and gallery are not read: {shown}{", ..." if len(found) > 5 else ""}.']


def refuse_issues(source: str, issues: Sequence[str], hint: str = '') -> None:
    """Raises UserError with the first issues, where there are any."""
    if issues:
        more = f'\n  and {len(issues) - _MAX_LISTED} more' if len(issues) > _MAX_LISTED else ''
        raise UserError(f'{source} does not follow {LAYOUT}:\n  ' + '\n  '.join(issues[:_MAX_LISTED]) + more + hint)


def _has_train(names: Iterable[str]) -> bool:
    """Whether a folder is called train, in any case: then it is not left out by intention."""
    return any(part.lower() == 'train' for name in names for part in name.split('/')[:-1])


def _doubled(names: Sequence[str], root: str) -> set[str]:
    inner: dict[str, set[str]] = {}
    for name in names:
        role, _, rest = name[len(root) :].partition('/')
        inner.setdefault(role, set()).add(rest.partition('/')[0])
    return {role for role, folders in inner.items() if folders == {role}}


def _wrong_layout(files: FrameFiles, source: str, below: dict[str, set[str]]) -> str:
    tops = sorted({n.split('/')[0] for n in files.names} | {n.split('/')[0] for n in files.empty_folders})
    holds = f'It holds: {", ".join(tops[:10]) or "nothing"}{", ..." if len(tops) > 10 else ""}.'
    cased = sorted({p for n in files.names for p in n.split('/')[:-1] if p not in ROLES and p.lower() in ROLES})
    hint = f' Folder names are in lower case: rename {", ".join(cased)}.' if cased else ''
    if not below:
        return f'{source} has no tracklets in {", ".join(ROLES)}; expected {LAYOUT}. {holds}{hint}'
    root, roles = max(below.items(), key=lambda item: len(item[1]))
    missing = ', '.join(r for r in ROLES if r not in roles)
    where = f'{source} has no tracklets in {missing}'
    neighbour = f' next to {root}{min(roles)}' if root else ''
    return f'{where}{neighbour}; expected {LAYOUT}. {holds}{hint}'
