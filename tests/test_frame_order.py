"""Frames come in the order of time, whatever their names hold besides the frame number; else it is said or refused."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.sources.frame_order import frame_pattern, order_frames
from pvlad_jax.core.errors import UserError

RANDOM = random.Random(0)
SCORES = (91, 87, 93, 88, 95, 90)
X = (310, 305, 300, 295, 290, 285)
BOXES = (1, 4, 2, 3, 6, 5)
F = range(1, 7)


def box() -> int:
    return RANDOM.randint(1, 4)


def near(value: int) -> int:
    return value + RANDOM.randint(-3, 3)


def code() -> str:
    return f'{RANDOM.getrandbits(32):08x}'


# Kind -> names of tracklets, each in the order of time. No word is said about these.
CERTAIN: dict[str, Sequence[Sequence[str]]] = {
    'plain': [[str(f) for f in range(1, 13)]],
    'padded': [[f'{f:06d}' for f in range(317, 340)]],
    'ffmpeg': [[f'out{f}' for f in range(1, 120)]],
    'of 30': [[f'frame_{f}_of_30' for f in range(1, 31)], [f'frame_{f}_of_12' for f in range(1, 13)]],
    'MARS': [[f'{p:04d}C1T0002F{f:03d}' for f in range(1, 20)] for p in range(3)],
    'iLIDS-VID': [[f'cam2_person{p:03d}_{317 + f:05d}' for f in range(20)] for p in range(3)],
    'Market': [[f'0002_c1s1_{500 * t + 25 * f:06d}_{box():02d}' for f in range(12)] for t in range(9)],
    'Market, few': [[f'0001_c1s1_{6 * f:06d}_{BOXES[f - 1]:02d}' for f in F]],
    'Duke': [[f'0005_C2_F{46985 + 8 * f:07d}_X{30823 + f}' for f in range(9)]],
    'score': [[f'frame_{f:04d}_0.{SCORES[f - 1]}' for f in F]],
    'score first': [[f'0.{RANDOM.randint(50, 99)}_{f:04d}' for f in range(1, 20)] for _ in range(5)],
    'crop x': [[f'{f:06d}_{X[f - 1]}' for f in F]],
    'named fields': [[f'p3_c2_f{f}_b{box()}_conf{RANDOM.randint(50, 99)}' for f in range(1, 30)]],
    'position first': [[f'x{310 - 5 * f}_y{near(120)}_frame{f}' for f in range(1, 30)]],
    'two cameras': [[f'c{1 + f % 2}_{f:05d}' for f in range(1, 30)]],
    'trackers': [['im', *(f'im{f}' for f in range(2, 13))]],
    'copies': [['f', *(f'f ({i})' for i in range(1, 12))]],
    'negative': [[f'frame_{f}' for f in range(-5, 6)], [str(f) for f in range(-12, 3)]],
    'dash': [[f'frame-{f}' for f in range(1, 16)]],
    'version': [[f'shot1.{f}' for f in range(8, 13)]],
    'code behind': [[f'{f}_{code()}' for f in range(12)] for _ in range(3)],
    'code before': [[f'{code()}_{f:04d}' for f in range(12)] for _ in range(3)],
    'words behind': [[f'{f}_{RANDOM.choice(["left", "right", "front"])}' for f in range(12)] for _ in range(3)],
    'parts': [[f'part{a}_{b:04d}' for a in (1, 2) for b in range(1, 20)]],
    'drone': [[f'DJI_20230501{120000 + f}_{f + 1:04d}_V' for f in range(50)]],
    'drone that starts again': [[f'DJI_20230501{120000 + f}_{(9996 + f) % 10000:04d}_V' for f in range(9)]],
    'time of day': [[f'2023-05-01_12-{(57 + f) // 60:02d}-{(57 + f) % 60:02d}' for f in range(9)]],
    'hours without padding': [[f'{h}h{m}m{s}s' for h, m, s in ((9, 59, 58), (9, 59, 59), (10, 0, 0), (10, 0, 1))]],
    'midnight': [['2023-04-30_23-59-58', '2023-04-30_23-59-59', '2023-05-01_00-00-00', '2023-05-01_00-00-01']],
    'day first': [['30-04-2023_23-59-58', '30-04-2023_23-59-59', '01-05-2023_00-00-00', '01-05-2023_00-00-01']],
    'compact time': [[*(f'20230501_1234{s:02d}_{ms:03d}' for s in range(57, 60) for ms in (100, 500, 900)),
                      '20230501_123500_100']],
    'ISO': [[f'2023-05-01T12:34:{ms // 1000:02d}.{ms % 1000:03d}Z' for ms in range(57900, 59999, 40)]],
    # datetime.isoformat() leaves out a fraction of zero.
    'fractions of any length': [[f'2023-05-01T12:34:{s}' for s in ('56', '56.04', '56.1', '56.12', '57', '57.040001')]],
    'milliseconds without padding': [[f'12-34-{s}-{ms}' for s in (8, 9, 10) for ms in (1, 50, 999)]],
    'epoch, milliseconds': [[str(1683000000000 + 33 * f + RANDOM.randint(0, 9)) for f in range(20)]],
    'epoch, nanoseconds': [[str(1683000000000000000 + 33000123 * f) for f in range(9)]],
    'epoch, seconds': [[str(1683000000 + f / 25) for f in range(20)]],
    'epoch and score': [
        [f'{1683000000000 + 33 * f + RANDOM.randint(0, 9)}_{RANDOM.randint(50, 99)}' for f in range(20)]
    ],
    'camera, epoch, x': [[f'cam2_{1683000000000 + 33 * f + RANDOM.randint(0, 9)}_{310 - 4 * f}' for f in range(20)]],
    'number and time': [[f'frame{f}_t{0.04 * f:.2f}' for f in range(1, 120)]],
    'one frame': [['crop'], ['17'], ['frame_0003_0.91']],
}  # fmt: skip

# The right order is found, but another number could be meant: it is said.
SAID: dict[str, Sequence[Sequence[str]]] = {
    'box, few': [[f'{6 * f:06d}_{BOXES[f - 1]:02d}' for f in F]],
    'score first, few': [[f'{SCORES[f - 1]}_{f}' for f in F]],
    'DeepSORT': [
        [f'{k}_{100 + f}_{310 - 4 * f}_{near(120)}_{near(64)}_{near(128)}' for f in range(20)] for k in range(5)
    ],
    'DeepSORT, frame last': [
        [f'{k}_{310 - 4 * f}_{near(120)}_{near(64)}_{near(128)}_{f:05d}' for f in range(20)] for k in range(5)
    ],
    'countdown': [[f'{f}_{30 - f}' for f in range(31)]],
    'dash before all': [[f'frame_-{f}' for f in range(1, 6)]],
    'scores only': [[f'0.{s}' for s in (11, 15, 32, 58, 83)]],
}  # fmt: skip


def ordered(tracklets: Sequence[Sequence[str]], pattern: str = ''):
    """The result for files that come in another order than that of time, and the names by tracklet."""
    paths = {
        i: sorted((f'train/p/c1/t{i}/{n}.jpg' for n in names), key=lambda p: p[::-1])
        for i, names in enumerate(tracklets)
    }
    result = order_frames(paths, frame_pattern(pattern) if pattern else None)
    return result, [[p.rpartition('/')[2].removesuffix('.jpg') for _, p in result.order.get(i, [])] for i in paths]


@pytest.mark.parametrize('kind', CERTAIN)
def test_usual_names_are_ordered_by_time_without_a_word(kind):
    result, names = ordered(CERTAIN[kind])
    assert not result.issues and names == [list(n) for n in CERTAIN[kind]]
    assert not result.notes
    for frames in result.order.values():
        numbers = [n for n, _ in frames]
        assert numbers == sorted(set(numbers)) and all(abs(n) < 2**31 for n in numbers)


@pytest.mark.parametrize('kind', SAID)
def test_an_ambiguous_order_is_said(kind):
    result, names = ordered(SAID[kind])
    assert not result.issues and names == [list(n) for n in SAID[kind]]
    assert any('frame number' in note for note in result.notes)


def test_the_note_names_what_was_taken_and_its_pattern_takes_the_other():
    result, _ = ordered(SAID['countdown'])
    (note,) = result.notes
    assert 'Taken: number 1 (' in note and 'another order: number 2 (' in note
    pattern = note.partition("--frame_pattern='")[2].rpartition("'")[0]
    other, names = ordered(SAID['countdown'], pattern)
    assert names == [SAID['countdown'][0][::-1]] and not other.notes


@pytest.mark.parametrize(
    'tracklet, issue',
    [
        (['frame_0001_0.91', 'frame_0001_0.87', 'frame_0002_0.90', 'frame_0003_0.5'],
         'has the frame number 1, as frame_0001_0.87.jpg has'),
        (['f_1', 'f_01', 'f_2'], 'has the frame number 1'),
        (['1', '2', 'cover'], 'cover.jpg has no frame number'),
        (['frame_a', 'frame_b'], 'frame_a.jpg has no frame number'),
        (['im', 'im0', 'im1'], 'im.jpg has no frame number, while others of its tracklet count from 0'),
        ([f'{random.Random(7 + i).getrandbits(128):032x}' for i in range(10)],
         'no number in the names of its frames gives their order'),
    ],
)  # fmt: skip
def test_what_has_no_order_is_a_fault(tracklet, issue):
    result, _ = ordered([tracklet])
    assert any(issue in f for f in result.issues), result.issues


def test_a_counter_that_starts_again_is_said():
    result, _ = ordered([[f'DJI_{f % 10000:04d}' for f in range(9996, 10003)]])
    assert any('may have started again (9999 and 0000' in n for n in result.notes)


def test_numbers_are_those_of_the_names_where_they_can_be():
    numbers = [
        [n for n, _ in ordered([names])[0].order[0]]
        for names in (['f_1', 'f_2', 'f_10'], ['im', 'im2'], ['-3', '-1', '4'])
    ]
    assert numbers == [[1, 2, 10], [1, 2], [-3, -1, 4]]
    assert [n for n, _ in ordered([['1683000000001', '1683000000034']])[0].order[0]] == [0, 1]


def test_kinds_of_names_are_decided_separately():
    tracklets = [CERTAIN['score'][0], CERTAIN['plain'][0], CERTAIN['time of day'][0], CERTAIN['code before'][0]]
    result, names = ordered(tracklets)
    assert names == [list(t) for t in tracklets] and not result.notes and len(result.rules) == 4


@given(st.permutations(range(12)), st.integers(0, 10**6), st.integers(1, 50), st.booleans())
def test_the_order_of_the_listing_means_nothing(permutation, first, step, padded):
    names = [f'a{first + step * i:08d}_x' if padded else f'a{first + step * i}_x' for i in range(12)]
    result = order_frames({0: [f't/{names[i]}.jpg' for i in permutation]})
    assert [p for _, p in result.order[0]] == [f't/{n}.jpg' for n in names]


def test_a_pattern_chooses_the_number():
    names = [f'{9 - f}_{f}_of_9' for f in range(9)]
    assert ordered([names], r'^\d+_(?P<frame>\d+)')[1] == [names]
    times = ['x1-9-59-5', 'x1-10-0-4', 'x1-10-2-3']
    assert ordered([times], r'x1-(?P<frame>\d+-\d+)')[1] == [times]
    assert ordered([['f-3', 'f-2', 'f-1']], r'(?P<frame>-\d+)')[1] == [['f-3', 'f-2', 'f-1']]


@pytest.mark.parametrize(
    'pattern, issue',
    [
        ('x(?P<frame>\\d+)', 'a1.jpg is not matched by --frame_pattern'),
        ('(?P<frame>[a-z])', "a1.jpg has no number in the group frame ('a')"),
        ('(?P<frame>\\d?)', "has no number in the group frame ('')"),
        ('a(?P<frame>\\d)', 'a12.jpg has the frame number 1, as a1.jpg has'),
    ],
)
def test_a_pattern_that_does_not_fit_is_a_fault(pattern, issue):
    result, _ = ordered([['a1', 'a12']], pattern)
    assert any(issue in f for f in result.issues), result.issues


def test_a_pattern_is_checked():
    with pytest.raises(UserError, match=r'is not a regular expression: .*unterminated'):
        frame_pattern('(?P<frame>')
    with pytest.raises(UserError, match=r'no group named frame.*\(\?P<frame>'):
        frame_pattern(r'_(\d+)')


@pytest.mark.parametrize('digits', [6, 8, 32])
def test_hashes_are_not_ordered_silently(digits):
    for seed in range(100):
        source = random.Random(seed)
        frames = source.randint(2, 8)
        tracklets = [
            [f'{source.getrandbits(4 * digits):0{digits}x}' for _ in range(frames)] for _ in range(source.randint(1, 5))
        ]
        result, _ = ordered(tracklets)
        assert result.notes or result.issues, tracklets


def test_what_was_taken_is_said_where_names_hold_several_numbers():
    names = [f'a/frame_{i:04d}_0.{(7 * i) % 10}3.jpg' for i in range(6)]
    assert order_frames({'a': names}).taken == ['number 1 (0000) of names such as frame_0000_0.03.jpg']
    assert order_frames({'a': [f'a/{i:04d}.jpg' for i in range(6)]}).taken == []
