"""Galleries verified: any changed byte of any file is found, and nothing that the program itself has written."""

import json

import numpy as np
import pytest

pytest.importorskip('pyarrow')
from pvlad_jax.commands.dispatcher import main
from pvlad_jax.core.errors import UserError
from pvlad_jax.gallery import local_store
from tests.helpers.small_galleries import make, rows, write_rows


def files_of(gallery) -> list:
    return sorted(path for kind in ('segments', 'index') for path in (gallery.folder / kind).rglob('*.*'))


def changed_gallery(tmp_path, monkeypatch, backend='exact'):
    """One that was added to, deleted from, and merged."""
    monkeypatch.setattr(local_store, '_MAX_SMALL', 3)
    gallery = make(tmp_path / 'g', backend)
    assert gallery.verify().files == 0
    for start in range(0, 50, 10):
        gallery.add(write_rows(tmp_path, start, start + 10))
        assert gallery.verify().files == len(files_of(gallery))
    gallery.delete(rows(12, 14).names)
    return gallery


def test_what_the_program_has_written_is_as_written(tmp_path, monkeypatch):
    gallery = changed_gallery(tmp_path, monkeypatch)
    read = []
    verified = gallery.verify(read.append)
    assert verified.files == len(files_of(gallery)) and not verified.without
    assert verified.bytes == sum(read) == sum(path.stat().st_size for path in files_of(gallery))


def test_any_changed_byte_is_found_and_all_such_files_are_named(tmp_path, monkeypatch):
    gallery = changed_gallery(tmp_path, monkeypatch)
    rng = np.random.default_rng(0)
    for path in files_of(gallery):
        whole = path.read_bytes()
        for place in (0, len(whole) - 1, *rng.integers(len(whole), size=20)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << rng.integers(8)]) + whole[place + 1 :])
            with pytest.raises(UserError, match=f'is damaged: {path} is not as written'):
                gallery.verify()
        path.write_bytes(whole + b'\0')
        with pytest.raises(UserError, match=f'{path} is not as written'):
            gallery.verify()
        path.write_bytes(whole)
        gallery.verify()
    first, *_, last = files_of(gallery)
    for path in (first, last):
        path.write_bytes(b'')
    with pytest.raises(UserError, match='are not as written') as told:
        gallery.verify()
    assert str(first) in str(told.value) and str(last) in str(told.value)
    last.unlink()
    with pytest.raises(UserError, match=r'is damaged.*is not there'):
        gallery.verify()


def test_a_changed_name_that_a_search_would_believe_is_found(tmp_path):
    gallery = make(tmp_path / 'g')
    gallery.add(write_rows(tmp_path, 0, 5))
    path = next(gallery.folder.glob('segments/*/tracklets.arrow'))
    name = rows(0, 5).names[3].encode()
    other = name[:-1] + bytes([name[-1] ^ 1])
    path.write_bytes(path.read_bytes().replace(name, other))
    assert any(hit['tracklet'] == other.decode() for hit in gallery.search(rows(0, 1))[0].hits)
    with pytest.raises(UserError, match='not as written'):
        gallery.verify()


@pytest.mark.parametrize('change', ['delete', 'merge'])
def test_a_change_does_not_copy_what_is_damaged(change, tmp_path, monkeypatch):
    """The copy would have a digest of the damage."""
    monkeypatch.setattr(local_store, '_MAX_SMALL', 2 if change == 'merge' else 32)
    gallery = make(tmp_path / 'g')
    for start in (0, 5):
        gallery.add(write_rows(tmp_path, start, start + 5))
    path = sorted(gallery.folder.glob('segments/*/vectors.f32'))[0]
    whole = path.read_bytes()
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    before = gallery.state
    with pytest.raises(UserError, match=f'{path} is not as written'):
        gallery.delete(['t1']) if change == 'delete' else gallery.add(write_rows(tmp_path, 10, 15))
    assert gallery.state == before and len(files_of(gallery)) == 4
    path.write_bytes(whole)
    assert gallery.delete(['t1']) == 1 if change == 'delete' else gallery.add(write_rows(tmp_path, 10, 15)).added == 5
    assert gallery.verify().files == len(files_of(gallery))


def test_faiss_index(tmp_path, monkeypatch):
    pytest.importorskip('faiss', reason='needs requirements-search.txt')
    from pvlad_jax.gallery import faiss_index

    monkeypatch.setattr(faiss_index, 'MIN_ROWS', 30)
    gallery = make(tmp_path / 'g', 'faiss', kind='ivfpq')
    gallery.add(write_rows(tmp_path, 0, 300))
    (index,) = gallery.folder.glob('index/*')
    assert gallery.verify().files == 3
    whole = index.read_bytes()
    index.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    for use in (gallery.verify, lambda: gallery.add(write_rows(tmp_path, 300, 310)), lambda: gallery.delete(['t1'])):
        with pytest.raises(UserError, match=f'{index} is not as written'):
            use()
    index.write_bytes(whole)
    gallery.delete(['t1'])
    assert gallery.verify().files == 3


def test_a_gallery_of_an_earlier_version_is_read_and_said_to_be_unknown(tmp_path, capsys):
    gallery = make(tmp_path / 'g')
    gallery.add(write_rows(tmp_path, 0, 5))
    state = json.loads((gallery.folder / 'gallery.json').read_text())
    for segment in state['segments']:
        del segment['sha256']
    (gallery.folder / 'gallery.json').write_text(json.dumps(state))
    gallery.add(write_rows(tmp_path, 5, 8))
    verified = gallery.verify()
    assert verified.files == 2 and len(verified.without) == 2
    assert main(['gallery', 'verify', f'--gallery={gallery.folder}']) == 0
    said = capsys.readouterr()
    assert '2 files' in said.out and '2 more' in said.err
    verified.without[0].write_bytes(b'x')  # what cannot be read is still found
    with pytest.raises(UserError, match='is damaged'):
        gallery.verify()


def test_the_command(tmp_path, capsys):
    gallery = make(tmp_path / 'g')
    gallery.add(write_rows(tmp_path, 0, 5))
    command = ['gallery', 'verify', f'--gallery={gallery.folder}']
    assert main(command) == 0
    said = capsys.readouterr()
    assert '2 files' in said.out and not said.err
    files_of(gallery)[0].write_bytes(b'')
    assert main(command) == 2
    said = capsys.readouterr()
    assert 'not as written' in said.err and not said.out
