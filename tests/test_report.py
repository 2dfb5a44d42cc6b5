"""A report agrees with the metrics, shows what was ranked, and takes no name for markup."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import main
from configs import run as saved_run
from pvlad_jax.data.tracklet_dataset import TrackletDataset
from pvlad_jax.evaluation import Embeddings, score, write_embeddings, write_result
from pvlad_jax.evaluation.cmc_map import rank
from pvlad_jax.evaluation.protocols import label_arrays
from pvlad_jax.evaluation.scoring import ranked_tables, score_rows
from pvlad_jax.report.charts import HEIGHT, WIDTH, line_chart
from pvlad_jax.report.codeword_use import CodewordUse, codeword_use, read_codeword_use, write_codeword_use
from pvlad_jax.report.query_outcomes import query_outcomes
from pvlad_jax.runs.report import _frames
from pvlad_jax.runs.workdir import write_config
from tests.helpers.micro import micro_config

pytest.importorskip('jinja2', reason='reports need Jinja2')
HOSTILE = '"><script>alert(1)</script>\u202e{{ 7 * 7 }}'


def tables(people: int = 4, hostile: bool = False, seed: int = 0) -> tuple[Embeddings, Embeddings]:
    """Names as in tests/helpers/micro.py; embeddings on a coarse grid, so that many distances tie."""
    rng = np.random.default_rng(seed)

    def table(camera: int) -> Embeddings:
        persons = np.repeat(np.arange(7, 7 + people), 1)
        names = [f'p{p}c{c}t1' for p in persons for c in (1, 2)]
        ids, cameras = np.repeat(persons, 2), np.tile([1, 2], people)
        kept = np.flatnonzero(cameras == camera) if camera else np.arange(len(ids))
        vectors = rng.integers(-1, 2, (len(ids), 3)) + np.array([0.5, 0.25, 0.125])
        return Embeddings(embedding=vectors.astype(np.float32), person_id=ids, camera_id=cameras,
                          tracklet=np.array(names)).select(kept)  # fmt: skip

    query, gallery = table(1), table(2)
    if hostile:
        other = Embeddings(embedding=query.embedding[:1], person_id=np.array([0]), camera_id=np.array([2]),
                           tracklet=np.array([HOSTILE]))  # fmt: skip
        gallery = gallery.join(other)
    return query, gallery


@pytest.mark.parametrize('protocol', ['mars_official', 'cross_camera', 'all_but_query'])
def test_outcomes_are_those_of_the_metrics(protocol):
    query, gallery, chosen = ranked_tables(*tables(people=30), protocol)
    scores = score_rows(query, gallery)
    found = query_outcomes(scores, query, gallery, chosen, top=5)
    ranking = rank(scores, *label_arrays(query, gallery), chosen)
    np.testing.assert_array_equal(found.first_rank, np.nan_to_num(ranking.first_rank))
    inside = (found.first_rank > 0) & (found.first_rank <= 5)
    first_right = found.right.argmax(1) + 1
    np.testing.assert_array_equal(first_right[inside], found.first_rank[inside])
    assert found.one_person.sum() == ranking.num_matches.sum()
    assert (np.diff(found.distance, axis=1) >= 0).all()
    order = found.first_rank[found.worst_first()]
    assert (np.diff(order) <= 0).all() and len(order) == ranking.valid.sum()
    if protocol == 'cross_camera':  # one other camera: the accuracy from camera to camera is rank-1
        assert found.camera_pairs == {(1, 2): (int((found.first_rank == 1).sum()), 30)}


def test_a_tie_from_camera_to_camera_is_wrong():
    query = Embeddings(embedding=np.ones((1, 2), np.float32), person_id=np.array([1]), camera_id=np.array([1]),
                       tracklet=np.array(['q']))  # fmt: skip
    gallery = Embeddings(embedding=np.ones((3, 2), np.float32), person_id=np.array([1, 2, 1]),
                         camera_id=np.array([2, 2, 3]), tracklet=np.array(['a', 'b', 'c']))  # fmt: skip
    query, gallery, chosen = ranked_tables(query, gallery, 'mars_official')
    found = query_outcomes(score_rows(query, gallery), query, gallery, chosen, top=2)
    assert found.camera_pairs == {(1, 2): (0, 1), (1, 3): (1, 1)}


class Page(HTMLParser):
    """What a browser would see: elements, their attributes, the text outside of scripts."""

    VOID = ('meta', 'img', 'input', 'br')

    def __init__(self, text: str):
        super().__init__()
        self.elements, self.open, self.said = [], [], ''
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.said += data if not self.open or self.open[-1] not in ('script', 'style') else ''

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


def evaluated(folder: Path, **fields) -> Path:
    folder.mkdir()
    write_config(folder, micro_config('no_data', **fields))
    return folder


def reported(folder: Path, hostile: bool, codewords: CodewordUse | None = None, **fields) -> tuple[Path, Page]:
    workdir = evaluated(folder / 'work', **fields)
    query, gallery = tables(hostile=hostile)
    for role, table in (('query', query), ('gallery', gallery)):
        write_embeddings(workdir / 'embeddings' / f'{role}.npz', table)
    write_result(workdir / 'eval' / 'latest.json', score(query, gallery, dataset='<b>mine</b>', split='test', step=2))
    if codewords is not None:
        write_codeword_use(workdir / 'eval' / 'codeword_use.json', codewords, 2)
    lines = [{'step': s, 'kind': 'train', 'loss': 3 / s, 'accuracy': s / 4} for s in (1, 2)]
    (workdir / 'metrics.jsonl').write_bytes(
        b'\xff\n' + '\n'.join([*map(json.dumps, lines), '{"step": 3, "ki']).encode()
    )
    assert main.run(saved_run.get_config(str(workdir)), workdir, 'report') == 0
    return workdir / 'report', Page((workdir / 'report' / 'index.html').read_text(encoding='utf-8'))


def test_a_page_shows_pictures_and_fetches_nothing(tmp_path, monkeypatch):
    frames = [np.full((16, 8, 3), 90, np.uint8)] * 2  # those of a data set: tests/test_whole_run.py
    monkeypatch.setattr('pvlad_jax.runs.report._frames', lambda *_: lambda name, count: frames)
    folder, page = reported(tmp_path, hostile=False)
    pictures = [image['data-src'] for image in page.all('img') if 'data-src' in image]
    assert len(pictures) >= 8 and all((folder / path).read_bytes()[:2] == b'\xff\xd8' for path in pictures)
    assert not any('src' in image for image in page.all('img'))  # they are loaded as they are scrolled to
    assert not [
        a for _, attributes in page.elements for a in attributes.values() if a and re.search(r'//|javascript:', a)
    ]
    assert len(page.all('section')) == 4 and len(page.all('polyline')) >= 5
    assert not page.all('link') and len(page.all('script')) == 1
    assert 'mars_official' in page.said and '4 of 4 queries valid' in page.said
    assert 'Use of the codewords is missing: this evaluation has not written it.' in page.said


def test_rows_of_the_camera_table_are_those_of_the_queries(tmp_path):
    _, page = reported(tmp_path, hostile=False)
    # Cameras 1 and 2; those of camera 1 are asked for in camera 2, and nobody is asked for by camera 2.
    assert re.search(r'camera12\s+1\d+\.0 % of 42\s+Map', page.said)


def test_the_page_of_a_pooling_without_codewords_does_not_miss_them(tmp_path):
    assert 'codewords' not in reported(tmp_path, hostile=False, **{'model.pooling': 'average'})[1].said


def test_use_of_codewords():
    use = codeword_use(np.array([[1, 1, 1, 1], [5, 0, 0, 0], [6, 6, 0.2, 0], [0, 0, 0, 0], [40, 1, 0, 0]]), 3)
    np.testing.assert_allclose(use.shares.sum(1), 1)
    np.testing.assert_array_equal(use.in_use, [4, 1, 2, 4, 1])  # a tenth of an even share is 2.5 %
    np.testing.assert_allclose(use.effective[[0, 1, 3]], [4, 1, 4], rtol=1e-6)


def test_codewords_are_those_of_the_result_or_said_to_be_missing(tmp_path):
    path, notes = tmp_path / 'codeword_use.json', []
    assert read_codeword_use(path, 2, notes.append) is None and 'has not written it' in notes[-1]
    written = codeword_use(np.arange(1, 9.0).reshape(2, 4), 64)
    write_codeword_use(path, written, 2)
    read = read_codeword_use(path, 2, notes.append)
    np.testing.assert_allclose(read.shares, written.shares, atol=1e-6)
    assert read.clips == 64 and len(notes) == 1
    assert read_codeword_use(path, 3, notes.append) is None and 'of another step than 3' in notes[-1]
    for damaged in ('{', '[]', '{"shares": [[1, -1]], "clips": 1}', '{"shares": [], "clips": 1}', '{"shares": [[1]]}'):
        path.write_text(damaged)
        assert read_codeword_use(path, 2, notes.append) is None and 'is damaged' in notes[-1]


PRESS = """<script>
function press(selector, key, times) {
  const element = document.querySelector(selector);
  for (let i = 0; i < times; i++) element.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
  return element;
}
addEventListener('load', () => {
  const said = [press('.chart svg', 'ArrowRight', 3).nextElementSibling.textContent];
  press('#codewords', 'ArrowDown', 2);
  said.push(press('#codewords', 'ArrowRight', 1).nextElementSibling.textContent);
  press('#map', 'ArrowRight', 1);
  said.push(preview.querySelector('output').textContent, preview.style.display);
  press('#map', 'Escape', 1);
  form.elements.person.value = '8';
  form.dispatchEvent(new Event('input'));
  said.push(preview.style.display, document.getElementById('count').textContent);
  document.title = JSON.stringify(said);
});
</script></body>"""


@pytest.mark.skipif(shutil.which('chromium') is None, reason='Chromium is not installed')
def test_in_a_browser_keys_read_values_and_the_form_chooses(tmp_path):
    folder, _ = reported(tmp_path, hostile=True, codewords=codeword_use(np.array([[1, 3.0], [1, 1]]), 8))
    text = (folder / 'index.html').read_text(encoding='utf-8')
    (folder / 'pressed.html').write_text(text.replace('</body>', PRESS), encoding='utf-8')
    command = ['chromium', '--headless', '--no-sandbox', '--disable-gpu', f'--user-data-dir={tmp_path / "profile"}']
    shown = subprocess.run(
        [*command, '--dump-dom', f'file://{folder / "pressed.html"}'], capture_output=True, text=True, timeout=300
    )
    said = json.loads(html.unescape(re.search('<title>(.*?)</title>', shown.stdout)[1]))
    cmc = json.loads((folder.parent / 'eval' / 'latest.json').read_text())['cmc']
    assert said[0] == f'rank 3: CMC {cmc[2]:.4g}'
    assert said[1] == 'part 2, codeword 2: 50.00 %' and re.fullmatch(r'person \d+, camera 1, p\d+c1t1', said[2])
    assert said[3:] == ['block', 'none', '1 shown']


def test_a_report_is_replaced_but_nothing_that_was_put_beside_it(tmp_path, capfd):
    folder, _ = reported(tmp_path, hostile=False)
    config = saved_run.get_config(str(folder.parent))
    (folder / 'index.html').write_text((folder / 'index.html').read_text().replace('mars_official', ''))
    assert main.run(config, folder.parent, 'report') == 0 and 'mars_official' in (folder / 'index.html').read_text()
    (folder / 'notes.txt').write_text('')
    assert main.run(config, folder.parent, 'report') == 2
    assert 'is left as it is' in capfd.readouterr().err and (folder / 'notes.txt').exists()


def test_tracklets_that_the_data_set_lacks_are_noted(micro_data):
    config, notes = micro_config(micro_data), []
    name = next(iter(TrackletDataset.open(config.dataset.data_dir, config.dataset.name).tables.values())).tracklet[0]
    frames = _frames(config, [str(name), 'stranger'], notes)
    assert frames('stranger', 3) is None and len(frames(str(name), 3)) > 0
    (note,) = notes
    assert note.startswith('Some pictures are missing') and "lacks 1 of 2 tracklets, such as 'stranger'" in note


def test_names_are_never_markup(tmp_path, capfd):
    folder, page = reported(tmp_path, hostile=True)
    assert len(page.all('script')) == 1 and not page.all('b')
    assert r'"><script>alert(1)</script>\u202e{{ 7 * 7 }}' in page.said and '<b>mine</b>' in page.said
    assert sorted(path.name for path in folder.iterdir()) == ['index.html']
    assert 'There are no pictures' in page.said and 'There are no pictures' in capfd.readouterr().out


def test_what_cannot_be_reported_is_one_sentence(tmp_path, capfd):
    workdir = evaluated(tmp_path / 'work')
    config = saved_run.get_config(str(workdir))
    assert main.run(config, workdir, 'report') == 2
    assert 'Make one with --mode=eval' in capfd.readouterr().err
    other = tmp_path / 'other'
    other.mkdir()
    for name in ('thesis.tex', 'index.html'):  # beside other files, and a page of another program alone
        (other / name).write_text('')
        assert main.run(config, workdir, 'report', output=other) == 2
        assert 'is no report' in capfd.readouterr().err and (other / name).exists()
        (other / name).unlink()
    query, gallery = tables()
    result = score(query, gallery).to_json() | {'distance': 'xqda'}  # of a former version
    (workdir / 'eval').mkdir()
    for damage in (
        {'rank_1': None},
        {'mAP': '0.5'},
        {'cmc': 3},
        {'cmc': [None]},
        {'protocol': ['mars_official']},
        {'n_query': 1.5},
    ):
        (workdir / 'eval' / 'latest.json').write_text(json.dumps(result | damage))
        assert main.run(config, workdir, 'report') == 2 and 'holds no result' in capfd.readouterr().err
    (workdir / 'eval' / 'latest.json').write_text(json.dumps(result))
    assert main.run(config, workdir, 'report') == 2
    assert 'train.npz is not there' in capfd.readouterr().err


def test_a_curve_of_one_point_or_of_none_is_left_out():
    for x, y in (([], []), ([1], [np.nan]), ([5], [0.5]), ([5, 6], [0.5, np.nan])):
        assert line_chart('t', 'x', 'y', {'a': (x, y)}) is None
    chart = line_chart('t', 'x', 'y', {'a': ([5], [0.0]), 'b': ([5, 7], [0.0, 0.0])})
    assert [c.name for c in chart.curves] == ['b']
    assert all(np.isfinite(float(number)) for number in re.split('[ ,]', chart.curves[0].points))


def test_a_curve_that_rises_is_drawn_upwards():
    chart = line_chart('t', 'x', 'y', {'a': ([0, 1, 2], [0.0, 1.0, 2.0])})
    assert chart.curves[0].points == f'0.0,{HEIGHT:.1f} {WIDTH / 2:.1f},{HEIGHT / 2:.1f} {WIDTH:.1f},0.0'
    assert chart.x_ticks[0] == (0.0, '0') and chart.x_ticks[-1] == (WIDTH, '2')
    assert chart.y_ticks[0] == (HEIGHT, '0') and chart.y_ticks[-1] == (0.0, '2')
