"""The library: a working directory is all that is needed, an embedding depends on its frames alone, nothing is
compiled twice."""

import subprocess
import sys
import weakref
from pathlib import Path

import jax
import numpy as np
import pytest

import pvlad_jax
from pvlad_jax.core.errors import UserError
from pvlad_jax.embedding import embed_video
from pvlad_jax.embedding.interleaved import TrackletEnd, TrackletFrame
from pvlad_jax.runs.trained_model import load_trained
from tests.helpers.small_models import write_workdir

ROOT = Path(__file__).resolve().parents[1]
RNG = np.random.default_rng(0)


def frames(n: int, height: int = 16, width: int = 8) -> np.ndarray:
    return RNG.integers(0, 256, (n, height, width, 3), dtype=np.uint8)


@pytest.fixture(scope='module')
def workdir(tmp_path_factory) -> Path:
    return write_workdir(tmp_path_factory.mktemp('model'))


@pytest.fixture(scope='module')
def model(workdir):
    with pytest.MonkeyPatch.context() as patch:  # neither the data set nor a configuration file
        patch.setattr(
            'pvlad_jax.data.tracklet_dataset.TrackletDataset.open', lambda *_: pytest.fail('the data set was opened')
        )
        return pvlad_jax.load(workdir)


def test_importing_the_package_imports_nothing_else():
    code = (
        'import sys, pvlad_jax\n'
        'heavy = {"jax", "numpy", "flax", "absl", "cv2"} & set(sys.modules)\n'
        'assert not heavy and "load" in dir(pvlad_jax), heavy\n'
        'assert pvlad_jax.UserError.__name__ == "UserError" and "jax" not in sys.modules\n'
    )
    subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True)
    with pytest.raises(AttributeError, match='no attribute'):
        pvlad_jax.nonsense  # noqa: B018
    assert all(hasattr(pvlad_jax, name) for name in pvlad_jax.__all__)


def test_an_embedding_is_that_of_the_evaluation(model):
    video = frames(11)
    trained = model.model
    expected = embed_video(trained.network, trained.variables, video, clip_frames=4)
    embedding = model.embed(video)
    assert embedding.shape == (model.size,) and embedding.dtype == np.float32
    np.testing.assert_allclose(embedding, expected, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(embedding), 1, rtol=1e-5)


@pytest.mark.parametrize('pooling', ['person_vlad', 'part_attention'])
def test_a_position_term_needs_frames_of_the_size_that_it_was_learned_for(tmp_path, pooling):
    workdir = write_workdir(tmp_path / 'model', **{'model.pooling': pooling, 'model.position_term': True})
    model = load_trained(workdir)
    for length in (3, 40):  # less than a step, and several
        assert np.isfinite(embed_video(model.network, model.variables, frames(length), clip_frames=4)).all()
        with pytest.raises(UserError, match=r'of 32 x 12 pixels .* of 8 x 3 cells, .* learned for 4 x 2\. Resize'):
            embed_video(model.network, model.variables, frames(length, 32, 12), clip_frames=4)
    assert np.isfinite(pvlad_jax.load(workdir).embed(frames(3, 32, 12))).all()  # which resizes


def test_without_a_position_term_frames_may_have_another_size(model):
    trained = model.model
    assert np.isfinite(embed_video(trained.network, trained.variables, frames(5, 32, 12), clip_frames=4)).all()


def test_the_first_call_compiles_and_later_ones_do_not(workdir):
    model = pvlad_jax.load(workdir, clips_per_step=3)  # a shape that no other test has
    compiled = []

    def listen(event: str, seconds: float, **_):
        if 'backend_compile' in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        model.embed(frames(2))
        first = len(compiled)
        for length, size in ((1, (16, 8)), (3, (40, 33)), (4, (9, 70)), (13, (16, 8)), (60, (200, 100))):
            model.embed(frames(length, *size))
        model.embed_many([frames(n) for n in (5, 1, 9, 2, 2, 2, 2)])
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert first >= 1 and len(compiled) == first


def test_tracklets_do_not_see_each_other(model):
    """Alone, together, and interleaved in any way: the same embeddings."""
    videos = [frames(n) for n in (1, 4, 9, 6, 17, 3, 2, 8)]
    alone = [model.embed(video) for video in videos]
    np.testing.assert_allclose(model.embed_many(videos), alone, atol=2e-6)
    np.testing.assert_allclose(model.embed_many(iter(map(iter, videos))), alone, atol=2e-6)
    rest = [list(video) for video in videos]
    order = [i for i, video in enumerate(videos) for _ in video]
    RNG.shuffle(order)

    def events():
        for i in order:
            yield TrackletFrame(f'track {i}', rest[i].pop(0))
            if not rest[i]:
                yield TrackletEnd(f'track {i}')
        yield TrackletEnd('without frames')
        yield TrackletFrame('without an end', videos[0][0])

    found = {done.key: done for done in model.stream(events())}
    assert sorted(found) == [f'track {i}' for i in range(len(videos))]
    for i, video in enumerate(videos):
        assert found[f'track {i}'].frames == len(video)
        np.testing.assert_allclose(found[f'track {i}'].embedding, alone[i], atol=2e-6)


def test_results_come_while_frames_are_still_read(model):
    """Memory does not grow with the number of tracklets: each is given away soon after its end."""
    begun = 0

    def events():
        nonlocal begun
        for begun in range(1, 41):
            yield from [TrackletFrame(begun, image) for image in frames(4)]
            yield TrackletEnd(begun)

    behind = [begun - done.key for done in model.stream(events())]
    assert len(behind) == 40 and max(behind) <= 4 * model.interleaved.clips_per_step


def test_frames_are_not_kept_longer_than_their_clip_needs(workdir):
    model = pvlad_jax.load(workdir, clips_per_step=2)
    alive, most = weakref.WeakSet(), 0

    class Frame(np.ndarray):
        """An array that a weak set can hold."""

        __hash__ = object.__hash__

    def video():
        nonlocal most
        for _ in range(200):
            image = frames(1)[0].view(Frame)
            alive.add(image)
            most = max(most, len(alive))
            yield image

    def events():
        yield from (TrackletFrame('a', image) for image in video())
        yield TrackletEnd('a')

    assert [done.frames for done in model.stream(events())] == [200]
    assert most <= 3 * 2 * model.clip[0]  # a step in progress, one that is filled, a clip that is filled


def test_frames_of_a_tracklet_may_have_different_sizes(model):
    crops = [frames(1, height, width)[0] for height, width in ((16, 8), (64, 20), (5, 5), (31, 90))]
    assert np.isfinite(model.embed(crops)).all()


def test_flip_is_the_average_with_the_mirror_image(model, workdir):
    video = frames(7)
    both = model.embed(video) + model.embed(video[:, :, ::-1])
    flipped = pvlad_jax.load(workdir, flip=True)
    np.testing.assert_allclose(flipped.embed(video), both / np.linalg.norm(both), atol=2e-6)
    assert flipped.fingerprint != model.fingerprint


def test_distances(model):
    a, b = model.embed_many([frames(4), frames(4)])
    assert model.distance(a, a) == pytest.approx(0, abs=1e-6) and model.distance(a, -a) == pytest.approx(2, abs=1e-6)
    assert isinstance(model.distance(a, b), float)
    assert model.distance(3 * a, b) == pytest.approx(model.distance(a, b), abs=1e-6)
    matrix = model.distance(np.stack([a, b]), np.stack([a, b, b]))
    assert matrix.shape == (2, 3) and matrix[0, 2] == pytest.approx(model.distance(a, b), abs=1e-6)
    with pytest.raises(UserError, match='8 numbers'):
        model.distance(a, np.zeros(9))


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('scale', [1e-36, 1e-30, 1e-20, 1e20, 1e30, 1e38])
def test_the_length_of_an_embedding_does_not_change_a_distance(model, scale):
    a, b = np.random.default_rng(0).uniform(-1, 1, (2, model.size)).astype(np.float32)
    rows, factors = np.stack([a, b]), np.float32([[scale], [1]])
    assert model.distance(a * np.float32(scale), a) == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(model.distance(rows * factors, rows), model.distance(rows, rows), atol=1e-6)


def test_a_distance_stays_in_its_range(model):
    many = np.random.default_rng(0).standard_normal((200, model.size))
    assert model.distance(many, many).min() == 0 and model.distance(many, -many).max() == 2


def test_a_distance_of_zeros_is_refused(model):
    rows = np.ones((3, model.size))
    rows[2] = 0
    with pytest.raises(UserError, match='The second embedding of a distance is all zeros, first in row 2: '):
        model.distance(rows[0], rows)
    with pytest.raises(UserError, match=r'The first embedding of a distance is all zeros'):
        model.distance(rows[2], rows[0])


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf, 1e60])
def test_a_distance_of_numbers_that_are_not_finite_is_refused(model, value):
    rows = np.ones((3, model.size))
    spoilt = rows.copy()
    spoilt[1, 2] = value
    with pytest.raises(UserError, match=r'The first embedding .* holds NaN or Inf, first in row 0'):
        model.distance(spoilt[1], rows)
    with pytest.raises(UserError, match=r'The second embedding .* holds NaN or Inf, first in row 1'):
        model.distance(rows[0], spoilt)


@pytest.mark.parametrize('value', ['a name', ['x'] * 8, [[1.0] * 8, [1.0]], [object()] * 8])
def test_a_distance_of_what_are_no_numbers_is_refused(model, value):
    with pytest.raises(UserError, match='is not an array of numbers'):
        model.distance(np.ones(model.size), value)


@pytest.mark.parametrize(
    ('tracklet', 'says'),
    [
        (np.zeros((2, 16, 8, 3)), 'not uint8'),
        (np.zeros((2, 16, 8), np.uint8), 'has the shape'),
        ('video.mp4', 'not str'),
        (7, 'not int'),
        (np.zeros((), np.uint8), 'a single number'),
        (np.zeros((0, 16, 8, 3), np.uint8), 'no frames'),
        ([np.zeros((3, 16, 8), np.uint8)], 'channels first'),
        (np.zeros((2, 0, 8, 3), np.uint8), 'has the shape'),
    ],
)
def test_what_is_no_tracklet_is_one_sentence(model, tracklet, says):
    with pytest.raises(UserError, match=says):
        model.embed(tracklet)
    assert model.embed_many([]).shape == (0, model.size)


def test_what_load_is_asked_for_is_checked(workdir):
    (step,) = (path.name for path in (workdir / 'checkpoints').iterdir() if path.name.isdecimal())
    asked = [pvlad_jax.load(workdir, checkpoint) for checkpoint in (int(step), step)]
    assert asked[0].fingerprint == asked[1].fingerprint == pvlad_jax.load(workdir, clips_per_step=1).fingerprint
    with pytest.raises(UserError, match='no checkpoint of step 999'):
        pvlad_jax.load(workdir, 999)
    for wrong in (0, -1):
        with pytest.raises(UserError, match=f'clips_per_step = {wrong} is not a whole number from 1'):
            pvlad_jax.load(workdir, clips_per_step=wrong)
